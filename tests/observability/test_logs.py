"""Logs hold what operators need, and nothing that a caller wrote."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import re
import socket
import ssl
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

from app.domain.errors import BudgetExceeded, ConfigurationError, ContentBlocked, ValidationFailed, Violation
from app.domain.keys import ENTROPY_BYTES, mint
from app.observability import logs
from app.observability.log_fields import FIELDS
from app.observability.logs import CORRELATION, WITHHELD, Correlation, configure
from app.resilience.diagnosis import Diagnosis
from app.store import diagnosis as _registers_the_words_of_the_store  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "CANARY-7f3 a fox in the snow"
KEY = mint("prod", bytes(range(ENTROPY_BYTES))).text
OWN = logging.getLogger("app.somewhere")


class Written:
    """What the configured handler wrote."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def entry(self) -> dict[str, Any]:
        (only,) = self.entries
        return only


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Logging is the process's own; leave it as it was."""
    names = (None, "app", "uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, one.level, one.handlers[:], one.propagate, one.disabled) for one in loggers]
    raising = logging.raiseExceptions
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        logging.raiseExceptions = raising
        for one, level, handlers, propagate, disabled in before:
            one.setLevel(level)
            one.handlers[:], one.propagate, one.disabled = handlers, propagate, disabled


@pytest.fixture
def written() -> Written:
    found = Written()
    configure("info", "json", "a-project", found.stream)
    return found


def test_a_line_is_what_cloud_logging_reads(written: Written) -> None:
    OWN.info("settled", extra={"tenant": "search", "duration_s": 1.5, "late": False})
    entry = written.entry
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "severity": "INFO",
        "message": "settled",
        "logger": "app.somewhere",
        "tenant": "search",
        "duration_s": 1.5,
        "late": False,
    }


def test_a_warning_says_where_it_was_logged(written: Written) -> None:
    OWN.warning("careful")
    location = written.entry["logging.googleapis.com/sourceLocation"]
    assert location["file"] == "test_logs.py"
    assert location["function"] == "test_a_warning_says_where_it_was_logged"


def test_lines_of_a_request_carry_its_id_and_trace(written: Written) -> None:
    token = CORRELATION.set(Correlation("r-1", "a" * 32, "b" * 16, sampled=True))
    OWN.info("inside")
    CORRELATION.reset(token)
    OWN.info("outside")
    inside, outside = written.entries
    assert inside["request_id"] == "r-1"
    assert inside["logging.googleapis.com/trace"] == "projects/a-project/traces/" + "a" * 32
    assert inside["logging.googleapis.com/spanId"] == "b" * 16
    assert inside["logging.googleapis.com/trace_sampled"] is True
    assert "request_id" not in outside
    assert "logging.googleapis.com/trace" not in outside


def test_fields_that_are_not_on_the_list_are_dropped(written: Written) -> None:
    OWN.info("settled", extra={"prompt": CANARY, "authorization": KEY, "tenant": "search"})
    assert set(written.entry) == {"severity", "time", "message", "logger", "tenant"}


@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("value", [CANARY, KEY, "line\nbreak", b"bytes", [CANARY], {"a": CANARY}, object()])
def test_a_listed_field_holds_its_own_form_alone(written: Written, name: str, value: object) -> None:
    OWN.info("settled", extra={name: value})
    assert written.entry[name] == "(withheld)"


@pytest.mark.parametrize(
    ("template", "arguments", "message"),
    [
        ("took %d of %.1f", (3, 4.25), "took 3 of 4.2"),
        ("saw %s", (CANARY,), "saw (withheld)"),
        ("saw %d", (CANARY,), "saw %d"),
        ("saw %r and %s", (KEY, 5), "saw (withheld) and 5"),
        ("too few %s %s", (5,), "too few %s %s"),
        ("named %(prompt)s", ({"prompt": CANARY},), "named %(prompt)s"),
        ("100%", (), "100%"),
    ],
)
@pytest.mark.parametrize("name", ["app.generation.gateway", "redis", "asyncio", "uvicorn.error"])
def test_of_arguments_only_numbers_are_written(
    written: Written, name: str, template: str, arguments: tuple[object, ...], message: str
) -> None:
    logging.getLogger(name).error(template, *arguments)
    withheld = not arguments and name in {"redis", "asyncio"}
    assert written.entry["message"] == ("(withheld)" if withheld else message)


def test_no_message_of_the_gateways_own_has_an_argument_that_would_be_withheld() -> None:
    calls = re.compile(r'\blog\.\w+\(\s*(?:\w+, )?"[^"]*%[^d.]')
    modules = Path("app").rglob("*.py")
    assert [str(path) for path in modules if calls.search(path.read_text())] == []


