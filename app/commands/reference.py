"""Generates REFERENCE.md from the code, so that it cannot be out of date."""

from __future__ import annotations

import json
import sys
from argparse import _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute

from app.cards import load_catalogue
from app.commands.parser import build_parser
from app.domain.acceptance import list_acceptances
from app.domain.failure import list_error_classes
from app.domain.validation import RULES
from app.domain.violation_codes import NOTICES, VIOLATIONS
from app.main import create_app
from app.observability.log_fields import FIELDS
from app.observability.metrics import METRICS
from app.settings.environment import SETTINGS, load_settings
from app.surfaces.gemini import routes as gemini
from app.surfaces.gemini.member_table import list_members
from app.surfaces.gemini.refused_members import REFUSED

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator, Mapping

    from fastapi import FastAPI
    from pydantic import BaseModel


HEAD = """\
# Reference

Generated from the code by `make reference`; a test checks that it is current.
"""


BEGINS = "<!-- What is refused, written by make reference -->\n\n"
ENDS = "<!-- until here -->\n"


def update_readme(readme: str, model: str) -> str:
    """Return the README with its table of rules updated from one model's card.

    Raises:
        ValueError: The README lacks the marks of the table.
    """
    card = load_catalogue().names[model]
    before, _, remainder = readme.partition(BEGINS)
    _, mark, after = remainder.partition(ENDS)
    if not mark:
        raise ValueError(f"the README does not hold {BEGINS.strip()} and {ENDS.strip()}")
    rows = (
        (acceptance.rule, acceptance.accepted, _format_codes(acceptance.codes))
        for acceptance in list_acceptances(card)
    )
    table = _render_table(("rule", f"accepted by {card.title}", "violations"), rows)
    return f"{before}{BEGINS}{table}{ENDS}{after}"


def _format_codes(codes: tuple[str, ...]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def render_reference(app: FastAPI, parser: ArgumentParser) -> str:
    """Render the document: routes, commands, error codes, settings and metrics, a table each."""
    tables = (
        ("Routes", ("route", "purpose"), _list_routes(app.openapi())),
        ("Commands", ("command", "purpose"), _list_commands(parser)),
        ("Error codes", ("status", "code", "retryable", "when"), _list_errors()),
        ("Violation codes", ("code", "meaning"), _list_meanings(VIOLATIONS)),
        ("Warning codes", ("code", "meaning"), _list_meanings(NOTICES)),
        ("Validation rules", ("rule", "accepts"), _list_rules()),
        ("Members of bodies in Google's dialect", ("message", "members", "counted as"), _list_members()),
        ("Refused members", ("members", "reason"), _list_refused_members()),
        ("Fields of log lines", ("field", "form", "meaning"), _list_log_fields()),
        ("Metrics", ("name", "kind", "labels", "meaning"), _list_metrics()),
    )
    written = "".join(f"\n## {title}\n\n{_render_table(names, rows)}" for title, names, rows in tables)
    return f"{HEAD}{written}\n## Settings\n{_list_settings()}"


def _render_table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [names, tuple("---" for _ in names), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _get_first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _list_routes(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"`{method.upper()} {path}`", _get_first_line(operation["description"])
    yield from _list_google_routes()
    yield "`GET /livez`", "Answer 200 while the process runs."
    yield (
        "`GET /readyz`",
        "Answer 200 if new requests would be served, else 503 with the reasons as JSON.",
    )
    yield (
        "`GET /metrics`",
        "Get the metrics for Prometheus, with an operator's key or on a separate port.",
    )
    yield "`GET /openapi.json`, `GET /docs`", "Get the OpenAPI document, and a page to browse and try it."


def _list_commands(parser: ArgumentParser) -> Iterator[tuple[str, ...]]:
    """List the commands that do something, not those that need another command after them."""
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way
        if not isinstance(action, _SubParsersAction):
            continue
        purposes = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
        for name, inner in action.choices.items():
            below = [each for each in inner._actions if isinstance(each, _SubParsersAction)]  # noqa: SLF001
            if not below or not below[0].required:
                yield f"`{inner.prog}`", purposes[name]
            yield from _list_commands(inner)


def _list_google_routes() -> Iterator[tuple[str, ...]]:
    """List the routes of Google's dialect, which are not in the OpenAPI document."""
    for route in gemini.router.routes:
        if isinstance(route, APIRoute):
            methods = " ".join(sorted(route.methods or ()))
            yield f"`{methods} {route.path}`", _get_first_line(route.endpoint.__doc__)


def _list_log_fields() -> Iterator[tuple[str, ...]]:
    for name, field in FIELDS.items():
        yield f"`{name}`", field.form, field.meaning


def _list_errors() -> Iterator[tuple[str, ...]]:
    for error in sorted(list_error_classes(), key=lambda each: (each.status, each.code)):
        if error.code != error.__base__.__dict__.get("code"):
            retryable = "no"
            if error.retryable:
                retryable = "yes"
            yield str(error.status), f"`{error.code}`", retryable, _get_first_line(error.__doc__)


def _list_meanings(codes: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for code, meaning in codes.items():
        yield f"`{code}`", meaning


def _list_rules() -> Iterator[tuple[str, ...]]:
    for rule in RULES:
        yield f"`{rule.__name__.removeprefix('check_')}`", _get_first_line(rule.__doc__)


def _list_members() -> Iterator[tuple[str, ...]]:
    for message, names, count in list_members():
        yield message if message == "the body" else f"`{message}`", names, count


def _list_refused_members() -> Iterator[tuple[str, ...]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(f"`{name}`")
    for reason, names in reasons.items():
        yield ", ".join(names), reason
    yield "any other", "the gateway does not know its cost or effect"


def _list_settings() -> str:
    """A table for each group of settings, under the first line of its class."""
    rows: dict[type[BaseModel], list[tuple[str, ...]]] = {}
    for variable, setting in SETTINGS.items():
        default = setting.field.default
        shown = ""
        if default not in (None, frozenset(), {}):
            shown = f"`{str(default).lower()}`"
        rows.setdefault(setting.owner, []).append((f"`{variable}`", shown, setting.field.description or ""))
    titled = ((_get_first_line(owner.__doc__).rstrip("."), group) for owner, group in rows.items())
    names = "variable", "default", "meaning"
    return "".join(f"\n### {title}\n\n{_render_table(names, group)}" for title, group in titled)


def _list_metrics() -> Iterator[tuple[str, ...]]:
    for metric in METRICS:
        yield f"`{metric.name}`", metric.kind, ", ".join(metric.labels), metric.help


def add_openapi_arguments(_parser: ArgumentParser) -> None:
    """``openapi`` has no arguments."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``reference``."""
    parser.add_argument("--readme", type=Path, help="update the table of rules in this file instead")


def run(arguments: Namespace) -> int:
    """Print the OpenAPI document or REFERENCE.md, or update the table of rules in the README."""
    settings = load_settings()
    if arguments.command == "openapi":
        document = create_app(settings).openapi()
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    elif arguments.readme is not None:
        text = update_readme(arguments.readme.read_text(), settings.surface.default_model)
        arguments.readme.write_text(text)
    else:
        sys.stdout.write(render_reference(create_app(settings), build_parser()))
    return 0
