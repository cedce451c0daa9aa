"""``flashgate migrate plan``: what moving to another model changes, from each tenant's own recorded usage."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from app.cards import load_catalogue
from app.commands.admin import add_url_option, run_action
from app.commands.api import Refused
from app.commands.billing import parse_row
from app.domain.budget import NANO_PER_USD
from app.domain.migration_plan import TenantPlan, compare_cards, plan_migration

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from app.cards import Catalogue
    from app.commands.api import GatewayApi
    from app.domain.card import Card
    from app.domain.report import Row

    Get = Callable[[str], Any]
    """Calls the Admin API with a path, and returns the answer's JSON."""

_BY: Final = ("tenant", "model", "parameters")
_DAYS: Final = 30
_DAYS_MAX: Final = 3660


class UnknownModel(ValueError):
    """A name that no card has."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add ``plan``."""
    actions = parser.add_subparsers(dest="action", required=True)
    plan = actions.add_parser(
        "plan", help="show what another model would change for each tenant; exit 1 if it refuses something"
    )
    plan.add_argument("now", metavar="FROM", help="present model, by id or alias")
    plan.add_argument("planned", metavar="TO", help="model that would serve its requests")
    plan.add_argument("--tenant", help="only this tenant")
    plan.add_argument("--days", type=parse_days, default=_DAYS, help=f"days to look at; default: {_DAYS}")
    plan.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_url_option((plan,))


def run(arguments: Namespace) -> int:
    """Run the command."""
    return run_action({"plan": _plan}, arguments)


def _plan(api: GatewayApi, arguments: Namespace) -> tuple[str, int]:
    try:
        return plan(lambda path: api.call("GET", path).json(), arguments)
    except UnknownModel as error:
        raise Refused(str(error)) from error


def parse_days(text: str) -> int:
    """A number of days. Raises ValueError for anything else."""
    days = int(text)
    if not 1 <= days <= _DAYS_MAX:
        raise ValueError(text)
    return days


def plan(get: Get, arguments: Namespace) -> tuple[str, int]:
    """The plan, and the exit status. Raises UnknownModel."""
    catalogue = load_catalogue()
    now, planned = (_find_card(catalogue, name) for name in (arguments.now, arguments.planned))
    today = datetime.now(UTC).date()
    since = today - timedelta(days=arguments.days - 1)
    rows = list(_read_rows(get, arguments.tenant, since))
    plans = plan_migration(rows, now, planned)
    unknown = sum(row.spent.requests for row in rows if row.model is None)
    if arguments.json:
        text = _format_json(now, planned, plans, unknown, since)
    else:
        text = _format_text(now, planned, plans, unknown, arguments.days)
    return text, int(any(each.refused for each in plans.values()))


def _find_card(catalogue: Catalogue, name: str) -> Card:
    card = catalogue.resolve(name)
    if card is None:
        known = ", ".join(each.id for each in catalogue)
        raise UnknownModel(f"{name} has no card; there are {known}")
    return card


def _read_rows(get: Get, tenant: str | None, since: date) -> Iterator[Row]:
    query: dict[str, Any] = {"by": _BY, "since": since.isoformat()}
    if tenant is not None:
        query["tenant"] = tenant
    for line in get(f"/usage:report?{urlencode(query, doseq=True)}")["lines"]:
        yield parse_row(line | {"day": since.isoformat()})


def _format_json(now: Card, planned: Card, plans: dict[str, TenantPlan], unknown: int, since: date) -> str:
    document = {
        "from": now.id,
        "to": planned.id,
        "since": since.isoformat(),
        "differences": [each._asdict() for each in compare_cards(now, planned)],
        "tenants": [_build_document(each, now, planned) for each in plans.values()],
        "unknown_requests": unknown,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _build_document(each: TenantPlan, now: Card, planned: Card) -> dict[str, Any]:
    document = asdict(each)
    for name in ("usd", "refused_usd", "planned_usd"):
        document[name] = document[name] / NANO_PER_USD
    document["refusals"] = list(document["refusals"].values())
    return document | {"moved_usd": each.moved_usd / NANO_PER_USD, "write": _advise(each, now, planned)}


def _advise(each: TenantPlan, now: Card, planned: Card) -> str:
    """The line to write for a tenant."""
    if each.refused:
        return f"aliases: {{{now.id}: {now.id}}}"
    return f"aliases: {{{now.id}: {planned.id}}}"


def _format_text(now: Card, planned: Card, plans: dict[str, TenantPlan], unknown: int, days: int) -> str:
    lines = [f"{now.id} -> {planned.id}", ""]
    lines += [
        f"  {each.fact}: {each.now or 'none'} -> {each.planned or 'none'}"
        for each in compare_cards(now, planned)
    ]
    for each in plans.values():
        lines += ["", *_format_tenant(each, now, planned)]
    if not plans:
        lines += ["", f"No tenant has used {now.id} in the last {days} days."]
    if unknown:
        lines += [
            "",
            f"{unknown} requests are beyond the kinds of requests that a day records; they are left out.",
        ]
    if plans and not any(each.refused for each in plans.values()):
        lines += ["", f"For all tenants: FLASHGATE_MODEL_ALIASES={now.id}={planned.id}"]
    return "\n".join(lines) + "\n"


def _format_tenant(each: TenantPlan, now: Card, planned: Card) -> Iterator[str]:
    taken = each.requests - each.refused
    yield f"{each.tenant_id}: {each.requests} requests, {each.images} pictures, {_format_usd(each.usd)}"
    if taken:
        yield (
            f"  {taken} are served: {_format_usd(each.moved_usd)} -> {_format_usd(each.planned_usd)}, "
            f"{each.planned_image_tokens} image tokens"
        )
    if each.refused:
        yield f"  {each.refused} are refused, which cost {_format_usd(each.refused_usd)}:"
    for refusal in sorted(each.refusals.values(), key=lambda refusal: -refusal.requests):
        yield f"    {refusal.parameter}: {refusal.requests} requests; {refusal.why}"
    if each.conversations:
        yield f"  {each.conversations} continue a conversation; those that began before stay with {now.id}"
    purpose = "to stay until its callers have changed" if each.refused else "to move"
    yield f"  {purpose}: {_advise(each, now, planned)}"


def _format_usd(nano: int) -> str:
    return f"${nano / NANO_PER_USD:.6f}"