def test_a_librarys_finished_text_is_withheld_whatever_it_says(written: Written) -> None:
    logging.getLogger("google_genai.models").error(f"request failed: {CANARY}")  # noqa: G004 - what libraries do
    logging.getLogger("app_of_somebody_else").error(CANARY)
    logging.getLogger("x").error(ValueError(CANARY))
    assert [entry["message"] for entry in written.entries] == ["(withheld)"] * 3


def test_libraries_are_heard_from_warning_on(written: Written) -> None:
    logging.getLogger("httpx2").info("HTTP Request: %s", f"https://host/?key={KEY}")
    logging.getLogger("app.x").debug("not at this level")
    logging.getLogger("httpx2").warning("slow")
    assert [entry["logger"] for entry in written.entries] == ["httpx2"]


def test_the_servers_own_states_are_told_and_its_quotes_of_clients_are_not(written: Written) -> None:
    server = logging.getLogger("uvicorn.error")
    server.info("Uvicorn running on http://%s:%d (Press CTRL+C to quit)", "127.0.0.1", 8080)
    server.info("Started server process [%d]", 7)
    server.info("Application startup complete.")
    server.info('%s - "WebSocket %s" 403', "1.2.3.4", f"/v1?key={KEY}")
    server.error(f"Traceback (most recent call last):\n  x\nValueError: {CANARY}")
    logging.getLogger("uvicorn.access").info('%s - "%s %s"', "1.2.3.4", "GET", f"/?key={KEY}")
    assert [entry["message"] for entry in written.entries] == [
        "Uvicorn running on http://127.0.0.1:8080 (Press CTRL+C to quit)",
        "Started server process [7]",
        "Application startup complete.",
        '(withheld) - "WebSocket (withheld)" 403',
    ]


def raise_with(canary: str) -> None:
    raise ValueError(f"cannot draw {canary}")


def test_a_foreign_exception_is_told_by_type_and_place_without_its_words(written: Written) -> None:
    try:
        raise_with(CANARY)
    except ValueError:
        OWN.exception("a request failed")
    entry = written.entry
    assert entry["error_type"] == "ValueError"
    first, *frames, last = entry["stack_trace"].splitlines()
    assert first == "Traceback (most recent call last):"
    assert frames[-1].startswith('  File "tests/observability/test_logs.py", line ')
    assert frames[-1].endswith(", in raise_with")
    assert last == "ValueError: (withheld)"


def test_a_chain_of_causes_and_a_group_are_told_by_type(written: Written) -> None:
    try:
        try:
            raise_with(CANARY)
        except ValueError as error:
            raise ExceptionGroup(CANARY, [KeyError(CANARY), BudgetExceeded("1120 asked", (), 9)]) from error
    except ExceptionGroup:
        OWN.exception("a request failed")
    last = [line for line in written.entry["stack_trace"].splitlines() if not line.startswith("  File")]
    assert last == [
        "Traceback (most recent call last):",
        "ValueError: (withheld)",
        "Traceback (most recent call last):",
        "ExceptionGroup: (withheld)",
        "  | KeyError: (withheld)",
        "  | BudgetExceeded: 1120 asked",
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BudgetExceeded("1120 asked, 7 left", (), 9), "BudgetExceeded: 1120 asked, 7 left"),
        (ConfigurationError("a.yaml", ("x: y",)), "ConfigurationError: a.yaml: one fault\n  - x: y"),
        (ContentBlocked("blocked", reason="SAFETY"), "ContentBlocked: blocked"),
        (
            ValidationFailed((Violation("/prompt", "empty", CANARY),)),
            "ValidationFailed: One violation was found.",
        ),
    ],
)
def test_the_gateways_errors_keep_their_words(written: Written, error: Exception, words: str) -> None:
    OWN.error("refused", exc_info=error)
    assert written.entry["stack_trace"].endswith(words)


def test_an_exception_that_is_its_own_cause_ends(written: Written) -> None:
    error = ValueError(CANARY)
    error.__cause__ = error
    OWN.error("odd", exc_info=error)
    assert written.entry["stack_trace"].count("ValueError") == 1


async def test_what_asyncio_says_of_a_forgotten_failure_holds_no_words_of_it(written: Written) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"never retrieved {CANARY}", "exception": ValueError(CANARY)}
    )
    assert written.entry["error_type"] == "ValueError"
    assert "CANARY" not in written.text


def test_warnings_become_lines_without_their_words(written: Written) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(CANARY, stacklevel=1)
    assert written.entry["logger"] == "py.warnings"
    assert "CANARY" not in written.text


def test_a_record_that_cannot_be_written_prints_nothing_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    configure("info", "json", None, stream)
    stream.close()
    OWN.info("settled", CANARY)
    assert capsys.readouterr() == ("", "")


