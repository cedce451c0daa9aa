"""Estimates the tokens and the price of a request: the card's table, and allowances for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import ceil
from typing import TYPE_CHECKING

from app.domain.budget import NANO_PER_USD, Amounts
from app.domain.generation import Spent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.domain.allowance import TenantAllowances
    from app.domain.card import Card
    from app.domain.generation import Usage
    from app.domain.request import GenerationRequest, Input

_BYTES_PER_TEXT_TOKEN = 3
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class WouldFit:
    """What would be admitted now in place of a refused request.

    Attributes:
        image_size: The largest size at the same number of pictures, or None where none fits.
        n: The most pictures of the same size; 0 where not even one fits.
    """

    image_size: str | None
    n: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The tokens that a request is expected to use, all its pictures together.

    Attributes:
        text_input: Prompt, system instruction, and other words, such as declarations of functions; for strict
            tenants also whatever a search may find.
        image_input: Reference images, and pictures of earlier turns, at the card's tokens each.
        document_input: Documents: texts by their bytes, PDFs by their pages.
        video_input: Videos by their seconds; where nobody knows them, all that the context has left.
        image_output: Pictures at the table's price.
        text_output: Allowance for words and thoughts beside the pictures.
        images: Pictures asked for.
        usd: Billionths of a US dollar.
        search_queries: Queries of searches.
    """

    text_input: int
    image_input: int
    document_input: int
    video_input: int
    image_output: int
    text_output: int
    images: int
    usd: int
    search_queries: int = 0

    @property
    def input_tokens(self) -> int:
        """All input tokens."""
        return self.text_input + self.image_input + self.document_input + self.video_input

    @property
    def output_tokens(self) -> int:
        """Everything that comes out: pictures, words and thoughts."""
        return self.image_output + self.text_output

    @property
    def total_tokens(self) -> int:
        """All tokens that Google counts."""
        return self.input_tokens + self.output_tokens

    @property
    def amounts(self) -> Amounts:
        """The amounts that the ledger reserves."""
        return Amounts(self.image_output, self.total_tokens, self.images, self.usd, self.output_tokens)


def estimate_text_tokens(text: str, *, strict: bool = False) -> int:
    """Tokens that a text may have: a third of its UTF-8 bytes, rounded up.

    English has about four bytes a token and other scripts less, so this is on the safe side of what
    tokenizers give; the settlement corrects it. Strictly, every byte may be a token of its own.
    """
    return estimate_bytes_tokens(len(text.encode()), strict=strict)


