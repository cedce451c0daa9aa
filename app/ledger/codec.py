"""What the ledger's scripts are told, and what they answer: their words to the port's and back.

The order of arguments and of answers is that of the comments at the head of each script.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

from app.domain.attempt import Rejoined
from app.domain.budget import UNITS, Amounts, Span, WindowState
from app.domain.errors import InternalError
from app.domain.failure import Failure
from app.domain.generation import Generation, Spent, Usage
from app.domain.rate import RateState
from app.generation import ports, records
from app.ledger.epochs import LedgerDataLost
from app.ledger.policy import MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.domain.attempt import Attempt
    from app.domain.budget import BudgetWindow
    from app.domain.rate import RateLimit

STATES = {"s": "settled", "v": "voided", "c": "charged", "x": "expired", "h": "held", "d": "dispatched"}

_WINDOW_NUMBERS = 6
_RATE_NUMBERS = 4
_COUNTER_WORDS = 8
_TOKENS = (
    *("text_input", "image_input", "image_output", "text_output"),
    *("thinking", "tool_use", "cached_input", "estimated"),
)
"""What an idempotency key keeps of the usage of its request, in this order."""


@dataclass(frozen=True, slots=True)
class ScriptReply:
    """A script's reply: its word, the store's clock, and the windows and rates as it saw them."""

    code: str
    now_ms: int
    payload: str
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...]


def encode_amounts(amounts: Amounts) -> list[str]:
    """For ``take_amounts``."""
    return [str(amount) for amount in amounts]


def encode_tokens(usage: Usage) -> list[str]:
    """The tokens that the amounts do not tell."""
    tokens = (usage.text_input + usage.tool_use, usage.image_input, usage.thinking)
    return [str(count) for count in tokens]


def encode_windows(windows: tuple[BudgetWindow, ...]) -> list[str]:
    """For ``take_windows``."""
    arguments = [str(len(windows))]
    for window in windows:
        budget, override = window.budget, window.budget.override
        arguments += [window.field, str(UNITS.index(budget.unit) + 1), budget.mode, str(budget.limit)]
        arguments += ["", ""] if override is None else [str(override.limit), str(max(0, override.until_ms))]
        arguments += [str(max(0, edge)) for span in window.spans for edge in span]
    return arguments


def encode_rates(rates: tuple[RateLimit, ...]) -> list[str]:
    """For ``take_rates``."""
    arguments = [str(len(rates))]
    for rate in rates:
        arguments += [rate.kind, rate.field, str(rate.limit), str(rate.burst)]
    return arguments


def encode_claim(claim: ports.Claim | None) -> list[str]:
    """For ``take_claim``."""
    return ["", "", "0"] if claim is None else [claim.id, claim.digest, str(claim.keep_s * MS)]


def encode_attempt(attempt: Attempt | None, lease_ms: str) -> list[str]:
    """For ``take_attempt``."""
    if attempt is None:
        return ["", "", "0", "0"]
    return [attempt.origin, attempt.id, str(attempt.keep_s * MS), lease_ms]


def encode_answered(answered: ports.Answered | None, usage: Usage, lease_ms: str) -> list[str]:
    """A claim, what becomes of it, and the tokens; one whose outcome is unknown is kept for a lease."""
    tokens = _encode_reported_tokens(usage)
    if answered is None:
        return [*encode_claim(None), "", "", tokens]
    match answered.state:
        case "done" | "failed":
            return [
                *encode_claim(answered.claim),
                answered.state[0],
                _encode_reference(answered.outcome),
                tokens,
            ]
        case "unknown":
            return [answered.claim.id, answered.claim.digest, lease_ms, "u", "", tokens]
        case "free":
            return [*encode_claim(answered.claim), "", "", tokens]
        case _:
            assert_never(answered.state)


def _encode_reference(outcome: Generation | Failure | None) -> str:
    """What a key keeps of its answer: never the result itself, which may be of any size."""
    match outcome:
        case Generation():
            return outcome.id
        case Failure():
            return records.encode_brief(outcome)
        case _:
            raise InternalError("A key that is answered needs its answer.")


def decode_reply(
    reply: list[str], windows: tuple[BudgetWindow, ...], rates: tuple[RateLimit, ...]
) -> ScriptReply:
    """A reply of one of the scripts ``admit``, ``windows`` and ``adjust``."""
    code, now, payload = reply[:3]
    if code == "clock":
        return ScriptReply(code, int(now), payload, (), ())
    numbers = [int(value) for value in reply[3:]]
    behind = _WINDOW_NUMBERS * len(windows)
    states = []
    for window, row in zip(windows, _split_rows(numbers[:behind], _WINDOW_NUMBERS), strict=True):
        start, end, settled, held, limit, credit = row
        budget = replace(window.budget, limit=limit)
        states.append(
            WindowState(
                budget,
                settled,
                held,
                Span(start, end),
                int(now),
                credit=credit,
                field=window.field,
                usual_limit=window.budget.limit + credit,
            )
        )
    rate_states = tuple(
        RateState(rate, left, retry_ms, full_ms, refused == 1)
        for rate, (left, retry_ms, full_ms, refused) in zip(
            rates, _split_rows(numbers[behind:], _RATE_NUMBERS), strict=True
        )
    )
    return ScriptReply(code, int(now), payload, tuple(states), rate_states)


def _split_rows(numbers: list[int], width: int) -> list[list[int]]:
    return [numbers[at : at + width] for at in range(0, len(numbers), width)]


def decode_hit(reply: ScriptReply) -> ports.Hit | None:
    """The kept result, or None where another version of the gateway wrote it."""
    try:
        _hold, created, _cost, text = reply.payload.split(";", 3)
        generation = records.decode_generation(text)
    except ValueError:
        return None
    age_s = max(0, reply.now_ms - int(created)) // MS
    return ports.Hit(replace(generation, created_ms=int(created)), age_s, reply.windows, reply.rates)


def decode_admission(request: ports.AdmissionRequest, reply: ScriptReply) -> ports.Admission:
    """The answer of the script ``admit`` in the port's words, a hit excepted.

    Raises:
        InternalError: The hold of this id has ended or is another one's, or no window fits the store's clock.
    """
    meaning = _ADMISSIONS.get(reply.code)
    if meaning is None:
        raise InternalError(_describe_fault(reply))
    return meaning(request, reply)


def decode_data_loss(reply: ScriptReply) -> LedgerDataLost:
    """The error for a reply of ``admit`` whose ledger is unknown to this process, or still closed."""
    if reply.code == "closed":
        retry_after_s = -(-int(reply.payload) // MS)
        return LedgerDataLost(
            "The tenant's ledger is being rebuilt.", epoch=None, retry_after_s=retry_after_s
        )
    return LedgerDataLost("The store has lost the tenant's ledger.", epoch=reply.payload, retry_after_s=1)


def _decode_failure(text: str) -> Failure:
    try:
        return records.decode_failure(text)
    except records.UnreadableRecord:
        # Another version of the gateway led; that it failed is all that this one needs to know.
        return Failure("upstream_error", "The one who generated this failed.")


def _decode_replayed(reply: ScriptReply) -> ports.Replayed:
    """What the key's request came to: its result where that came along, else where it would lie."""
    created, generation_id, cost, text = reply.payload.split(";", 3)
    generation = None
    with suppress(records.UnreadableRecord):
        generation = replace(records.decode_generation(text), created_ms=int(created))
        generation_id = generation.id
    age_s = max(0, reply.now_ms - int(created)) // MS
    return ports.Replayed(
        generation, age_s, reply.windows, reply.rates, generation_id, int(created), decode_spent(cost)
    )