def test_text_for_a_terminal_holds_the_same_and_no_more() -> None:
    found = Written()
    configure("debug", "text", None, found.stream)
    try:
        raise_with(CANARY)
    except ValueError:
        OWN.exception("failed for %s", CANARY, extra={"tenant": "search", "prompt": CANARY})
    head, *stack = found.text.splitlines()
    assert head[12:].startswith(" ERROR    failed for (withheld) [logger=app.somewhere tenant=search")
    assert stack[-1] == "ValueError: (withheld)"
    assert "CANARY" not in found.text


def test_configuring_twice_writes_once() -> None:
    first, second = Written(), Written()
    configure("info", "json", None, first.stream)
    configure("info", "json", None, second.stream)
    OWN.info("once")
    assert first.text == ""
    assert len(second.entries) == 1


def test_python_itself_would_have_told_everything() -> None:
    """The canary is real: the standard formatting of the same exception holds it."""
    with pytest.raises(ValueError, match=CANARY) as caught:
        raise_with(CANARY)
    assert CANARY in "".join(traceback.format_exception(caught.value))
    assert CANARY not in logs.format_stack_trace(caught.value)


def test_a_diagnosis_is_shown_whole(written: Written) -> None:
    found = Diagnosis(
        "no_space", "/var/lib/a folder", "OSError: ENOSPC: No space left on device", "Free space"
    )
    OWN.error("the journal cannot be written", extra={"diagnosis": found})
    entry = written.entry
    assert {name: entry[name] for name in ("reason", "address", "cause", "remedy")} == asdict(found)


@pytest.mark.parametrize("value", [CANARY, {"reason": CANARY}, None])
def test_what_is_no_diagnosis_is_not_shown_as_one(written: Written, value: object) -> None:
    OWN.error("failed", extra={"diagnosis": value})
    assert CANARY not in written.text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, CANARY, CANARY), "OSError: ENOSPC: No space left on device"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, CANARY),
            "ConnectionRefusedError: ECONNREFUSED: Connection",
        ),
        (
            OSError(f"Multiple exceptions: [Errno 111] {CANARY}, [Errno 99]"),
            "OSError: ECONNREFUSED: Connection",
        ),
        (OSError(CANARY), "OSError"),
        (TimeoutError(), "TimeoutError: timed out"),
        (socket.gaierror(socket.EAI_NONAME, CANARY), "gaierror: EAI_NONAME: Name or service not known"),
        (ssl.SSLError(1, CANARY), "SSLError: TLS"),
        (
            redis.exceptions.NoPermissionError("User a has no permissions to run the 'get' command"),
            "run the 'get'",
        ),
        (redis.exceptions.NoPermissionError(CANARY), "NoPermissionError: NOPERM"),
        (
            redis.exceptions.ResponseError(f"unknown command 'GET', with args beginning with: {CANARY}"),
            "'GET'",
        ),
        (redis.exceptions.ResponseError(f"user_script:12: {CANARY}"), "ResponseError: user_script:12"),
        (redis.exceptions.ResponseError(CANARY), "ResponseError: CANARY"),
        (redis.exceptions.InvalidResponse(CANARY), "InvalidResponse"),
        (redis.exceptions.RedisClusterException(CANARY), "RedisClusterException"),
    ],
    ids=lambda value: str(value).replace(CANARY, "canary"),
)
def test_of_errors_of_the_system_and_the_store_what_is_their_own_is_told(
    written: Written, error: Exception, told: str
) -> None:
    OWN.error("failed", exc_info=error)
    last = written.entry["stack_trace"].splitlines()[-1]
    assert told in last
    assert WITHHELD not in last
    assert "a fox" not in written.text


def test_uvicorns_traceback_of_a_failed_start_is_left_to_the_application(written: Written) -> None:
    logging.getLogger("uvicorn.error").error("Traceback (most recent call last):\n  ...\nValueError: words")
    assert written.text == ""
    logging.getLogger("uvicorn.error").error(OSError(errno.EADDRINUSE, CANARY))
    assert written.entry["message"] == "OSError: EADDRINUSE: Address already in use"


def test_of_what_the_event_loop_complains_of_the_complaint_is_told_and_the_work_is_not(
    written: Written,
) -> None:
    log = logging.getLogger("asyncio")
    log.error(f"Future exception was never retrieved\nfuture: <Future exception=ValueError({CANARY!r})>")  # noqa: G004
    log.error(f"Exception in callback {CANARY}\nhandle: <Handle>")  # noqa: G004
    messages = [entry["message"] for entry in written.entries]
    assert messages == ["Future exception was never retrieved", WITHHELD]
    assert CANARY not in written.text


def test_words_with_spaces_are_quoted_in_text() -> None:
    stream = io.StringIO()
    configure("info", "text", stream=stream)
    OWN.error("failed", extra={"diagnosis": Diagnosis("r", "h:1", "two words", "")})
    assert stream.getvalue().rstrip().endswith('reason=r address=h:1 cause="two words"]')
