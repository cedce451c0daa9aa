"""Encodes the arguments of the ledger's scripts, and decodes their replies into the port's words.

The comments at the head of each script give the order of its arguments and of its reply.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, assert_never

from app.domain.attempt import Rejoined
from app.domain.budget import UNITS, Amounts, Span, WindowState
from app.domain.errors import InternalError
from app.domain.failure import Failure
from app.domain.generation import Generation, Spent, Usage
from app.domain.rate import RateState
from app.generation import packing, ports, records
from app.ledger.epochs import LedgerDataLost
from app.ledger.policy import MS

if TYPE_CHECKING:
    from app.domain.attempt import Attempt
    from app.domain.bound import Bound
    from app.domain.budget import BudgetWindow
    from app.domain.rate import RateLimit
    from app.ledger.scripting import Arguments

STATES = {"s": "settled", "v": "voided", "c": "charged", "x": "expired", "h": "held", "d": "dispatched"}

_WINDOW_NUMBERS = 7
_RATE_NUMBERS = 4
_COUNTER_WORDS = 9
_AMOUNTS = 4
"""Amounts that a cost has before its tokens."""
_TOKENS = (
    *("text_input", "image_input", "image_output", "text_output"),
    *("thinking", "tool_use", "cached_input", "estimated"),
)
"""The fields of Usage that the record of an idempotency key holds, in this order."""


@dataclass(frozen=True, slots=True)
class ScriptReply:
    """A script's reply: its code, the store's clock (ms), and the windows and rates as it saw them."""

    code: str
    now_ms: int
    payload: str
    windows: tuple[WindowState, ...]
    rates: tuple[RateState, ...]


def encode_amounts(amounts: Amounts) -> list[str]:
    """Arguments for ``take_amounts``."""
    return [str(amount) for amount in amounts]


def encode_bounds(bounds: tuple[Bound, ...]) -> list[str]:
    """For ``take_bounds``."""
    words = [str(len(bounds))]
    for bound in bounds:
        words += [str(bound.tokens), *encode_amounts(bound.worst)]
    return words


def encode_windows(windows: tuple[BudgetWindow, ...]) -> list[str]:
    """Arguments for ``take_windows``."""
    arguments = [str(len(windows))]
    for window in windows:
        budget, override = window.budget, window.budget.override
        arguments += [window.field, str(UNITS.index(budget.unit) + 1), budget.mode, str(budget.limit)]
        arguments += ["", ""] if override is None else [str(override.limit), str(max(0, override.until_ms))]
        arguments += [str(max(0, edge)) for span in window.spans for edge in span]
    return arguments


def encode_rates(rates: tuple[RateLimit, ...]) -> list[str]:
    """Arguments for ``take_rates``."""
    arguments = [str(len(rates))]
    for rate in rates:
        arguments += [rate.kind, rate.field, str(rate.limit), str(rate.burst)]
    return arguments


def encode_claim(claim: ports.Claim | None) -> list[str]:
    """Arguments for ``take_claim``."""
    if claim is None:
        return ["", "", "0", ""]
    return [claim.id, claim.digest, str(claim.keep_s * MS), claim.original]


def encode_attempt(attempt: Attempt | None, lease_ms: str) -> list[str]:
    """Arguments for ``take_attempt``."""
    if attempt is None:
        return ["", "", "0", "0"]
    return [attempt.origin, attempt.id, str(attempt.keep_s * MS), lease_ms]


def encode_answered(answered: ports.Answered | None, usage: Usage, lease_ms: str) -> Arguments:
    """A claim, its new state and the tokens. An unknown outcome keeps the claim for one lease."""
    claim, state, outcome = encode_claim(answered.claim if answered else None), "", ""
    if answered is not None:
        match answered.state:
            case "done" | "failed":
                state, outcome = answered.state[0], _encode_reference(answered.outcome)
            case "unknown":
                claim, state = [*claim[:2], lease_ms, answered.claim.original], "u"
            case "free":
                pass  # the script gives back a claim that has no new state
            case _:
                assert_never(answered.state)
    return {
        "claim": claim,
        "state of the claim": state,
        "outcome of the claim": outcome,
        "tokens of the claim": _encode_reported_tokens(usage),
    }


def _encode_reference(outcome: Generation | Failure | None) -> str:
    """What the record of a key holds of its answer: an id or a short failure, never the result itself."""
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
        start, end, settled, held, unresolved, limit, credit = row
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
                unresolved=unresolved,
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
    """The cached result, or None where another version of the gateway wrote it."""
    try:
        _hold, created, _cost, text = reply.payload.split(";", 3)
        generation = records.decode_generation(packing.unpack_text(text))
    except ValueError:
        return None
    age_s = max(0, reply.now_ms - int(created)) // MS
    return ports.Hit(replace(generation, created_ms=int(created)), age_s, reply.windows, reply.rates)


def decode_admission(request: ports.AdmissionRequest, reply: ScriptReply) -> ports.Admission:
    """The reply of the script ``admit`` as the port's answer; a hit is left to ``decode_hit``.

    Raises:
        InternalError: The hold of this id has ended or is another one's, or no window fits the store's clock.
    """
    admission = _decode_refusal(request, reply) or _decode_repetition(request, reply)
    if admission is not None:
        return admission
    match reply.code:
        case "lead":
            return _decode_lead(request, reply)
        case "refused":
            return ports.Refused(_fill_needs(reply, request.needed), reply.rates)
        case "follow":
            return ports.Follow(reply.payload, reply.windows, reply.rates)
        case "failed":
            return ports.Failed(_decode_failure(reply.payload), reply.windows, reply.rates)
        case _:
            raise InternalError(_describe_fault(reply))


def _decode_refusal(request: ports.AdmissionRequest, reply: ScriptReply) -> ports.Admission | None:
    """The answer where nothing is served and no budget was the reason."""
    windows, rates = reply.windows, reply.rates
    match reply.code:
        case "limited":
            return ports.Limited(windows, rates)
        case "absent":
            return ports.Absent(_fill_needs(reply, request.needed), rates)
        case "in_flight":
            return ports.InFlight(-(-int(reply.payload) // MS), windows, rates)
        case "mismatch":
            return ports.Mismatched(windows, rates)
        case "crowded" | "too_many_users":
            return _decode_crowded(reply)
        case _:
            return None


def _decode_repetition(request: ports.AdmissionRequest, reply: ScriptReply) -> ports.Admission | None:
    """The answer to a request that was made before, under its key or as an earlier attempt."""
    match reply.code:
        case "replayed":
            return _decode_replayed(reply)
        case "refailed":
            return ports.Replayed(_decode_failure(reply.payload), 0, reply.windows, reply.rates)
        case "rejoined":
            return _decode_rejoined(request, reply)
        case _:
            return None


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
        # Another version of the gateway led; this one only needs to know that it failed.
        return Failure("upstream_error", "The request that generated this failed.")


def _decode_replayed(reply: ScriptReply) -> ports.Replayed:
    """The outcome of the key's request: the result if the reply has it, else the id to look it up by."""
    created, generation_id, cost, text = reply.payload.split(";", 3)
    generation = None
    with suppress(records.UnreadableRecord, packing.UnreadablePacking):
        record = packing.unpack_text(text)
        generation = replace(records.decode_generation(record), created_ms=int(created))
        generation_id = generation.id
    age_s = max(0, reply.now_ms - int(created)) // MS
    return ports.Replayed(
        generation, age_s, reply.windows, reply.rates, generation_id, int(created), decode_spent(cost)
    )