def _decode_rejoined(request: ports.AdmissionRequest, reply: ScriptReply) -> Rejoined:
    if request.attempt is None:
        raise InternalError("Only an attempt can be given an earlier one's result.")
    created, generation_id = reply.payload.split(";")
    age_s = max(0, reply.now_ms - int(created)) // MS
    return Rejoined(request.attempt, generation_id, int(created), age_s, reply.windows, reply.rates)


def _encode_reported_tokens(usage: Usage) -> str:
    return ",".join(str(int(getattr(usage, name))) for name in _TOKENS)


def encode_spent(spent: Spent | None) -> str:
    """A cost as the ledger keeps it, in the form of ``scripts/_claims.lua``."""
    if spent is None:
        return ""
    usage = spent.usage
    amounts = (usage.image_output, usage.total_tokens, 0, spent.usd)
    return ",".join((*map(str, amounts), _encode_reported_tokens(usage)))


def decode_spent(cost: str) -> Spent | None:
    """A cost that the ledger has kept; None where they know none."""
    if not cost:
        return None
    numbers = [int(digits) for digits in cost.split(",")]
    # Tokens stand at the end, if at all: a cost of earlier versions may have fewer amounts.
    tokens = numbers[-len(_TOKENS) :] if len(numbers) > len(UNITS) else []
    amounts = Amounts(*numbers[: len(numbers) - len(tokens)])
    if not tokens:
        # The ledger kept only the sums.
        output = max(amounts.image_tokens, amounts.all_output_tokens)
        usage = Usage(
            text_input=max(0, amounts.total_tokens - output),
            image_output=amounts.image_tokens,
            text_output=output - amounts.image_tokens,
            estimated=True,
        )
        return Spent(usage, amounts.usd)
    fields: dict[str, Any] = dict(zip(_TOKENS, tokens, strict=True))
    return Spent(Usage(**{**fields, "estimated": bool(fields["estimated"])}), amounts.usd)


