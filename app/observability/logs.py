"""Logs: one JSON object a line on stdout, in Cloud Logging's field names, never holding what callers sent.

Nothing that a caller wrote may reach a log (docs/reliability.md R68), so nothing is searched for secrets;
instead only this passes:

- the constant text of a message; numbers among its arguments, every other argument is withheld;
- the fields of ``FIELDS``, given as ``extra=``, where they have the declared form;
- a ``Diagnosis``, given as ``extra={"diagnosis": …}``, whose contract forbids it to hold any such thing;
- of an exception its type and where it was raised; its own words only for the gateway's errors, whose
  contract forbids them to quote a request; of the operating system's and the store's errors what is known to
  be their own.

Messages that a library has already put together cannot be told apart from what they quote and are withheld.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from app.domain.errors import ConfigurationError, GatewayError
from app.domain.keys import resembles_key
from app.resilience.diagnosis import Diagnosis, describe_for_log

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHHELD = "(withheld)"


class _Withheld:
    """Stands in for an argument of a message, whichever way the message shows it."""

    def __repr__(self) -> str:
        return WITHHELD


# A field's form: a word of the gateway's own, a number, or a flag. ``http_request`` is the access log's.
FIELDS: dict[str, Literal["word", "number", "flag"]] = {
    "action": "word",
    "address": "word",
    "age_s": "number",
    "attempt": "number",
    "back_end": "word",
    "billed": "word",
    "bytes": "number",
    "cache": "word",
    "code": "word",
    "count": "number",
    "duration_s": "number",
    "error_type": "word",
    "exit_status": "number",
    "finish_reason": "word",
    "generation_id": "word",
    "hold_id": "word",
    "image_id": "word",
    "image_size": "word",
    "images": "number",
    "key": "word",
    "late": "flag",
    "model": "word",
    "operator": "word",
    "outcome": "word",
    "pid": "number",
    "port": "number",
    "reason": "word",
    "request_id": "word",
    "retry_after_s": "number",
    "route": "word",
    "signal": "word",
    "stage": "word",
    "state": "word",
    "status": "number",
    "store": "word",
    "support_code": "word",
    "surface": "word",
    "tenant": "word",
    "upstream_status": "number",
    "version": "word",
}

_WORD = re.compile(r"[A-Za-z0-9._:/{}@+*-]{0,200}", re.ASCII)
_OWN = re.compile(r"app(\.|$)")
_UVICORN = re.compile(r"uvicorn(\.|$)")
# The messages of uvicorn whose arguments are addresses and process ids; others hold what a client sent.
_UVICORN_STATES = ("Uvicorn running on", "Started ", "Finished ", "Stopping ", "Waiting ", "Shutting ")
# What the event loop says of work that nobody waits for; behind the first line it quotes the work.
_LOOP_COMPLAINTS = frozenset(
    {
        "Future exception was never retrieved",
        "Task exception was never retrieved",
        "Task was destroyed but it is pending!",
    }
)
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_CHAIN_MAX = 5
_FRAMES_MAX = 30


@dataclass(frozen=True, slots=True)
class Correlation:
    """What ties the log lines of one request together; every line logged while it runs carries it."""

    request_id: str
    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False


CORRELATION: ContextVar[Correlation | None] = ContextVar("correlation", default=None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _filter_field(form: str, value: object) -> object:
    """The value where it has the field's form, else the sign that it was left out."""
    if (
        value is None
        or (form == "flag" and isinstance(value, bool))
        or (form == "number" and _is_number(value))
    ):
        return value
    if form == "word" and isinstance(value, str) and _WORD.fullmatch(value) and not resembles_key(value):
        return value
    return WITHHELD


def _render_message(record: logging.LogRecord) -> str:
    """The record's text without anything that a caller can have written."""
    template = record.msg if isinstance(record.msg, str) else WITHHELD
    if isinstance(record.msg, OSError):
        template = _describe_error(record.msg)
    if _UVICORN.match(record.name) and template.startswith(_UVICORN_STATES):
        return record.getMessage()
    if not record.args:
        if _OWN.match(record.name) or (_UVICORN.match(record.name) and "\n" not in template.strip()):
            return template.strip()
        first = template.partition("\n")[0]
        return first if record.name == "asyncio" and first in _LOOP_COMPLAINTS else WITHHELD
    if not isinstance(record.args, tuple):
        return template
    try:
        return template % tuple(value if _is_number(value) else _Withheld() for value in record.args)
    except (TypeError, ValueError):  # such as %d for something that is no number
        return template


