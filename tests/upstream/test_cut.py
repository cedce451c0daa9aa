"""Answers that reach the bound which the gateway itself has sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from app.domain.errors import AnswerCut, MaxTokens
from tests.upstream.conftest import PNG, answer, asked, lasting, part
from tests.upstream.server import answering

if TYPE_CHECKING:
    from app.upstream.google.client import GoogleImageModel
    from tests.upstream.server import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUNDED = {"max_output_tokens": 1720, "bounded": True}


@pytest.mark.parametrize("parts", [(), (part(PNG[: len(PNG) // 2]),)], ids=["no picture", "half a picture"])
async def test_an_answer_without_a_whole_picture_is_cut_and_paid(
    server: Upstream, model: GoogleImageModel, parts: tuple[Any, ...]
) -> None:
    server.reply = answering(answer(*parts, finishReason="MAX_TOKENS"))
    with pytest.raises(AnswerCut) as raised:
        await model.generate(asked(**BOUNDED), None, lasting(20))
    error = raised.value
    assert (error.billed, error.reason, error.retryable) == ("yes", "MAX_TOKENS", True)
    assert error.usage is not None
    assert server.received[-1].json["generationConfig"]["maxOutputTokens"] == 1720


async def test_whole_pictures_are_delivered_without_the_one_that_was_cut_off(
    server: Upstream, model: GoogleImageModel
) -> None:
    parts = part(PNG), part(PNG[: len(PNG) // 2])
    server.reply = answering(answer(*parts, finishReason="MAX_TOKENS"))
    came = await model.generate(asked(**BOUNDED), None, lasting(20))
    assert [picture.data for picture in came.pictures] == [PNG]


async def test_what_a_callers_own_bound_cuts_off_is_no_cut_of_ours(
    server: Upstream, model: GoogleImageModel
) -> None:
    server.reply = answering(answer(finishReason="MAX_TOKENS"))
    with pytest.raises(MaxTokens):
        await model.generate(asked(max_output_tokens=1720), None, lasting(20))
