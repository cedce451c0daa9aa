"""``flashgate cards``: the cards, and whether they agree with what the back ends and a list of prices say."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import zlib
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from app.backends import build_back_end
from app.cards import load_catalogue
from app.commands.admin import format_rows
from app.commands.price_files import COLUMNS, UnusableInput, read_prices
from app.domain.budget import NANO_PER_USD
from app.domain.card_check import (
    TEXT,
    Finding,
    compare_count,
    compare_description,
    compare_models,
    compare_prices,
    list_count_questions,
)
from app.domain.card_facts import UNCHECKED, UNCHECKED_WITHOUT_SPENDING
from app.domain.card_probes import compare_probe, compare_version, list_probes
from app.domain.errors import GatewayError
from app.settings.environment import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import AsyncIterator, Iterable

    from app.cards import Catalogue
    from app.domain.card import Card
    from app.domain.card_check import ListPrice
    from app.domain.card_probes import Probe
    from app.settings import Settings
    from app.upstream.google.questions import BackEndQuestions

_PAGE: Final = b"""%PDF-1.4
1 0 obj
<< /Type /Catalog /Pages 2 0 R >>
endobj
2 0 obj
<< /Type /Pages /Kids [3 0 R] /Count 1 >>
endobj
3 0 obj
<< /Type /Page
/Parent 2 0 R /MediaBox [0 0 612 792] >>
endobj
trailer
<< /Size 4 /Root 1 0 R >>
%%EOF
"""
_IMAGE_EDGE: Final = 1024


def add_arguments(parser: ArgumentParser) -> None:
    """Add ``cards list``, ``show`` and ``check``."""
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="list the models: sizes, tokens and the list price of a picture")
    showing = actions.add_parser("show", help="print a card as JSON")
    showing.add_argument("model", help="id or alias")
    checking = actions.add_parser(
        "check",
        help="compare the cards with the back ends; exit 1 on a difference, 2 if something got no answer",
    )
    checking.add_argument("models", nargs="*", help="models to check, by id or alias; default: all")
    checking.add_argument(
        "--may-spend", type=Decimal, metavar="USD",
        help="also try what only a call shows, such as each size drawn once; the most that it may cost",
    )  # fmt: skip
    checking.add_argument("--prices", type=Path, help=f"list prices, a CSV file with {', '.join(COLUMNS)}")
    checking.add_argument("--cards", type=Path, help="folder of cards; default: the gateway's own")
    checking.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: Namespace) -> int:
    """Run a command. ``check`` returns 1 on a difference, else 2 if something got no answer."""
    try:
        if arguments.action != "check":
            return _print_cards(load_catalogue(), arguments)
        catalogue = _load_cards(arguments.cards)
        cards = _choose_cards(catalogue, arguments.models)
        listed = [] if arguments.prices is None else list(read_prices(arguments.prices, catalogue))
        return asyncio.run(_check(load_settings(), catalogue, cards, listed, arguments))
    except UnusableInput as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 2


def _print_cards(catalogue: Catalogue, arguments: Namespace) -> int:
    if arguments.action == "show":
        (card,) = _choose_cards(catalogue, [arguments.model])
        sys.stdout.write(json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")
        return 0
    rows = [("MODEL", "STAGE", "SIZES")]
    for card in catalogue:
        sizes = (
            f"{name} {size.tokens} ${size.tokens * card.prices_usd_per_million.image_output / 1e6:.4f}"
            for name, size in card.image_sizes.items()
        )
        rows.append((card.id, card.lifecycle.stage, ", ".join(sizes)))
    sys.stdout.write(format_rows(rows))
    return 0


def _load_cards(folder: Path | None) -> Catalogue:
    try:
        return load_catalogue(folder)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError, ValueError) as error:
        raise UnusableInput(f"{folder}: {error}") from error


def _choose_cards(catalogue: Catalogue, names: list[str]) -> list[Card]:
    if not names:
        return list(catalogue)
    cards = []
    for name in names:
        card = catalogue.resolve(name)
        if card is None:
            known = ", ".join(each.id for each in catalogue)
            raise UnusableInput(f"{name} has no card; there are {known}")
        cards.append(card)
    return cards


async def _check(
    settings: Settings, catalogue: Catalogue, cards: list[Card], listed: list[ListPrice], arguments: Namespace
) -> int:
    # Only now, because the SDK takes over a second to load, and no other command needs it.
    from app.upstream.google.questions import open_questions  # noqa: PLC0415

    findings = [finding for card in cards for finding in compare_prices(card, listed) if listed]
    async with AsyncExitStack() as stack:
        for kind in settings.all_back_ends:
            back_end = await build_back_end(kind, settings, stack)
            probes = {
                card.id: list(list_probes(card, tuple(catalogue), back_end.capabilities)) for card in cards
            }
            if arguments.may_spend is not None:
                _check_cost(cards, probes, arguments.may_spend / len(settings.all_back_ends))
            try:
                questions = await stack.enter_async_context(open_questions(back_end))
            except GatewayError as error:
                findings += [_describe_silence(card, kind, "id", error) for card in cards]
                continue
            findings += [each async for each in _find_models_without_card(questions, catalogue, kind)]
            for card in cards:
                findings += [each async for each in _ask_for_free(questions, card, kind)]
                if arguments.may_spend is not None:
                    findings += [
                        each async for each in _probe(questions, card, kind, probes[card.id], catalogue)
                    ]
    unchecked = dict(UNCHECKED)
    if arguments.may_spend is None:
        unchecked |= UNCHECKED_WITHOUT_SPENDING
    if not listed:
        unchecked |= dict.fromkeys(
            ("prices_usd_per_million", "tier_prices_usd_per_million", "batch_prices_usd_per_million"),
            "no list of prices",
        )
    _print(findings, unchecked, as_json=arguments.json)
    verdicts = {finding.verdict for finding in findings}
    if "different" in verdicts:
        return 1
    return 2 if "unanswered" in verdicts else 0


def _check_cost(cards: Iterable[Card], probes: dict[str, list[Probe]], limit: Decimal) -> None:
    """Raises UnusableInput if the calls could cost more than they may."""
    nano_usd = sum(probe.estimate_nano_usd(card) for card in cards for probe in probes[card.id])
    cost = Decimal(nano_usd) / NANO_PER_USD
    if cost > limit:
        calls = sum(len(probes[card.id]) for card in cards)
        raise UnusableInput(
            f"{calls} calls of a back end may cost {cost:.2f} USD if none is refused, more than --may-spend "
            f"allows for each ({limit:.2f}); name fewer models or raise it"
        )


async def _find_models_without_card(
    questions: BackEndQuestions, catalogue: Catalogue, kind: str
) -> AsyncIterator[Finding]:
    """Models of pictures that the back end lists and no card describes: nothing is wrong with the cards."""
    try:
        names = await questions.list_models()
    except GatewayError as error:
        yield Finding("", kind, "models", "", "", "unanswered", error.detail)
        return
    for name in names:
        if "image" in name and catalogue.find_answering(name) is None:
            yield Finding(name, kind, "models", "no card", "listed", "same", "the gateway does not offer it")


async def _ask_for_free(questions: BackEndQuestions, card: Card, kind: str) -> AsyncIterator[Finding]:
    """Everything that costs nothing."""
    try:
        described = await questions.describe(card)
    except GatewayError as error:
        yield _describe_silence(card, kind, "id", error)
        return
    yield compare_models(card, kind, described, datetime.now(UTC).date())
    if described is None:
        return
    for finding in compare_description(card, kind, described):
        yield finding
    files: dict[str, dict[str, Any]] = {
        "text": {"text": TEXT},
        "image": {"inline_data": {"mime_type": "image/png", "data": build_image(_IMAGE_EDGE)}},
        "page": {"inline_data": {"mime_type": "application/pdf", "data": _PAGE}},
    }
    for question in list_count_questions(card):
        try:
            counted = await questions.count_tokens(card, files[question.kind], question.resolution)
        except GatewayError as error:
            yield _describe_silence(card, kind, question.fact, error)
        else:
            yield compare_count(card, kind, question, counted)


async def _probe(
    questions: BackEndQuestions, card: Card, kind: str, probes: Iterable[Probe], catalogue: Catalogue
) -> AsyncIterator[Finding]:
    """Everything that may be billed."""
    image = build_image(_IMAGE_EDGE)
    versions = set()
    for probe in probes:
        try:
            drawn = await questions.draw(card, probe.build_request(card, image))
        except GatewayError as error:
            yield _describe_silence(card, kind, probe.fact, error)
            continue
        yield compare_probe(card, kind, probe, drawn)
        if drawn is not None and drawn.model_version not in versions:
            versions.add(drawn.model_version)
            yield compare_version(card, kind, drawn, catalogue.find_answering(drawn.model_version))


def _describe_silence(card: Card, kind: str, fact: str, error: GatewayError) -> Finding:
    return Finding(card.id, kind, fact, "", "", "unanswered", error.detail)


def build_image(edge: int) -> bytes:
    """A grey square as PNG."""
    rows = (b"\x00" + b"\x80" * edge) * edge
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    written = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _print(findings: list[Finding], unchecked: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        document = {"findings": [_build_document(each) for each in findings], "unchecked": unchecked}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return
    rows = [("MODEL", "SOURCE", "FACT", "CARD", "FOUND", "VERDICT")]
    rows += [
        (each.model, each.source, each.fact, each.card, each.answer, _format_verdict(each))
        for each in findings
    ]
    sys.stdout.write(format_rows(rows))
    sys.stdout.write("\nNot checked:\n" + "".join(f"  {fact}: {why}\n" for fact, why in unchecked.items()))
    differing = sum(each.verdict == "different" for each in findings)
    unanswered = sum(each.verdict == "unanswered" for each in findings)
    sys.stdout.write(f"\n{len(findings)} facts compared, {differing} differ, {unanswered} got no answer.\n")


def _build_document(finding: Finding) -> dict[str, str]:
    document = asdict(finding)
    return {"found" if name == "answer" else name: value for name, value in document.items()}


def _format_verdict(finding: Finding) -> str:
    if finding.note:
        return f"{finding.verdict}: {finding.note}"
    return finding.verdict