def _decode_rejoined(request: ports.AdmissionRequest, reply: ScriptReply) -> Rejoined:
    if request.attempt is None:
        raise InternalError("Only an attempt can receive an earlier attempt's result.")
    created, generation_id = reply.payload.split(";")
    age_s = max(0, reply.now_ms - int(created)) // MS
    return Rejoined(request.attempt, generation_id, int(created), age_s, reply.windows, reply.rates)


def _encode_reported_tokens(usage: Usage) -> str:
    """The tokens, and the queries if there were any: gateways of before read a record without them."""
    numbers = [int(getattr(usage, name)) for name in _TOKENS]
    if usage.search_queries:
        numbers.append(usage.search_queries)
    return ",".join(map(str, numbers))


def encode_spent(spent: Spent | None) -> str:
    """A cost as the ledger keeps it, in the form of ``scripts/_claims.lua``."""
    if spent is None:
        return ""
    usage = spent.usage
    amounts = (usage.image_output, usage.total_tokens, 0, spent.usd)
    return ",".join((*map(str, amounts), _encode_reported_tokens(usage)))


def decode_spent(cost: str) -> Spent | None:
    """The cost in a record of the ledger; None for an empty one."""
    if not cost:
        return None
    numbers = [int(digits) for digits in cost.split(",")]
    # Tokens stand at the end, if at all: a cost of earlier versions may have fewer amounts.
    queries = 0
    if len(numbers) > _AMOUNTS + len(_TOKENS):
        queries = numbers.pop()
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
    fields |= {"estimated": bool(fields["estimated"]), "search_queries": queries}
    return Spent(Usage(**fields), amounts.usd)


def _decode_crowded(reply: ScriptReply) -> ports.Crowded:
    most, _, wait_ms = reply.payload.partition(";")
    retry_after_s = max(1, -(-int(wait_ms) // MS))
    kind: Literal["keys", "users"] = "keys" if reply.code == "crowded" else "users"
    return ports.Crowded(int(most), retry_after_s, reply.windows, reply.rates, kind)


def decode_epoch(reply: ScriptReply) -> str:
    """The epoch of the ledger in which a hold was made; empty if the hold had been made before."""
    return reply.payload.partition(";")[0]


def _decode_lead(request: ports.AdmissionRequest, reply: ScriptReply) -> ports.Lead:
    tokens = int(reply.payload.partition(";")[2])
    bound = next(bound for bound in request.offered if bound.tokens == tokens)
    return ports.Lead(request.hold_id, _fill_needs(reply, request.needed), reply.rates, bound)


def _fill_needs(reply: ScriptReply, amounts: Amounts) -> tuple[WindowState, ...]:
    return tuple(replace(state, needed=getattr(amounts, state.budget.unit)) for state in reply.windows)


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
        _unit, start, end, settled, held, unresolved, field, credit, stored = reply[at : at + _COUNTER_WORDS]
        span = Span(int(start), int(end))
        rows[field] = (span, int(settled), int(held), int(unresolved), int(credit), stored)
    return tuple(
        WindowState(
            replace(window.budget, limit=_limit(window, stored, now_ms) + credit),
            settled,
            held,
            span,
            now_ms,
            credit=credit,
            field=window.field,
            unresolved=unresolved,
        )
        for window in windows
        if window.field in rows
        for span, settled, held, unresolved, credit, stored in [rows[window.field]]
    )


def _limit(window: BudgetWindow, stored: str, now_ms: int) -> int:
    """The limit in force without credit, as ``limit_of`` in ``scripts/_common.lua`` finds it."""
    limit, _, until_ms = stored.partition(";")
    if stored and now_ms < int(until_ms):
        return int(limit)
    override = window.budget.override
    return override.limit if override is not None and now_ms < override.until_ms else window.budget.limit
