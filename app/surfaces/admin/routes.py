"""Routes of administration: tenants, keys, usage, purges and the audit log."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from app.domain.report import Dimension, select_dearest
from app.surfaces.admin.auth import OperatorDep
from app.surfaces.admin.request import (
    format_etag,
    parse_body,
    parse_credit,
    parse_dimensions,
    parse_identity,
    parse_if_match,
    parse_key,
    parse_override,
    parse_patch,
    parse_purge,
    tenant_of,
)
from app.surfaces.admin.response import (
    render_audit_page,
    render_credentials,
    render_issued_key,
    render_key,
    render_live_requests,
    render_purge,
    render_report,
    render_report_csv,
    render_tenant,
    render_usage_csv,
    render_usage_line,
)
from app.surfaces.admin.wire import (
    EVENT_ID,
    AdminUsageWire,
    AuditWire,
    CredentialStatesWire,
    IssuedKeyWire,
    KeyRotation,
    KeysWire,
    KeyWire,
    LiveRequestsWire,
    PurgeWire,
    ReportWire,
    TenantsWire,
    TenantWire,
    UsageLineWire,
)
from app.surfaces.http.body import read_json
from app.surfaces.http.context import Service, ServiceDep
from app.surfaces.http.problems import PROBLEMS
from app.surfaces.http.reports import resolve_days

router = APIRouter(prefix="/v1/admin", tags=["admin"])

EVENTS_MAX = 1000
TOP_MAX = 10_000
IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="ETag of the tenant to change; 428 without it.")
]
_ETAG: dict[str, Any] = {"ETag": {"description": "ETag of this version.", "schema": {"type": "string"}}}
_READ = (401, 403, 404, 503)
_WRITE = (400, 401, 403, 404, 409, 412, 413, 415, 422, 503)


def _describe_csv(description: str) -> dict[str, Any]:
    """Describe a response that is JSON or CSV."""
    return {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": description}


def _describe_responses(
    *statuses: int, success: dict[int | str, dict[str, Any]] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Describe problems by status, and headers or content of a success."""
    return {**{status: PROBLEMS[status] for status in statuses}, **(success or {})}


def _describe_body(schema: str, *media_types: str, required: bool = True) -> dict[str, Any]:
    schema_of = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    content = dict.fromkeys(media_types or ("application/json",), schema_of)
    return {"requestBody": {"required": required, "content": content}}


async def _read_members(request: Request, service: Service) -> dict[str, Any]:
    body = await read_json(request, service.limits)
    members: dict[str, Any] = body.restore(body.members)
    return members


async def _read_optional_members(request: Request, service: Service) -> dict[str, Any]:
    """Read the members of an optional body."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return {}
    return await _read_members(request, service)


@router.get(
    "/tenants",
    operation_id="list_tenants",
    responses=_describe_responses(401, 403, 503),
    response_model=TenantsWire,
)
async def list_tenants(_operator: OperatorDep, service: ServiceDep) -> TenantsWire:
    """List all tenants with their keys, sorted by id, including those of the file."""
    return TenantsWire(
        tenants=[render_tenant(record) for record in await service.administration.list_tenants()]
    )


@router.post(
    "/tenants",
    operation_id="create_tenant",
    status_code=201,
    responses=_describe_responses(*_WRITE, success={201: {"headers": _ETAG}}),
    openapi_extra=_describe_body("TenantDocument"),
)
async def create_tenant(
    request: Request, response: Response, operator: OperatorDep, service: ServiceDep
) -> TenantWire:
    """Create a tenant, in the format of the tenants' file."""
    tenant = tenant_of(await _read_members(request, service), service.gateway.catalogue)
    record = await service.administration.create_tenant(operator, tenant)
    response.headers["ETag"] = format_etag(record.version)
    response.headers["Location"] = f"/v1/admin/tenants/{record.tenant.id}"
    return render_tenant(record)


@router.get(
    "/tenants/{tenant_id}",
    operation_id="get_tenant",
    responses=_describe_responses(*_READ, success={200: {"headers": _ETAG}}),
)
async def get_tenant(
    tenant_id: str, response: Response, _operator: OperatorDep, service: ServiceDep
) -> TenantWire:
    """Get a tenant; changes require its ETag."""
    record = await service.administration.get_tenant(tenant_id)
    response.headers["ETag"] = format_etag(record.version)
    return render_tenant(record)


@router.patch(
    "/tenants/{tenant_id}",
    operation_id="change_tenant",
    responses=_describe_responses(*_WRITE, 428, success={200: {"headers": _ETAG}}),
    openapi_extra=_describe_body("TenantPatch", "application/merge-patch+json", "application/json"),
)
async def change_tenant(
    tenant_id: str,
    request: Request,
    response: Response,
    operator: OperatorDep,
    service: ServiceDep,
    if_match: IfMatch = None,
) -> TenantWire:
    """Change a tenant by a JSON merge patch (RFC 7396); every replica applies it within seconds."""
    change = parse_patch(await _read_members(request, service), service.gateway.catalogue)
    expected = parse_if_match(if_match)
    record = await service.administration.change_tenant(operator, tenant_id, expected, change)
    response.headers["ETag"] = format_etag(record.version)
    return render_tenant(record)


