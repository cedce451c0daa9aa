"""Logs: one JSON object per line on stdout, with Cloud Logging's field names.

Nothing that a caller wrote may reach a log (docs/reliability.md R68). Logs are not searched for secrets;
instead, only the following passes:

- the constant text of a message, and numbers among its arguments; all other arguments are withheld;
- the fields of ``FIELDS``, passed as ``extra=``, if they have the declared form;
- a ``Diagnosis``, passed as ``extra={"diagnosis": …}``, whose contract excludes callers' data;
- the type and the traceback of an exception. The message is included only for the gateway's errors, whose
  contract forbids quoting a request, and for known messages of the operating system and the store.

Messages that a library has already formatted may quote callers' data, so they are withheld.
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
from app.observability.log_fields import FIELDS
from app.resilience.diagnosis import Diagnosis, describe_for_log

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHHELD = "(withheld)"


class _Withheld:
    """Replaces an argument of a message, for any conversion."""

    def __repr__(self) -> str:
        return WITHHELD


_WORD = re.compile(r"[A-Za-z0-9._:/{}@+*-]{0,200}", re.ASCII)
_OWN = re.compile(r"app(\.|$)")
_UVICORN = re.compile(r"uvicorn(\.|$)")
# Messages of uvicorn whose arguments are addresses and process ids; others may hold what a client sent.
_UVICORN_STATES = ("Uvicorn running on", "Started ", "Finished ", "Stopping ", "Waiting ", "Shutting ")
# Messages of the event loop about tasks that nobody awaits; all lines but the first quote the task.
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
    """The ids that every log line of a request carries."""

    request_id: str
    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False


CORRELATION: ContextVar[Correlation | None] = ContextVar("correlation", default=None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(_WORD.fullmatch(value)) and not resembles_key(value)


def _filter_field(form: str, value: object) -> object:
    """The value if it has the field's form, else ``WITHHELD``."""
    if value is None:
        return None
    if form == "flag":
        fits = isinstance(value, bool)
    elif form == "number":
        fits = _is_number(value)
    elif form == "words":
        fits = isinstance(value, list) and all(map(_is_word, value))
    else:
        fits = _is_word(value)
    if fits:
        return value
    return WITHHELD


def _render_template(name: str, template: str) -> str:
    """The text of a record without arguments, if the logger writes only texts of its own."""
    if _OWN.match(name) or (_UVICORN.match(name) and "\n" not in template.strip()):
        return template.strip()
    first = template.partition("\n")[0]
    if name == "asyncio" and first in _LOOP_COMPLAINTS:
        return first
    return WITHHELD


def _render_message(record: logging.LogRecord) -> str:
    """The record's text without anything that a caller may have written."""
    template = WITHHELD
    if isinstance(record.msg, str):
        template = record.msg
    if isinstance(record.msg, OSError):
        template = _describe_error(record.msg)
    if _UVICORN.match(record.name) and template.startswith(_UVICORN_STATES):
        return record.getMessage()
    if not record.args:
        return _render_template(record.name, template)
    if not isinstance(record.args, tuple):
        return template
    try:
        return template % tuple(value if _is_number(value) else _Withheld() for value in record.args)
    except (TypeError, ValueError):  # such as %d with a withheld argument
        return template


def _render_frames(error: BaseException) -> Iterator[str]:
    """The frames of a traceback, with paths relative to the project and without source lines."""
    for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]:
        path = Path(frame.filename)
        name = path
        if path.is_relative_to(_PACKAGE_ROOT):
            name = path.relative_to(_PACKAGE_ROOT)
        yield f'  File "{name}", line {frame.lineno}, in {frame.name}'


def _get_safe_words(error: BaseException) -> str:
    """As much of an error's message as a log may show."""
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, GatewayError):
        return error.detail
    words = describe_for_log(error)
    if words is None:
        return WITHHELD
    return words


