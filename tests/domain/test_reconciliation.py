"""A bill and the ledger differ only by what is explained, and whatever is not is shown."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from app.cards import load_catalogue
from app.domain.bills import SEARCHES, BillLine, Sku, parse_sku, recognise_sku
from app.domain.focus import COLUMNS, build_focus_row
from app.domain.line_items import list_line_items
from app.domain.reconciliation import Reconciliation, reconcile
from app.domain.report import Row, Spent

MODEL = "gemini-3.1-flash-image"
CARDS = tuple(load_catalogue())
CARD = next(card for card in CARDS if card.id == MODEL)
DAY, NEXT = date(2026, 11, 27), date(2026, 11, 28)
IMAGES = Sku(MODEL, "image_output", "standard")
IMAGE_USD = Decimal("0.0672")  # 1,120 tokens at $60 a million


def row(usd: str = "0.0672", day: date = DAY, **more: object) -> Row:
    nano = int(Decimal(usd) * 10**9)
    sums = {"requests": 1, "image_tokens": 1120, "total_tokens": 1120, "images": 1, "usd": nano}
    heading = {"key_id": "k1", "model": MODEL, "size": "1K", "tier": "standard"}
    spent = Spent(**(sums | more.pop("sums", {})))  # type: ignore[operator]
    return Row("acme", day, spent, **(heading | more))  # type: ignore[arg-type]


def line(usd: str, day: date = DAY, sku: Sku | None = IMAGES) -> BillLine:
    return BillLine(day, sku, "words", Decimal(1120), Decimal(usd))


def compare(bill: list[BillLine], rows: list[Row], free: int = 5000) -> Reconciliation:
    return reconcile(bill, [item for each in rows for item in list_line_items(each, CARD)], free)


def test_the_same_on_both_sides_needs_no_reason() -> None:
    result = compare([line("0.0672")], [row()])
    (only,) = result.comparisons
    assert only.difference == result.unexplained == 0
    assert not only.reasons


def test_a_call_past_the_gateway_is_unexplained() -> None:
    result = compare([line("0.1344")], [row()])
    assert result.unexplained == IMAGE_USD
    assert not result.is_within(Decimal("0.1"))
    assert result.is_within(Decimal(50))


@pytest.mark.parametrize(("invoiced", "left"), [("0", 0), ("0.0672", 0), ("0.1344", "0.0672")])
def test_of_an_estimated_call_the_bill_may_have_any_part(invoiced: str, left: str) -> None:
    result = compare([line(invoiced)], [row(tier="estimated")])
    assert result.unexplained == Decimal(left)


def test_what_is_charged_without_a_model_explains_more_of_any_sku_of_that_day() -> None:
    charged = Row("acme", DAY, Spent(1, usd=100_000_000))
    result = compare([line("0.0672"), line("0.0672", NEXT)], [charged])
    by_day = {each.day: each.unexplained for each in result.comparisons if each.sku == IMAGES}
    assert by_day == {DAY: 0, NEXT: IMAGE_USD}
    assert sum(each.difference for each in result.comparisons) == 2 * IMAGE_USD - Decimal("0.1")


def test_free_searches_are_taken_once_a_month() -> None:
    spent = {"search_queries": 100, "usd": 1_467_200_000}
    rows = [row(sums=spent), row(sums=spent, day=NEXT)]
    bill = [line("0.0672"), line("0.0672", NEXT), line("0.28", NEXT, SEARCHES)]
    assert compare(bill, rows, free=180).unexplained == 0
    assert compare(bill, rows, free=150).unexplained == Decimal("0.42")


def test_what_is_billed_on_the_next_day_is_explained_by_midnight() -> None:
    result = compare([line("0.1344", NEXT)], [row(), row(day=NEXT)])
    assert [each.reasons for each in result.comparisons] == [
        {"midnight": -IMAGE_USD},
        {"midnight": IMAGE_USD},
    ]


def test_the_last_digit_of_a_bill_is_rounding_and_a_cent_is_not() -> None:
    assert compare([line("0.067201")], [row()]).unexplained == 0
    assert compare([line("0.0772")], [row()]).unexplained == Decimal("0.01")


def test_charges_add_up_to_what_was_booked_whatever_the_prices_were() -> None:
    for tier, usd in (
        ("standard", "0.07"),
        ("flex", "0.0336"),
        ("provisioned", "0.01"),
        ("estimated", "0.2"),
    ):
        items = list(list_line_items(row(usd, tier=tier), CARD))
        assert sum(item.cost for item in items) == Decimal(usd)
    assert [item.meter for item in list_line_items(row("0.0336", tier="flex"), CARD)] == ["image_output"]


def test_a_row_of_focus_multiplies_out() -> None:
    sums = {"total_tokens": 1500, "text_output": 200, "cached_input": 30, "search_queries": 3, "usd": 10**8}
    for item in list_line_items(row(sums=sums, project_id="web"), CARD):
        built = build_focus_row(item, "01AB")
        assert tuple(built) == COLUMNS
        assert (built["ChargePeriodStart"], built["ChargePeriodEnd"]) == (
            "2026-11-27T00:00:00Z",
            "2026-11-28T00:00:00Z",
        )
        assert (built["BillingPeriodStart"][:10], built["BillingPeriodEnd"][:10]) == (
            "2026-11-01",
            "2026-12-01",
        )
        if built["ChargeCategory"] == "Usage":
            product = Decimal(built["ListUnitPrice"]) * Decimal(built["PricingQuantity"])
            assert product == Decimal(built["ListCost"])
            assert parse_sku(built["SkuPriceId"]) == (
                SEARCHES if item.meter == "searches" else Sku(MODEL, item.meter, "standard")
            )
            assert built["PricingUnit"] in {"1000000 Tokens", "1000 Queries"}
        else:
            assert built["ListCost"] == built["BilledCost"]
            assert not built["SkuId"]


@pytest.mark.parametrize(
    ("words", "sku"),
    [
        ("Generate content output token count Gemini 3.1 Flash Image image", IMAGES),
        ("Generate content input token count Gemini 3.1 Flash Image text", Sku(MODEL, "input", "standard")),
        ("Gemini 3.1 Flash Image Text Output - Flex", Sku(MODEL, "text_output", "flex")),
        ("Gemini 3.1 Flash Image Input Text Caching", Sku(MODEL, "cached_input", "standard")),
        ("Gemini 3.1 Flash Image Cache Storage Tokens", None),
        ("Gemini 3.1 Flash Image Batch image output", Sku(MODEL, "image_output", "batch")),
        ("Gemini 3 Pro Image output image", Sku("gemini-3-pro-image", "image_output", "standard")),
        ("Grounding with Google Search Gemini 3", SEARCHES),
        ("N2 Instance Core running in Frankfurt", None),
    ],
)
def test_a_description_names_its_sku(words: str, sku: Sku | None) -> None:
    assert recognise_sku(words, CARDS) == sku
