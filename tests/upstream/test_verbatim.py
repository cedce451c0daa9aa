"""A body that is sent in place of the SDK's, and the answer as the upstream wrote it, in both dialects."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from app.domain.errors import (
    ContentBlocked,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamRejected,
)
from app.domain.passthrough import Passthrough
from app.emulator.child import EmulatorChild
from app.media.lifting import generate_placeholders
from app.media.splicing import splice
from tests.upstream.conftest import asked, calling, lasting
from tests.upstream.server import png

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.domain.request import GenerationRequest
    from app.upstream.google.client import GoogleImageModel

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulated() -> AsyncIterator[dict[str, GoogleImageModel]]:
    """The model in both dialects, on one emulator."""
    async with (
        EmulatorChild() as child,
        calling(child.base_url) as express,
        calling(child.base_url, "gemini") as developer,
    ):
        yield {"emulator": express, "gemini": developer}


@pytest.fixture(params=["emulator", "gemini"])
def model(request: pytest.FixtureRequest, emulated: dict[str, GoogleImageModel]) -> GoogleImageModel:
    return emulated[request.param]


def sending(*contents: dict[str, Any], blobs: dict[str, bytes] | None = None) -> GenerationRequest:
    """A request whose own words say another thing than its body, so that the two can be told apart."""
    config = {
        "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"},
        "imageConfig": {"imageSize": "512", "aspectRatio": "16:9"},
    }
    skeleton = json.dumps({"contents": contents, "generationConfig": config}).encode()
    return replace(asked(prompt="never sent"), verbatim=Passthrough(skeleton, blobs or {}, "other"))


def turn(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def inline(placeholder: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": placeholder}}


async def test_the_body_is_sent_and_the_answer_kept_with_ids_for_bytes(model: GoogleImageModel) -> None:
    name = next(generate_placeholders())
    picture = png()
    came = await model.generate(
        sending(turn({"text": "Edit"}, inline(name)), blobs={name: picture}), None, lasting(30)
    )
    (final,), (thought,) = came.pictures, came.interim
    assert (final.width, final.height) == (688, 384)
    assert final.id != thought.id
    kept = json.loads(came.verbatim)
    parts = kept["candidates"][0]["content"]["parts"]
    assert [part["inlineData"]["data"] for part in parts if "inlineData" in part] == [thought.id, final.id]
    assert parts[-1]["thoughtSignature"] == came.signatures[0]
    assert kept["usageMetadata"]["thoughtsTokenCount"] == came.usage.thinking
    whole = json.loads(b"".join(splice(came.verbatim.encode(), {final.id: final.data, thought.id: b"abc"})))
    assert whole["candidates"][0]["content"]["parts"][1]["inlineData"]["data"] == "YWJj"


async def test_a_signature_goes_back_as_it_came(model: GoogleImageModel) -> None:
    words = turn({"text": "Draw"})
    first = await model.generate(sending(words), None, lasting(30))
    name = next(generate_placeholders())
    signed = {**inline(name), "thoughtSignature": first.signatures[0]}
    blobs = {name: bytes(first.pictures[0].data)}
    again = sending(words, turn(signed, role="model"), turn({"text": "In red"}), blobs=blobs)
    second = await model.generate(again, None, lasting(30))
    assert second.pictures[0].id != first.pictures[0].id


async def test_a_body_that_is_not_taken_is_the_callers_to_mend(model: GoogleImageModel) -> None:
    name = next(generate_placeholders())
    request = sending(
        turn({"text": "Draw"}), turn(inline(name), role="model"), turn({"text": "Red"}), blobs={name: png()}
    )
    with pytest.raises(UpstreamInvalidRequest) as raised:
        await model.generate(request, None, lasting(30))
    assert (raised.value.billed, raised.value.upstream_status) == ("no", 400)
    assert "missing a thought_signature" in json.loads(raised.value.verbatim)["error"]["message"]
    assert "thought_signature in" not in raised.value.detail, "Google's sentences are for the caller alone"


async def test_a_key_of_ours_that_is_refused_is_not_the_callers_to_mend(model: GoogleImageModel) -> None:
    with pytest.raises(UpstreamRejected) as raised:
        await model.generate(sending(turn({"text": "[[emulate:bad-key]]"})), None, lasting(30))
    assert raised.value.verbatim == ""


@pytest.mark.parametrize(
    ("rehearsal", "error"),
    [("image-safety", ContentBlocked), ("blocked-prompt", ContentBlocked), ("no-image", UpstreamNoImage)],
)
async def test_a_refusal_carries_the_answer_itself(
    model: GoogleImageModel, rehearsal: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        await model.generate(asked(prompt=f"a cat [[emulate:{rehearsal}]]"), None, lasting(30))
    answer = json.loads(getattr(raised.value, "verbatim", ""))
    assert answer["usageMetadata"]["promptTokenCount"] > 0
    assert "promptFeedback" in answer or "finishReason" in answer["candidates"][0]
