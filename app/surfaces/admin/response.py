"""Renders records, budget windows and reports as responses of the Admin API."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from app.surfaces.admin.wire import (
    AuditEventWire,
    AuditWire,
    CredentialStatesWire,
    CredentialStateWire,
    IssuedKeyWire,
    KeyWire,
    LiveRequestsWire,
    LiveRequestWire,
    PurgeWire,
    ReportLineWire,
    TenantWire,
    UsageLineWire,
)
from app.surfaces.http.amounts import render_amounts
from app.surfaces.http.reports import UseWire, render_spent
from app.tenants.limits import datetime_from_ms
from app.tenants.schema import KeyDocument, TenantDocument

FORMULA = "=+-@\t\r"
"""Characters that start a formula in a spreadsheet."""

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.domain.audit import AuditEvent
    from app.domain.credential_state import CredentialState
    from app.domain.report import Dimension, Line
    from app.domain.tenancy import Key, TenantRecord
    from app.observability.live import LiveRequest
    from app.tenants.administration import IssuedKey, UsageLine


def render_key(key: Key, last_used_ms: int | None = None) -> KeyWire:
    """Render a key without its secrets."""
    document = KeyDocument.from_key(key)
    retiring = document.retiring
    return KeyWire(
        **document.model_dump(exclude={"hash", "retiring"}),
        retiring_until=None if retiring is None else retiring.not_after,
        last_used_at=None if last_used_ms is None else datetime_from_ms(last_used_ms),
    )


def render_tenant(record: TenantRecord) -> TenantWire:
    """Render a tenant."""
    keys = [render_key(key) for key in record.tenant.keys]
    fields = TenantDocument.from_tenant(replace(record.tenant, keys=())).model_dump(exclude={"keys"})
    return TenantWire(**fields, keys=keys, source=record.source)


def render_issued_key(issued: IssuedKey) -> IssuedKeyWire:
    """Render a new key with its secret."""
    return IssuedKeyWire(**dict(render_key(issued.key)), key=issued.text)


def render_usage_line(line: UsageLine) -> UsageLineWire:
    """Render a budget window with its tenant, project and key."""
    return UsageLineWire(
        tenant=line.tenant_id,
        project=line.project_id,
        key=line.key_id,
        user=line.user_id,
        **render_amounts(line.window),
        starts_at=datetime_from_ms(line.window.span.start_ms),
    )


def render_usage_csv(lines: Iterable[UsageLine]) -> str:
    """Render budget windows as CSV (RFC 4180) with a header; ids cannot contain formulas."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(UsageLineWire.model_fields))
    writer.writeheader()
    for line in lines:
        writer.writerow(render_usage_line(line).model_dump(mode="json"))
    return text.getvalue()


def render_report(lines: Iterable[Line], by: tuple[Dimension, ...]) -> list[ReportLineWire]:
    """Render the lines of a report."""
    return [
        ReportLineWire.model_validate(
            {**render_spent(line.spent).model_dump(), **dict(zip(by, line.heading, strict=True))}
        )
        for line in lines
    ]


def render_report_csv(lines: Iterable[ReportLineWire], by: tuple[Dimension, ...]) -> str:
    """Render a report as CSV, dimensions first. Labels and names are free text, so formulas are escaped."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*by, *UseWire.model_fields], extrasaction="ignore")
    writer.writeheader()
    for line in lines:
        row = line.model_dump(mode="json")
        for name in ("label", "key_name"):
            if row[name] is not None and row[name][0] in FORMULA:
                row[name] = f"'{row[name]}"
        writer.writerow(row)
    return text.getvalue()


def render_purge(purged: Mapping[str, int]) -> PurgeWire:
    """Render the time of the purge by tenant."""
    return PurgeWire(
        purged_until={tenant_id: datetime_from_ms(unix_ms) for tenant_id, unix_ms in purged.items()}
    )


def render_audit_page(events: tuple[AuditEvent, ...], limit: int) -> AuditWire:
    """Render a page of the audit log."""
    page = [
        AuditEventWire(
            id=event.id,
            at=datetime_from_ms(event.at_ms),
            action=event.action,
            operator=event.operator,
            tenant=event.tenant_id,
            key=event.key_id,
            changed=list(event.changed),
            fingerprint=event.fingerprint,
            detail=event.detail,
            request_id=event.request_id,
        )
        for event in events
    ]
    return AuditWire(events=page, next_before=events[-1].id if len(events) == limit else None)


def render_credentials(credentials: list[CredentialState]) -> CredentialStatesWire:
    """Render the credentials of the back ends."""
    rows = []
    for each in credentials:
        rests_s = {model: round(rest_s, 1) for model, rest_s in each.rests_s.items()}
        rows.append(CredentialStateWire(**{**asdict(each), "rests_s": rests_s, "pools": list(each.pools)}))
    return CredentialStatesWire(credentials=rows)


def render_live_requests(requests: list[LiveRequest]) -> LiveRequestsWire:
    """Render what is under way."""
    names = [name for name in LiveRequestWire.model_fields if name not in {"age_s", "attempts"}]
    return LiveRequestsWire(
        requests=[
            LiveRequestWire(
                **{name: each.fields.get(name) for name in names},
                attempts=each.fields.get("attempts", 0),
                age_s=round(each.age_s, 1),
            )
            for each in requests
        ]
    )
