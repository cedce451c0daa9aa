"""A turn is kept so that it can be sent again as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from app.domain.conversation import Conversation, Earlier, Replied
from app.domain.estimate import estimate
from app.domain.turns import add_turn
from tests.domain.validation_cases import CARD, TALK, bytes_input, request, stored

IMAGE = "img_" + "1" * 64
SIGNATURE = "Abc+/=="


def said(parts: list[dict[str, Any]]) -> str:
    """An answer of the upstream with these parts."""
    return json.dumps({"candidates": [{"content": {"role": "model", "parts": parts}}]})


def names() -> Any:
    return (f"place{number}" for number in range(1000))


def turn(asked: Any, verbatim: str, lengths: dict[str, int] | None = None) -> Conversation | None:
    return add_turn(asked, Replied("gen_1", "vertex", verbatim, lengths or {IMAGE: 100}), CARD, names())


def drawn(words: str) -> str:
    """An answer with words and a picture."""
    blob = {"mimeType": "image/png", "data": IMAGE}
    return said([{"text": words}, {"inlineData": blob, "thoughtSignature": SIGNATURE}])


DRAWN = drawn("Häre")


def test_a_turn_names_its_files_and_leaves_all_else_as_it_was() -> None:
    asked = request(prompt="A fox", images=(bytes_input(digest="2" * 64),), documents=(stored("document"),))
    found = turn(asked, DRAWN)
    assert found is not None
    user, model = json.loads(f"[{found.contents}]")
    assert [part.get("text", "file") for part in user["parts"]] == ["file", "file", "A fox"]
    assert user["parts"][1] == {"fileData": {"mimeType": "image/png", "fileUri": "gs://inputs/a.png"}}
    assert model["parts"][1]["thoughtSignature"] == SIGNATURE
    assert dict(found.places) == {
        user["parts"][0]["inlineData"]["data"]: "img_" + "2" * 64,
        model["parts"][1]["inlineData"]["data"]: IMAGE,
    }
    assert (found.images, found.pictures, found.length) == (1, 2, 108)
    assert found.text_bytes == len("A fox") + len("Häre".encode())
    assert found.document_tokens > 0


def test_words_that_look_like_a_file_stay_words() -> None:
    found = turn(request(prompt=IMAGE), drawn(IMAGE))
    assert found is not None
    user, model = json.loads(f"[{found.contents}]")
    assert user["parts"][0]["text"] == model["parts"][0]["text"] == IMAGE


@pytest.mark.parametrize(
    "verbatim", ["", "{", "[]", "{}", '{"candidates":[]}', '{"candidates":[{"content":{}}]}', said([])]
)
def test_an_answer_without_content_cannot_be_said_again(verbatim: str) -> None:
    assert turn(request(), verbatim) is None


def test_a_document_of_unknown_length_counts_as_google_has_read_it() -> None:
    asked = request(documents=(stored("document"),))
    replied = Replied("gen_1", "vertex", DRAWN, {IMAGE: 100}, text_input=30_000)
    found = add_turn(asked, replied, CARD, names())
    assert found is not None
    assert found.addresses == ("gs://inputs/a.png",)
    assert 29_900 < found.document_tokens < 30_000, "the words are counted apart"
    words = add_turn(request(), replied, CARD, names())
    assert words is not None
    assert words.document_tokens == 0
    further = Replied("gen_2", "vertex", DRAWN, {IMAGE: 100}, text_input=30_100)
    second = add_turn(request(prompt="Bluer", earlier=Earlier(found, {})), further, CARD, names())
    assert second is not None
    assert second.addresses == found.addresses
    assert found.document_tokens <= second.document_tokens < 30_100


def test_turns_add_up() -> None:
    first = turn(request(images=(bytes_input(digest="2" * 64),)), DRAWN)
    assert first is not None
    second = turn(request(prompt="Bluer", earlier=Earlier(first, {})), DRAWN)
    assert second is not None
    assert len(json.loads(f"[{second.contents}]")) == 4
    assert second.contents.startswith(first.contents)
    assert (second.turns, second.images, second.pictures) == (2, 1, 3)
    assert second.text_bytes == first.text_bytes + len("Bluer") + len("Häre".encode())


def test_all_turns_are_priced() -> None:
    alone, after = (estimate(each, CARD) for each in (request(), request(earlier=Earlier(TALK, {}))))
    assert after.image_input - alone.image_input == 16 * CARD.images.tokens_each
    assert after.text_input - alone.text_input == 1000
    assert after.document_input - alone.document_input == 258
    words = replace(TALK, document_tokens=0)
    strict = estimate(request(earlier=Earlier(words, {})), CARD, strict=True)
    assert strict.text_input >= 3000, "every byte may be a token"
    signed = replace(words, contents=f'{{"parts":[{{"thoughtSignature":"{"A" * 5000}"}}]}}')
    assert estimate(request(earlier=Earlier(signed, {})), CARD, strict=True).text_input > 5000


def test_a_strict_hold_believes_no_document_of_an_earlier_turn() -> None:
    asked = request(earlier=Earlier(TALK, {}))
    assert estimate(asked, CARD, strict=True).input_tokens == CARD.tokens.input_max