def estimate_bytes_tokens(length: int, *, strict: bool = False) -> int:
    """Tokens that a text of so many UTF-8 bytes may have; see ``estimate_text_tokens``."""
    return -(-length // (1 if strict else _BYTES_PER_TEXT_TOKEN))


def count_other_tokens(request: GenerationRequest, *, strict: bool = False) -> int:
    """Tokens of texts beside prompt and instruction, such as earlier turns, which the model reads again."""
    if request.earlier is None:
        earlier = 0
    elif strict:
        talk = request.earlier.conversation
        earlier = max(talk.text_bytes, len(talk.contents.encode(errors="surrogatepass")))
    else:
        earlier = request.earlier.conversation.text_bytes
    return estimate_bytes_tokens(earlier + request.other_text_bytes, strict=strict)


def _estimate_words(request: GenerationRequest, *, strict: bool) -> int:
    """Tokens to reserve for everything of one call that is no file.

    Strictly, no member of a body in Google's words is trusted to be invisible to the model, so the whole body
    counts, thought signatures included.
    """
    texts = (request.prompt, request.system_instruction or "")
    words = sum(estimate_text_tokens(text, strict=strict) for text in texts)
    words += count_other_tokens(request, strict=strict)
    return max(words, request.body_bytes) if strict else words


def count_earlier_document_tokens(request: GenerationRequest) -> int:
    """Tokens of the documents and videos in the earlier turns of a conversation."""
    return request.earlier.conversation.document_tokens if request.earlier is not None else 0


def count_known_document_tokens(item: Input, card: Card) -> int:
    """The least tokens of a document; a file whose pages were not counted has at least one page."""
    if item.data is not None and item.mime_type == "text/plain":
        return -(-item.length // _BYTES_PER_TEXT_TOKEN)
    return (item.pages or 1) * card.documents.count_least_page_tokens(item.resolution)


def estimate_document_tokens(item: Input, card: Card, *, strict: bool = False) -> int:
    """Tokens to reserve for a document: by its pages, else the most that the card allows for a file.

    Strictly, every byte of a text may be a token of its own, and the number of pages that a PDF states is not
    believed.
    """
    if item.data is not None and item.mime_type == "text/plain":
        return item.length if strict else count_known_document_tokens(item, card)
    pages = (item.pages or 1) * card.documents.count_page_tokens(item.resolution)
    most = card.documents.tokens_per_file_max
    if strict or item.data is None:
        return max(pages, most)
    if item.pages is not None:
        return pages
    return max(pages, min(most, -(-item.length // _BYTES_PER_TEXT_TOKEN)))


def count_known_video_tokens(item: Input, card: Card) -> int:
    """The least tokens of a video; one of unknown length has at least a second."""
    return ceil((item.seconds or 1) * card.video.count_second_tokens(item.resolution) * max(1, item.fps))


def estimate_video_tokens(request: GenerationRequest, card: Card, beside: int, *, strict: bool) -> int:
    """Tokens to reserve for the videos of one call.

    Args:
        request: What is asked.
        card: The model's.
        beside: Tokens of everything else that goes in.
        strict: Whether to reserve for the whole context, because a header may say anything.
    """
    if not request.videos:
        return 0
    tokens = sum(count_known_video_tokens(item, card) for item in request.videos)
    if strict or any(item.seconds is None for item in request.videos):
        return max(tokens, card.tokens.input_max - beside)
    return tokens


@cache
def _convert_price(usd_per_million: float) -> Fraction | int:
    """The price as it is written on the card: the shortest decimal of the float, not its binary value."""
    price = Fraction(repr(usd_per_million)) * NANO_PER_USD / _MILLION
    return price.numerator if price.denominator == 1 else price  # whole numbers add up ten times as fast


def sum_prices(*parts: tuple[int, float]) -> int:
    """The sum of tokens times dollars per million in billionths, exact, rounded up once at the end."""
    return ceil(sum(tokens * _convert_price(price) for tokens, price in parts))


def get_query_price(card: Card) -> float:
    """Dollars for a million queries of searches."""
    return card.searches.usd_per_thousand_queries * 1000 if card.searches is not None else 0.0


def count_search_queries(request: GenerationRequest, card: Card) -> int:
    """Queries to reserve for all calls of a request."""
    if card.searches is None or not request.grounding.is_wanted:
        return 0
    return request.n * card.searches.queries_per_call


def price_nano_usd(card: Card, usage: Usage) -> int:
    """List price of reported tokens in billionths of a dollar, rounded up, by the tier that was reported.

    See docs/model.md#service-tiers: a priority call may be served, and billed, as a standard one.
    """
    if usage.usd is not None:
        return usage.usd
    prices = card.get_prices(usage.tier)
    fresh_input = max(0, usage.input_tokens - usage.cached_input)
    return sum_prices(
        (usage.search_queries, get_query_price(card)),
        (fresh_input, prices.input),
        (usage.cached_input, prices.cached_input),
        (usage.image_output, prices.image_output),
        (usage.text_output + usage.thinking, prices.text_output),
    )


def price_answer(usage: Usage, cards: Iterable[Card], requested_tier: str | None) -> Usage:
    """The usage of one call with its list price: the highest one that it may have.

    Args:
        usage: As it was reported, or estimated.
        cards: That of the model that answered; all cards where nobody knows which one it was.
        requested_tier: Which may have been applied if no tier was reported, or the standard one instead.
    """
    tiers = {usage.tier} if usage.tier else {"", requested_tier or ""}
    plain = replace(usage, usd=None)
    usd = max(price_nano_usd(card, replace(plain, tier=tier)) for card in cards for tier in tiers)
    return replace(usage, usd=usd)


def price_usage(card: Card, usage: Usage) -> Spent:
    """Reported tokens with their list price."""
    return Spent(usage, price_nano_usd(card, usage))


def compute_settled_amounts(card: Card, usage: Usage, images: int) -> Amounts:
    """The amounts to book for a finished generation, in every unit."""
    usd = price_nano_usd(card, usage)
    return Amounts(usage.image_output, usage.total_tokens, images, usd, usage.output_tokens)


def count_picture_tokens(request: GenerationRequest, card: Card, *, strict: bool = False) -> int:
    """Tokens of the images that the model reads: the caller's references, and pictures of earlier turns."""
    replayed = request.earlier.conversation.pictures if request.earlier is not None else 0
    images = sum(card.images.count_tokens(item.resolution, cautious=strict) for item in request.images)
    return images + replayed * card.images.tokens_each


def compute_output_tokens_per_call(
    request: GenerationRequest, card: Card, allowances: TenantAllowances | None
) -> int:
    """Most output tokens of one call: picture, words and thoughts, within the caller's own bound."""
    size, level = resolve_size_and_level(request, card)
    picture = card.image_tokens(size)
    words = card.text_allowance.per_image[level] if allowances is None else allowances.get(card, size, level)
    words = max(words, request.thinking_budget or 0)
    most = request.max_output_tokens or card.tokens.output_max
    return picture + max(0, min(words, most - picture))


def resolve_size_and_level(request: GenerationRequest, card: Card) -> tuple[str, str]:
    """The image size and thinking level in force, the card's defaults filled in."""
    size = request.image_size or card.image_size_default
    return size, request.thinking_level or card.parameters.thinking_level_default


def estimate(
    request: GenerationRequest,
    card: Card,
    allowances: TenantAllowances | None = None,
    *,
    strict: bool = False,
) -> Estimate:
    """Tokens and price that a valid, normalised request may use.

    ``n`` pictures are ``n`` calls of the model, each of which reads the inputs again.

    Args:
        request: Normalised.
        card: The model's.
        allowances: Learned allowances for words and thoughts; None for the card's alone.
        strict: Whether everything counts as the most tokens that it can have, not the likely ones; no call
            reads more than the card's context.
    """
    prices = card.get_prices(request.service_tier)
    words = _estimate_words(request, strict=strict)
    pictures = count_picture_tokens(request, card, strict=strict)
    documents = sum(estimate_document_tokens(item, card, strict=strict) for item in request.documents)
    earlier_documents = count_earlier_document_tokens(request)
    documents += earlier_documents
    if strict:
        if earlier_documents:
            documents = card.tokens.input_max
        words, documents = _limit_to_context(words, pictures, documents, card)
    videos = estimate_video_tokens(request, card, words + pictures + documents, strict=strict)
    if request.grounding.is_wanted:
        # What a search finds is billed as input, and its size is not known beforehand.
        room = max(0, card.tokens.input_max - words - pictures - documents - videos)
        searched = card.searches.tokens_per_call if card.searches is not None else room
        words += room if strict else min(searched, room)
    words += request.extra_tokens
    text_input, image_input = request.n * words, request.n * pictures
    document_input, video_input = request.n * documents, request.n * videos
    image_output = request.n * card.image_tokens(request.image_size or card.image_size_default)
    text_output = request.n * compute_output_tokens_per_call(request, card, allowances) - image_output
    queries = count_search_queries(request, card)
    usd = sum_prices(
        (queries, get_query_price(card)),
        (text_input + image_input + document_input + video_input, prices.input),
        (image_output, prices.image_output),
        (text_output, prices.text_output),
    )
    return Estimate(
        text_input,
        image_input,
        document_input,
        video_input,
        image_output,
        text_output,
        request.n,
        usd,
        queries,
    )


def _limit_to_context(words: int, pictures: int, documents: int, card: Card) -> tuple[int, int]:
    """Words and documents of one call, cut to what the context has left: more is refused by the upstream."""
    documents = min(documents, max(0, card.tokens.input_max - pictures))
    return min(words, max(0, card.tokens.input_max - pictures - documents)), documents


def compute_input_amounts(estimated: Estimate, card: Card) -> Amounts:
    """The amounts of a call that was read and not answered, where no usage was reported."""
    tokens = estimated.input_tokens
    return Amounts(0, tokens, 0, sum_prices((tokens, card.prices_usd_per_million.input)))
