"""GoogleImageModel against the emulator, the default back end: its pictures and every rehearsal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from app.domain.errors import (
    ContentBlocked,
    DeadlineExceeded,
    GatewayError,
    MaxTokens,
    ModelRefused,
    UpstreamError,
    UpstreamInvalidRequest,
    UpstreamNoImage,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamUnavailable,
)
from app.emulator.child import EmulatorChild
from tests.upstream.conftest import asked, calling, large_png, lasting
from tests.upstream.server import png

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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


async def rehearsed(model: GoogleImageModel, name: str) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        await model.generate(asked(prompt=f"a cat [[emulate:{name}]]"), None, lasting(20))
    return raised.value


async def test_a_picture_has_the_size_and_the_tokens_of_the_card(model: GoogleImageModel) -> None:
    came = await model.generate(asked(aspect_ratio="16:9", image_size="2K"), 1, lasting(30))
    [picture] = came.pictures
    assert (picture.width, picture.height) == (2752, 1536)
    assert (came.usage.image_output, came.usage.estimated) == (1680, False)
    assert came.finish_reason == "STOP"
    assert came.signatures[0]


@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg"])
async def test_the_format_can_be_chosen_on_the_default_back_end(
    emulated: dict[str, GoogleImageModel], mime_type: str
) -> None:
    came = await emulated["emulator"].generate(
        asked(image_size="512", output_mime_type=mime_type), 1, lasting(30)
    )
    assert came.pictures[0].mime_type == mime_type


async def test_jpeg_can_be_requested_where_the_back_end_has_no_choice(
    emulated: dict[str, GoogleImageModel],
) -> None:
    request = asked(output_mime_type="image/jpeg")
    for kind, model in emulated.items():
        came = await model.generate(request, None, lasting(30))
        assert came.pictures[0].mime_type == "image/jpeg", kind


async def test_the_same_seed_gives_the_same_picture(model: GoogleImageModel) -> None:
    first, again, other = [
        await model.generate(asked(image_size="512"), seed, lasting(30)) for seed in (1, 1, 2)
    ]
    assert first.pictures[0].id == again.pictures[0].id != other.pictures[0].id


async def test_references_arrive_and_are_counted(model: GoogleImageModel) -> None:
    came = await model.generate(asked(png(64, 64), png(32, 32), image_size="512"), 1, lasting(30))
    assert came.usage.image_input > 0


async def test_fourteen_large_references_arrive(model: GoogleImageModel) -> None:
    came = await model.generate(asked(*[large_png(1_000_000)] * 14, image_size="512"), 1, lasting(30))
    assert came.pictures


@pytest.mark.parametrize("name", ["pretty", "escaped-padding", "trickled", "unknown-finish-reason",
                                  "wrong-size", "model-deprecated", "thought-only-image"])  # fmt: skip
async def test_an_answer_of_unusual_shape_is_a_picture_all_the_same(
    model: GoogleImageModel, name: str
) -> None:
    came = await model.generate(asked(prompt=f"a cat [[emulate:{name}]]", image_size="512"), 1, lasting(30))
    [picture] = came.pictures
    assert picture.length > 1000


async def test_two_pictures_in_one_candidate_are_both_delivered(model: GoogleImageModel) -> None:
    came = await model.generate(
        asked(prompt="[[emulate:two-images]] a cat", image_size="512"), 1, lasting(30)
    )
    assert len(came.pictures) == len(came.signatures) == 2


async def test_a_missing_report_is_filled_from_the_table(model: GoogleImageModel) -> None:
    came = await model.generate(asked(prompt="[[emulate:no-usage]] a cat", image_size="512"), 1, lasting(30))
    assert (came.usage.image_output, came.usage.estimated) == (747, True)


@pytest.mark.parametrize(
    ("name", "kind", "reason", "support_code"),
    [
        ("blocked-prompt", ContentBlocked, "PROHIBITED_CONTENT", None),
        ("blocked-safety", ContentBlocked, "SAFETY", None),
        ("image-safety", ContentBlocked, "IMAGE_SAFETY", "63429089"),
        ("image-prohibited", ContentBlocked, "IMAGE_PROHIBITED_CONTENT", "11030041"),
        ("image-recitation", ContentBlocked, "IMAGE_RECITATION", "29578790"),
        ("safety", ContentBlocked, "SAFETY", None),
        ("text-only", ModelRefused, "STOP", None),
    ],
)
async def test_each_refusal_is_typed_with_its_code_in_both_dialects(
    model: GoogleImageModel, name: str, kind: type[ContentBlocked], reason: str, support_code: str | None
) -> None:
    error = await rehearsed(model, name)
    assert isinstance(error, ContentBlocked)
    assert (type(error), error.reason) == (kind, reason)
    assert support_code in {None, error.support_code}
    assert error.usage is not None


@pytest.mark.parametrize(
    ("name", "kind", "reason", "billed"),
    [
        ("image-other", UpstreamNoImage, "IMAGE_OTHER", "yes"),
        ("no-image", UpstreamNoImage, "NO_IMAGE", "yes"),
        ("other", UpstreamNoImage, "OTHER", "yes"),
        ("max-tokens", MaxTokens, "MAX_TOKENS", "yes"),
        ("unknown-no-image", UpstreamNoImage, "IMAGE_WITHHELD_2027", "yes"),
        ("invalid", UpstreamInvalidRequest, "INVALID_ARGUMENT", "no"),
        ("bad-key", UpstreamRejected, "API_KEY_INVALID", "no"),
        ("precondition", UpstreamRejected, "FAILED_PRECONDITION", "no"),
        ("unauthenticated", UpstreamRejected, "UNAUTHENTICATED", "no"),
        ("permission-denied", UpstreamRejected, "SERVICE_DISABLED", "no"),
        ("not-found", UpstreamRejected, "NOT_FOUND", "no"),
        ("too-large", UpstreamInvalidRequest, None, "no"),
        ("exhausted", UpstreamQuota, "RESOURCE_EXHAUSTED", "no"),
        ("internal", UpstreamError, "INTERNAL", "no"),
        ("bad-gateway", UpstreamError, None, "maybe"),
        ("unavailable", UpstreamUnavailable, "UNAVAILABLE", "no"),
        ("deadline", DeadlineExceeded, "DEADLINE_EXCEEDED", "maybe"),
        ("overloaded-proxy", UpstreamUnavailable, None, "no"),
        ("reset", UpstreamError, None, "maybe"),
        ("truncated", UpstreamError, None, "maybe"),
        ("broken-json", UpstreamError, None, "maybe"),
    ],
)
async def test_each_failure_is_typed_and_says_whether_it_may_have_been_billed(
    model: GoogleImageModel, name: str, kind: type[UpstreamError], reason: str | None, billed: str
) -> None:
    error = await rehearsed(model, name)
    assert isinstance(error, UpstreamError)
    assert (type(error), error.reason, error.billed) == (kind, reason, billed)


@pytest.mark.parametrize(("name", "least", "most"), [("quota", 35, 35), ("quota-day", 42, 86_400)])
async def test_quotas_say_when_to_come_back(
    model: GoogleImageModel, name: str, least: int, most: int
) -> None:
    error: Any = await rehearsed(model, name)
    assert isinstance(error, UpstreamQuota)
    assert least <= (error.retry_after_s or 0) <= most
    assert "GenerateRequestsPer" in error.detail
