"""Sentences that explain why a budget or a rate refuses: the need, the rest, and the time of the reset."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import TYPE_CHECKING, Final

from app.domain.budget import NANO_PER_USD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from app.domain.budget import Unit, WindowState
    from app.domain.estimate import WouldFit
    from app.domain.rate import RateState

_OWNERS: Final[Mapping[str, str]] = {
    "tenant": "the tenant",
    "project": "the project",
    "key": "this key",
    "user": "this user",
}
_COUNTED: Final[Mapping[Unit, tuple[str, str]]] = {
    "image_tokens": ("image token", "image tokens"),
    "all_output_tokens": ("output token", "output tokens"),
    "total_tokens": ("token", "tokens"),
    "images": ("image", "images"),
}


def format_dollars(nano_usd: int, rounding: str | None = None) -> str:
    """``$0.459`` for 459,004,500 billionths: exact, or rounded to four digits."""
    amount = Decimal(nano_usd) / NANO_PER_USD
    if rounding is not None:
        amount = amount.quantize(Decimal(1).scaleb(min(-2, amount.adjusted() - 3)), rounding)
    units, _, fraction = f"{amount:f}".partition(".")
    return f"${int(units):,}.{fraction.rstrip('0').ljust(2, '0')}"


def _format_amount(unit: Unit, amount: int, rounding: str | None = None) -> str:
    return format_dollars(amount, rounding) if unit == "usd" else f"{amount:,}"


def _describe_need(window: WindowState) -> str:
    """The request's need. Pictures are exact; all else is an estimate."""
    unit = window.budget.unit
    if unit == "usd":
        return f"up to {format_dollars(window.needed, ROUND_UP)}"
    words = f"{window.needed:,} {_COUNTED[unit][window.needed != 1]}"
    return words if unit == "images" else f"up to {words}"


def _format_end(window: WindowState, zone: ZoneInfo) -> str:
    """The end of the window in the tenant's time zone."""
    return f"{datetime.fromtimestamp(window.span.end_ms / 1000, zone):%Y-%m-%d %H:%M} ({zone.key})"


def explain_budget(window: WindowState, zone: ZoneInfo) -> str:
    """The sentences about one budget window that refuses.

    Args:
        window: The window, with the request's need.
        zone: The tenant's time zone.
    """
    budget, unit = window.budget, window.budget.unit
    needs, owner = f"This request needs {_describe_need(window)}", _OWNERS[budget.scope]
    left = (
        f"{_format_amount(unit, window.remaining, ROUND_DOWN)} of {_format_amount(unit, budget.limit)} left"
    )
    if window.waits_for_holds:
        held = _format_amount(unit, window.held, ROUND_UP)
        whose = f"{owner}'s budget for this {budget.window}"
        return (
            f"{needs}, and {whose} has {left} while requests under way hold {held}. Try again when they end."
        )
    if window.endless:
        return f"{needs}, and {owner}'s prepaid budget has {left}. It never resets; more credit is needed."
    if window.never_fits:
        a_window = f"{'an' if budget.window == 'hour' else 'a'} {budget.window}"
        whole = f"{owner}'s whole budget for {a_window} is {_format_amount(unit, budget.limit)}"
        return f"{needs}, and {whole}. Waiting does not help; ask for less."
    resets = f"It resets at {_format_end(window, zone)}."
    return f"{needs}, and {owner}'s budget for this {budget.window} has {left}. {resets}"


def explain_rate(state: RateState, retry_after_s: int) -> str:
    """The sentence about one rate that refuses."""
    owner = _OWNERS[state.limit.scope].capitalize()
    word = "request" if state.limit.limit == 1 else "requests"
    allowed = f"{state.limit.limit:,} {word}"
    limit = (
        f"make {allowed} a minute" if state.limit.kind == "requests" else f"have {allowed} under way at once"
    )
    return f"{owner} may {limit}; try again in {retry_after_s} s."


def explain_fitting(fitting: WouldFit, single: WouldFit, image_size: str, n: int, when: str = "now") -> str:
    """The sentence about what would be admitted instead; empty where nothing would.

    Args:
        fitting: The largest size for ``n`` pictures, and the most pictures of ``image_size``.
        single: The same for one picture, used where neither fits.
        image_size: The requested size.
        n: The requested number of pictures.
        when: The time of it, such as ``now``.
    """
    options = []
    if fitting.image_size is not None and fitting.image_size != image_size:
        options.append(f"the size {fitting.image_size}")
    if 0 < fitting.n < n:
        options.append(f"{fitting.n} {'picture' if fitting.n == 1 else 'pictures'} in place of {n}")
    if not options and single.image_size is not None and n > 1:
        options.append(f"1 picture of the size {single.image_size}")
    return f"What would fit {when}: {', or '.join(options)}." if options else ""