def _decode_crowded(reply: ScriptReply) -> ports.Crowded:
    most, _, wait_ms = reply.payload.partition(";")
    return ports.Crowded(int(most), max(1, -(-int(wait_ms) // MS)), reply.windows, reply.rates)


def _fill_needs(reply: ScriptReply, amounts: Amounts) -> tuple[WindowState, ...]:
    return tuple(replace(state, needed=getattr(amounts, state.budget.unit)) for state in reply.windows)


_ADMISSIONS: Mapping[str, Callable[[ports.AdmissionRequest, ScriptReply], ports.Admission]] = {
    "lead": lambda asked, found: ports.Lead(asked.hold_id, _fill_needs(found, asked.amounts), found.rates),
    "refused": lambda asked, found: ports.Refused(_fill_needs(found, asked.amounts), found.rates),
    "limited": lambda _, found: ports.Limited(found.windows, found.rates),
    "follow": lambda _, found: ports.Follow(found.payload, found.windows, found.rates),
    "failed": lambda _, found: ports.Failed(_decode_failure(found.payload), found.windows, found.rates),
    "absent": lambda _, found: ports.Absent(found.windows, found.rates),
    "replayed": lambda _, found: _decode_replayed(found),
    "refailed": lambda _, found: ports.Replayed(
        _decode_failure(found.payload), 0, found.windows, found.rates
    ),
    "in_flight": lambda _, found: ports.InFlight(-(-int(found.payload) // MS), found.windows, found.rates),
    "mismatch": lambda _, found: ports.Mismatched(found.windows, found.rates),
    "crowded": lambda _, found: _decode_crowded(found),
    "rejoined": _decode_rejoined,
}


def _describe_fault(reply: ScriptReply) -> str:
    if reply.code == "over":
        return f"The hold of this id is {STATES[reply.payload]} already."
    sentences = {
        "conflict": "The hold id was used for other work.",
        "clock": "The store's clock fits no window.",
    }
    return sentences.get(reply.code, "The ledger gave an unknown answer.")


def decode_booked(
    reply: list[str], windows: tuple[BudgetWindow, ...], now_ms: int
) -> tuple[WindowState, ...]:
    """The caller's windows as the hold was booked in them; those that came into force later are left out."""
    rows = {}
    for at in range(0, len(reply), _COUNTER_WORDS):
        _unit, start, end, settled, held, field, credit, stored = reply[at : at + _COUNTER_WORDS]
        rows[field] = (Span(int(start), int(end)), int(settled), int(held), int(credit), stored)
    return tuple(
        WindowState(
            replace(window.budget, limit=_limit(window, stored, now_ms) + credit),
            settled,
            held,
            span,
            now_ms,
            credit=credit,
            field=window.field,
        )
        for window in windows
        if window.field in rows
        for span, settled, held, credit, stored in [rows[window.field]]
    )


def _limit(window: BudgetWindow, stored: str, now_ms: int) -> int:
    """The limit in force without credit, as ``limit_of`` in ``scripts/_common.lua`` finds it."""
    limit, _, until_ms = stored.partition(";")
    if stored and now_ms < int(until_ms):
        return int(limit)
    override = window.budget.override
    return override.limit if override is not None and now_ms < override.until_ms else window.budget.limit