@router.delete(
    "/tenants/{tenant_id}",
    operation_id="delete_tenant",
    status_code=204,
    responses=_describe_responses(401, 403, 404, 409, 412, 428, 503),
)
async def delete_tenant(
    tenant_id: str, operator: OperatorDep, service: ServiceDep, if_match: IfMatch = None
) -> Response:
    """Delete a tenant, its keys, pictures and generations; its usage is kept in case it is created again."""
    await service.administration.delete_tenant(operator, tenant_id, parse_if_match(if_match))
    return Response(status_code=204)


@router.get("/tenants/{tenant_id}/keys", operation_id="list_keys", responses=_describe_responses(*_READ))
async def list_keys(tenant_id: str, _operator: OperatorDep, service: ServiceDep) -> KeysWire:
    """List the keys of a tenant without their secrets, and when each was last used."""
    record = await service.administration.get_tenant(tenant_id)
    last_used = await service.reports.read_last_used(tenant_id, tuple(key.id for key in record.tenant.keys))
    return KeysWire(keys=[render_key(key, last_used.get(key.id)) for key in record.tenant.keys])


@router.post(
    "/tenants/{tenant_id}/keys",
    operation_id="create_key",
    status_code=201,
    responses=_describe_responses(*_WRITE),
    openapi_extra=_describe_body("KeyCreation"),
)
async def create_key(
    tenant_id: str, request: Request, operator: OperatorDep, service: ServiceDep
) -> IssuedKeyWire:
    """Create a key; only this response contains the full key, in `key`."""
    template, env = parse_key(await _read_members(request, service), service.gateway.catalogue)
    issued = await service.administration.create_key(operator, tenant_id, template, env=env)
    return render_issued_key(issued)


@router.post(
    "/tenants/{tenant_id}/identities",
    operation_id="create_identity",
    status_code=201,
    responses=_describe_responses(*_WRITE),
    openapi_extra=_describe_body("IdentityCreation"),
)
async def create_identity(
    tenant_id: str, request: Request, operator: OperatorDep, service: ServiceDep
) -> KeyWire:
    """Create a key without a secret for a Google account, which authenticates with its ID tokens."""
    template = parse_identity(await _read_members(request, service), service.gateway.catalogue)
    return render_key(await service.administration.create_identity(operator, tenant_id, template))


@router.post(
    "/tenants/{tenant_id}/keys/{key_id}:rotate",
    operation_id="rotate_key",
    responses=_describe_responses(*_WRITE),
    openapi_extra=_describe_body("KeyRotation", required=False),
)
async def rotate_key(
    tenant_id: str, key_id: str, request: Request, operator: OperatorDep, service: ServiceDep
) -> IssuedKeyWire:
    """Rotate the secret of a key; the previous one stays valid for `grace_s` seconds."""
    rotation = parse_body(KeyRotation, await _read_optional_members(request, service))
    issued = await service.administration.rotate_key(
        operator, tenant_id, key_id, env=rotation.env, grace_s=rotation.grace_s
    )
    return render_issued_key(issued)


@router.post(
    "/tenants/{tenant_id}/keys/{key_id}:revoke",
    operation_id="revoke_key",
    status_code=204,
    responses=_describe_responses(401, 403, 404, 409, 503),
)
async def revoke_key(tenant_id: str, key_id: str, operator: OperatorDep, service: ServiceDep) -> Response:
    """Revoke a key permanently, on every replica within three seconds."""
    await service.administration.revoke_key(operator, tenant_id, key_id)
    return Response(status_code=204)