def _describe_error(error: BaseException) -> str:
    """The type of an error, and as much of its message as a log may show."""
    words = _get_safe_words(error)
    if words:
        return f"{type(error).__qualname__}: {words}"
    return type(error).__qualname__


def format_stack_trace(error: BaseException) -> str:
    """A traceback in Python's format, causes first, with the messages of foreign exceptions withheld."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _CHAIN_MAX and current not in chain:
        chain.append(current)
        if current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__
    lines: list[str] = []
    for link in reversed(chain):
        lines += ["Traceback (most recent call last):", *_render_frames(link)]
        lines.append(_describe_error(link))
        if isinstance(link, BaseExceptionGroup):
            lines += [f"  | {_describe_error(part)}" for part in link.exceptions]
    return "\n".join(lines)


def build_entry(record: logging.LogRecord, project: str | None) -> dict[str, Any]:
    """One log entry in Cloud Logging's format; ``project`` is the one that traces belong to."""
    entry: dict[str, Any] = {
        "severity": record.levelname if record.levelno <= logging.CRITICAL else "CRITICAL",
        "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        "message": _render_message(record),
        "logger": record.name,
    }
    correlation = CORRELATION.get()
    if correlation is not None:
        entry["request_id"] = _filter_field("word", correlation.request_id)
        if correlation.trace_id:
            entry |= {"trace_id": correlation.trace_id, "span_id": correlation.span_id}
        if correlation.trace_id and project:
            entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{correlation.trace_id}"
            if correlation.span_id:
                entry["logging.googleapis.com/spanId"] = correlation.span_id
            entry["logging.googleapis.com/trace_sampled"] = correlation.sampled
    attributes = record.__dict__
    entry |= {
        name: _filter_field(form, attributes[name])
        for name, (form, _) in FIELDS.items()
        if attributes.get(name) is not None
    }
    if isinstance(attributes.get("http_request"), dict):
        entry["httpRequest"] = {
            name: value if _is_number(value) else _filter_field("word", value)
            for name, value in attributes["http_request"].items()
        }
    diagnosis = attributes.get("diagnosis")
    if isinstance(diagnosis, Diagnosis):
        entry |= {name: words for name, words in asdict(diagnosis).items() if words}
    error = None
    if record.exc_info:
        error = record.exc_info[1]
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
    """Writes one JSON object per line. ``project`` is the Google Cloud project of traces, or None."""

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as JSON."""
        return json.dumps(build_entry(record, self._project), ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Writes the same facts as text, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as a line; a stack trace follows on further lines."""
        entry = build_entry(record, None)
        head = f"{entry.pop('time')[11:23]} {entry.pop('severity'):<8} {entry.pop('message')}"
        stack = entry.pop("stack_trace", None)
        entry.pop("logging.googleapis.com/sourceLocation", None)
        request = entry.pop("httpRequest", {})
        values = {name: _format_value(value) for name, value in (entry | request).items()}
        fields = " ".join(f"{name}={value}" for name, value in values.items())
        line = f"{head} [{fields}]"
        if stack:
            return f"{line}\n{stack}"
        return line


def _is_informative(record: logging.LogRecord) -> bool:
    """False for uvicorn's traceback of a failed start, which would be withheld and is already logged."""
    return not (_UVICORN.match(record.name) and str(record.msg).startswith("Traceback "))


def _format_value(value: object) -> object:
    if isinstance(value, str) and " " in value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    return value


def configure(
    level: str,
    style: Literal["json", "text"] = "json",
    project: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send every logger through one handler on stdout. Call it once, before the server starts.

    uvicorn's loggers go through it too (run it with ``log_config=None``). Its access log is off, because
    ``app/observability/http.py`` writes one without query strings. Libraries log from ``warning`` on.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``, for the gateway and the server.
        style: JSON lines, or text for a terminal.
        project: The Google Cloud project that traces belong to.
        stream: The output, stdout by default.
    """
    # Otherwise Python would print a record that cannot be written on stderr, with its arguments.
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
