"""The fields that a log line may have, and the form of each."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class LogField(NamedTuple):
    """A field: one of the gateway's own words, several of them, a number or a flag; and what it says."""

    form: Literal["word", "words", "number", "flag"]
    meaning: str


FIELDS: Final[dict[str, LogField]] = {
    "action": LogField("word", "What an operator did, such as `tenant.create`."),
    "address": LogField("word", "Host and port, socket or folder that it is about."),
    "admit_ms": LogField("number", "Milliseconds that the admission took."),
    "age_s": LogField("number", "Age in seconds."),
    "attempt": LogField("number", "Number of the attempt."),
    "attempts": LogField("number", "Calls of the model that the request made, repeated ones included."),
    "back_end": LogField(
        "word", "Back end that was called, and its credential's name if it has one: `vertex/images-a`."
    ),
    "back_ends": LogField("words", "Back ends in the order in which they are tried."),
    "billed": LogField("word", "Whether Google may have billed a failed call: no, maybe, yes."),
    "bytes": LogField("number", "Bytes."),
    "cache": LogField("word", "hit, miss, coalesced or bypass."),
    "code": LogField("word", "Error code."),
    "count": LogField("number", "How many."),
    "duration_s": LogField("number", "Seconds that it took."),
    "error_type": LogField("word", "Class of the exception."),
    "exit_status": LogField("number", "Exit status of a process."),
    "finish_reason": LogField("word", "Google's finish reason."),
    "generation_id": LogField("word", "Id of the result, for `GET /v1/generations/{id}`."),
    "history": LogField("word", "History of the store."),
    "hold_id": LogField("word", "Hold in the ledger that paid for it."),
    "image_id": LogField("word", "Id of an image."),
    "image_size": LogField("word", "Size that was requested."),
    "image_tokens": LogField("number", "Tokens of pictures by the card's table, as this request was billed."),
    "images": LogField("number", "Pictures."),
    "key": LogField("word", "Id of the key."),
    "keys": LogField("number", "Keys of all tenants."),
    "late": LogField("flag", "Whether it came after the hold had expired."),
    "left_back_end": LogField("word", "Back end that failed before another is tried."),
    "model": LogField("word", "Card of the model that was requested."),
    "off": LogField("words", "Settings that would turn on what is not in use."),
    "operation_id": LogField("word", "Id of the operation."),
    "operator": LogField("word", "Operator who acted."),
    "outcome": LogField("word", "`ok` or the error's code."),
    "output_tokens": LogField("number", "All output tokens, as this request was billed."),
    "pid": LogField("number", "Process id."),
    "pool": LogField("word", "Pool of credentials of the tenant."),
    "port": LogField("number", "Port."),
    "project": LogField("word", "Project of the key."),
    "queue_ms": LogField("number", "Milliseconds that calls waited for a slot."),
    "reason": LogField(
        "word", "Stable word for the cause; Google's own, such as `RESOURCE_EXHAUSTED`, for failed calls."
    ),
    "refused_by": LogField("words", "Budgets that refused, as scope:unit/window."),
    "request_id": LogField("word", "Id of the request, as in the header `X-Request-ID`."),
    "retry_after_s": LogField("number", "Seconds after which a retry can succeed."),
    "route": LogField("word", "Template of the route."),
    "settle_ms": LogField("number", "Milliseconds that keeping and settling took."),
    "signal": LogField("word", "Signal that ended a process."),
    "stage": LogField("word", "Optional step that failed."),
    "state": LogField("word", "State, such as done, failed or cancelled for an operation."),
    "status": LogField("number", "HTTP status."),
    "store": LogField("word", "Store that it is about."),
    "support_code": LogField("word", "Google's number for the rule that blocked content."),
    "surface": LogField("word", "Dialect: native, gemini, openai, admin, operations."),
    "tenant": LogField("word", "Id of the tenant."),
    "tenants": LogField("number", "Tenants."),
    "thinking_level": LogField("word", "Thinking level."),
    "tokens": LogField("number", "Tokens."),
    "total_tokens": LogField("number", "Input and output tokens, as this request was billed."),
    "unlimited": LogField("words", "Tenants without an enforced budget, the first three."),
    "upstream_ms": LogField("number", "Milliseconds of the calls of the model, with the wait for slots."),
    "upstream_status": LogField("number", "Google's HTTP status."),
    "usd": LogField("number", "Cost of this request in dollars, at list price."),
    "usd_billionths": LogField("number", "Billionths of a dollar."),
    "user": LogField("word", "Id of the end user."),
    "validate_ms": LogField("number", "Milliseconds that validation took."),
    "version": LogField("word", "Version."),
    "violations": LogField("words", "Codes of the violations."),
    "wait_ms": LogField("number", "Milliseconds that it waited for equal work of another request."),
}
"""The fields by name. The access log adds ``http_request``, a ``Diagnosis`` its own, a trace its ids."""