@router.post(
    "/tenants/{tenant_id}/budgets:credit",
    operation_id="credit_budget",
    responses=_describe_responses(400, 401, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=_describe_body("CreditRequest"),
)
async def credit_budget(
    tenant_id: str, request: Request, operator: OperatorDep, service: ServiceDep
) -> UsageLineWire:
    """Add prepaid credit to a lifetime budget, or take some back; repeats of a `credit_id` are ignored."""
    name, amount, credit_id = parse_credit(await _read_members(request, service))
    return render_usage_line(
        await service.administration.credit_budget(operator, tenant_id, name, amount, credit_id)
    )


@router.post(
    "/tenants/{tenant_id}/budgets:override",
    operation_id="override_budget",
    responses=_describe_responses(400, 401, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=_describe_body("OverrideRequest"),
)
async def override_budget(
    tenant_id: str, request: Request, operator: OperatorDep, service: ServiceDep
) -> UsageLineWire:
    """Override the limit of a budget for a time, also for tenants of the file."""
    name, limit, until_ms = parse_override(await _read_members(request, service))
    return render_usage_line(
        await service.administration.override_budget(operator, tenant_id, name, limit, until_ms)
    )


@router.get(
    "/usage",
    operation_id="get_usage_of_tenants",
    response_model=AdminUsageWire,
    responses=_describe_responses(*_READ, 422, success={200: _describe_csv("The windows.")}),
)
async def get_usage_of_tenants(
    _operator: OperatorDep,
    service: ServiceDep,
    tenant: Annotated[str | None, Query(description="Only this tenant.")] = None,
    user: Annotated[
        str | None, Query(min_length=1, description="Name or id (`usr_…`) of an end user.")
    ] = None,
    form: Annotated[
        Literal["json", "csv"], Query(alias="format", description="Format: json or csv.")
    ] = "json",
) -> AdminUsageWire | Response:
    """List the current budget windows by tenant, project and key: limit, settled, held and remaining.

    With `user`, the windows of that end user are listed too.
    """
    lines = await service.administration.list_usage(tenant, user)
    if form == "csv":
        return Response(render_usage_csv(lines), media_type="text/csv")
    return AdminUsageWire(windows=[render_usage_line(line) for line in lines])


@router.get(
    "/usage:report",
    operation_id="report_usage",
    response_model=ReportWire,
    responses=_describe_responses(*_READ, 422, success={200: _describe_csv("The lines.")}),
)
async def report_usage(
    _operator: OperatorDep,
    service: ServiceDep,
    tenant: Annotated[str | None, Query(description="Only this tenant.")] = None,
    since: Annotated[
        date | None, Query(description="First day, UTC; the first of the month if omitted.")
    ] = None,
    until: Annotated[date | None, Query(description="Last day, UTC; today if omitted.")] = None,
    by: Annotated[
        list[Dimension] | None, Query(description="Dimensions to sum by, in order; tenant if omitted.")
    ] = None,
    top: Annotated[
        int | None,
        Query(ge=1, le=TOP_MAX, description="Only so many lines, those that cost most, dearest first."),
    ] = None,
    form: Annotated[
        Literal["json", "csv"], Query(alias="format", description="Format: json or csv.")
    ] = "json",
) -> ReportWire | Response:
    """Report usage and savings by tenant, time, project, key, model, size, tier, label, user or parameters.

    Callers choose the labels: a request with two labels counts for both, and one without for none. End users
    are listed by their ids; `GET /v1/admin/usage?user=` tells the id of a name. A request counts for each
    `parameter` that it used (size, ratio, `seed`, …), and once for all its `parameters` together.
    """
    first, last = resolve_days(since, until, service.limits.usage_days)
    dimensions = parse_dimensions(by)
    sums = await service.administration.report(tenant, first, last, dimensions)
    if top is not None:
        sums = select_dearest(sums, top)
    lines = render_report(sums, dimensions)
    if form == "csv":
        return Response(render_report_csv(lines, dimensions), media_type="text/csv")
    return ReportWire(since=first, until=last, by=list(dimensions), lines=lines)


@router.post(
    "/cache:purge",
    operation_id="purge_cache",
    responses=_describe_responses(400, 401, 403, 404, 413, 415, 422, 503),
    openapi_extra=_describe_body("PurgeRequest"),
)
async def purge_cache(request: Request, operator: OperatorDep, service: ServiceDep) -> PurgeWire:
    """Purge cached results: none that was begun before now is served again, including those in flight.

    Pictures and generations stay available at their URLs until they expire.
    """
    purge = parse_purge(await _read_members(request, service))
    return render_purge(await service.administration.purge(operator, purge.tenant, purge.fingerprint))


@router.get("/credentials", operation_id="list_credentials", responses=_describe_responses(401, 403, 503))
async def list_credentials(_operator: OperatorDep, service: ServiceDep) -> CredentialStatesWire:
    """List the credentials of the back ends, and how each is in the instance that answers."""
    return render_credentials(service.list_credentials())


@router.get("/requests", operation_id="list_live_requests", responses=_describe_responses(401, 403, 503))
async def list_live_requests(_operator: OperatorDep, service: ServiceDep) -> LiveRequestsWire:
    """List the requests and operations that are under way in the instance that answers, oldest first."""
    return render_live_requests(service.list_live())


@router.get("/audit", operation_id="list_audit_events", responses=_describe_responses(401, 403, 422, 503))
async def list_audit_events(
    _operator: OperatorDep,
    service: ServiceDep,
    limit: Annotated[
        int, Query(ge=1, le=EVENTS_MAX, description="Largest number of events to return.")
    ] = 100,
    before: Annotated[
        str | None, Query(pattern=EVENT_ID, description="Only events before the one with this id.")
    ] = None,
) -> AuditWire:
    """List changes by operators, newest first; events contain no secrets."""
    return render_audit_page(await service.administration.list_events(limit, before), limit)
