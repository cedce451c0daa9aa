"""Damaged pictures are paid for at the price of the model that drew them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.domain.errors import UpstreamError
from tests.upstream.conftest import MODEL, USAGE, answer, asked, lasting, part
from tests.upstream.server import answering

if TYPE_CHECKING:
    from app.upstream.google.client import GoogleImageModel
    from tests.upstream.server import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("version", "usd"),
    [
        (MODEL, 47 * 0.5 + 258 * 0.5 + 1120 * 60 + 482 * 3),
        ("gemini-3-pro-image", 305 * 2 + 1120 * 120 + 482 * 12),
    ],
)
@pytest.mark.parametrize("details", [True, False])
async def test_a_damaged_picture_has_the_price_of_the_model_that_drew_it(
    server: Upstream, model: GoogleImageModel, version: str, usd: float, details: bool
) -> None:
    body = answer(part(b"this is no image")) | {"modelVersion": version}
    if not details:
        body["usageMetadata"] = {
            name: value for name, value in USAGE.items() if "sDetails" not in name or "prompt" in name
        }
    server.reply = answering(body)
    with pytest.raises(UpstreamError) as raised:
        await model.generate(asked(), None, lasting(20))
    usage = raised.value.usage
    assert usage is not None
    assert usage.usd == round(usd * 1000)