def _render_frames(error: BaseException) -> Iterator[str]:
    """Where it was raised. Paths below the project are shortened; lines of source are left out."""
    for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]:
        path = Path(frame.filename)
        name = path.relative_to(_PACKAGE_ROOT) if path.is_relative_to(_PACKAGE_ROOT) else path
        yield f'  File "{name}", line {frame.lineno}, in {frame.name}'


def _describe_error(error: BaseException) -> str:
    """Its type, and what may be repeated of its words."""
    if isinstance(error, ConfigurationError):
        words = str(error)
    elif isinstance(error, GatewayError):
        words = error.detail
    else:
        known = describe_for_log(error)
        words = WITHHELD if known is None else known
    return f"{type(error).__qualname__}: {words}" if words else type(error).__qualname__


def format_stack_trace(error: BaseException) -> str:
    """A traceback in Python's own form, with the words of foreign exceptions withheld; causes first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _CHAIN_MAX and current not in chain:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    lines: list[str] = []
    for link in reversed(chain):
        lines += ["Traceback (most recent call last):", *_render_frames(link)]
        lines.append(_describe_error(link))
        if isinstance(link, BaseExceptionGroup):
            lines += [f"  | {_describe_error(part)}" for part in link.exceptions]
    return "\n".join(lines)


def build_entry(record: logging.LogRecord, project: str | None) -> dict[str, Any]:
    """One log line as Cloud Logging reads it."""
    entry: dict[str, Any] = {
        "severity": record.levelname if record.levelno <= logging.CRITICAL else "CRITICAL",
        "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        "message": _render_message(record),
        "logger": record.name,
    }
    correlation = CORRELATION.get()
    if correlation is not None:
        entry["request_id"] = _filter_field("word", correlation.request_id)
        if correlation.trace_id and project:
            entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{correlation.trace_id}"
            if correlation.span_id:
                entry["logging.googleapis.com/spanId"] = correlation.span_id
            entry["logging.googleapis.com/trace_sampled"] = correlation.sampled
    attributes = record.__dict__
    entry |= {
        name: _filter_field(form, attributes[name]) for name, form in FIELDS.items() if name in attributes
    }
    if isinstance(attributes.get("http_request"), dict):
        entry["httpRequest"] = {
            name: value if _is_number(value) else _filter_field("word", value)
            for name, value in attributes["http_request"].items()
        }
    diagnosis = attributes.get("diagnosis")
    if isinstance(diagnosis, Diagnosis):
        entry |= {name: words for name, words in asdict(diagnosis).items() if words}
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        entry["error_type"] = type(error).__qualname__
        entry["stack_trace"] = format_stack_trace(error)
    if record.levelno >= logging.WARNING:
        entry["logging.googleapis.com/sourceLocation"] = {
            "file": record.filename,
            "line": str(record.lineno),
            "function": record.funcName,
        }
    return entry


class JsonFormatter(logging.Formatter):
    """One JSON object a line. ``project`` is the Google Cloud project that traces belong to, or None."""

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return json.dumps(build_entry(record, self._project), ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same facts for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a stack trace follows on lines of its own."""
        entry = build_entry(record, None)
        head = f"{entry.pop('time')[11:23]} {entry.pop('severity'):<8} {entry.pop('message')}"
        stack = entry.pop("stack_trace", None)
        entry.pop("logging.googleapis.com/sourceLocation", None)
        request = entry.pop("httpRequest", {})
        values = {name: _quote_value(value) for name, value in (entry | request).items()}
        fields = " ".join(f"{name}={value}" for name, value in values.items())
        return f"{head} [{fields}]" + (f"\n{stack}" if stack else "")


def _is_informative(record: logging.LogRecord) -> bool:
    """False for uvicorn's own traceback of a start that has failed, which would be withheld.

    The application has logged the failure itself.
    """
    return not (_UVICORN.match(record.name) and str(record.msg).startswith("Traceback "))


def _quote_value(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and " " in value else value


def configure(
    level: str,
    style: Literal["json", "text"] = "json",
    project: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send every logger through one handler on stdout. Call it once, before the server starts.

    uvicorn's loggers go through it too (run it with ``log_config=None``); its access log is off, because
    ``app/observability/http.py`` writes one that holds no query strings. Libraries are heard from ``warning``
    on.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``, for the gateway and the server.
        style: JSON lines, or text for a terminal.
        project: The Google Cloud project that traces belong to.
        stream: Where to write, in place of stdout.
    """
    # Python would print a record that cannot be written, arguments and all, on stderr.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.addFilter(_is_informative)
    handler.setFormatter(JsonFormatter(project) if style == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
        logger.setLevel(logging.NOTSET)
    for name in ("app", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True
