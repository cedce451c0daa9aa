"""Words with tricks in them: addresses, names, and every string of a request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.rules import is_unicode
from tests.domain.test_addresses import REFUSED

if TYPE_CHECKING:
    from tests.hostile.conftest import Watched

TRICKS = {
    "a zero": "\x00",
    "a zero inside": "1K\x00",
    "line breaks": "1:1\r\nSet-Cookie: a=b",
    "right to left": "\u202e1K",
    "an invisible letter": "1\u200bK",
    "a combining tower": "K" + "\u0301" * 5000,
    "another script": "\u0456mage/png",
    "full width": "\uff11\uff1a\uff11",
    "a private letter": "\U0010ffff",
    "no character": "\ufffe",
    "a byte order mark": "\ufeff1K",
    "a format of printf": "%s%n%x{0}{__class__}",
    "a template": "${jndi:ldap://x}{{7*7}}",
    "a path": "../../../../etc/passwd",
    "a query": "' OR 1=1; --",
    "a script of the store": "return redis.call('FLUSHALL')",
    "a megabyte of nothing": " " * 300_000,
    "an emoji of many": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 100,
}
FIELDS: dict[str, Any] = {
    "model": lambda text: {"model": text},
    "prompt": lambda text: {"prompt": text},
    "aspect_ratio": lambda text: {"aspect_ratio": text},
    "image_size": lambda text: {"image_size": text},
    "response_modalities": lambda text: {"response_modalities": [text]},
    "output_mime_type": lambda text: {"output_mime_type": text},
    "delivery": lambda text: {"delivery": text},
    "thinking_level": lambda text: {"thinking_level": text},
    "system_instruction": lambda text: {"system_instruction": text},
    "safety_settings": lambda text: {"safety_settings": [{"category": text, "threshold": text}]},
    "cache": lambda text: {"cache": text},
    "labels": lambda text: {"labels": {text: text}},
    "images": lambda text: {"images": [{"uri": text, "mime_type": text}]},
    "documents": lambda text: {"documents": [{"image_id": text}]},
}
MAY_SAY_ANYTHING = {"prompt", "system_instruction", "labels"}


@pytest.mark.parametrize("field", FIELDS)
def test_no_word_is_a_trick(watched: Watched, field: str) -> None:
    for name, text in TRICKS.items():
        quote = watched.quoted(json.dumps({"prompt": "Hostile", **FIELDS[field](text)}).encode())
        places = {item["pointer"].split("/")[1] for item in quote["violations"]}
        assert places <= {field}, (name, quote["violations"])
        assert places or field in MAY_SAY_ANYTHING, name
        assert all(len(item["detail"]) < 300 for item in quote["violations"])
        assert all(len(item["pointer"]) < 200 for item in quote["violations"])


@pytest.mark.parametrize("field", ["images", "documents", "videos"])
def test_no_address_leads_out_of_the_allowed_buckets(watched: Watched, field: str) -> None:
    for address in filter(is_unicode, REFUSED):  # what is not, is no JSON
        reference = {"uri": address, "mime_type": "image/png"}
        quote = watched.quoted(json.dumps({"prompt": "Hostile", field: [reference]}).encode())
        codes = {item["code"] for item in quote["violations"]}
        assert codes & {"invalid_address", "bucket_not_allowed"}, address


EARLIER = (
    "", "img_", "img_" + "0" * 63, "img_" + "G" * 64, "img_*", "../img_" + "0" * 64, "img_" + "0" * 64 + "\n",
    "{tenant0}:img", "img_" + "\uff10" * 64, "blob:img_" + "0" * 64, "\x00" * 68,
)  # fmt: skip


@pytest.mark.parametrize("name", EARLIER)
def test_no_name_is_a_way_to_what_is_not_an_image_of_this_tenant(watched: Watched, name: str) -> None:
    found = watched.faults(json.dumps({"prompt": "Hostile", "images": [{"image_id": name}]}).encode())
    assert found == {("unknown_image", "/images/0/image_id")}
