"""Back ends: where calls go, what each needs, and what it can do."""

from __future__ import annotations

from typing import Any

import pytest

from app.upstream.google.backend import BackEnd


@pytest.mark.parametrize(
    ("fields", "url", "version"),
    [
        ({"kind": "gemini", "api_key": "k"}, "https://generativelanguage.googleapis.com", "v1beta"),
        ({"kind": "vertex", "project": "p"}, "https://aiplatform.googleapis.com", "v1beta1"),
        ({"kind": "vertex", "api_key": "k"}, "https://aiplatform.googleapis.com", "v1beta1"),
        (
            {"kind": "vertex", "project": "p", "location": "eu"},
            "https://aiplatform.eu.rep.googleapis.com",
            "v1beta1",
        ),
        (
            {"kind": "vertex", "project": "p", "location": "europe-west1"},
            "https://europe-west1-aiplatform.googleapis.com",
            "v1beta1",
        ),
        ({"kind": "emulator", "base_url": "http://127.0.0.1:1"}, "http://127.0.0.1:1", "v1beta1"),
    ],
)
def test_each_back_end_has_one_address_and_one_version(fields: Any, url: str, version: str) -> None:
    back_end = BackEnd(**fields)
    assert (back_end.url, back_end.version) == (url, version)


@pytest.mark.parametrize("kind", ["emulator", "gemini", "vertex"])
def test_what_no_default_can_stand_for_is_asked_for(kind: Any) -> None:
    with pytest.raises(ValueError, match="needs"):
        BackEnd(kind)


def test_the_developer_api_alone_chooses_the_format_itself() -> None:
    assert "output_mime_type" not in BackEnd("gemini", api_key="k").capabilities
    assert "output_mime_type" in BackEnd("vertex", project="p").capabilities
    assert "output_mime_type" in BackEnd("emulator", base_url="http://127.0.0.1:1").capabilities


def test_its_key_is_not_in_its_repr() -> None:
    assert "hush" not in repr(BackEnd("gemini", api_key="hush"))
