"""End users: who they are, whose limits apply to a request, and how a tenant writes them down."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from app.cards import load_catalogue
from app.domain.budget import Budget
from app.domain.end_user import UNNAMED, UserLimits, build_end_user, is_user_name, parse_user_id
from app.domain.rate import Rate
from app.domain.tenancy import Caller, Key, Tenant, list_budget_windows, list_rate_limits
from app.tenants.documents import decode_tenant, encode_tenant
from app.tenants.file import read_tenants

DAY = Budget("images", "day", 100)
OWN = Budget("images", "day", 5, "user")
KEY = Key("k1", "0" * 64, frozenset({"images"}))
TENANT = Tenant("acme", ZoneInfo("UTC"), (DAY, OWN), (KEY,))
ANN = build_end_user(b"pepper", "acme", "ann")


def test_a_user_is_known_by_a_hash_of_pepper_tenant_and_name() -> None:
    assert build_end_user(b"pepper", "acme", "ann") == ANN
    others = {build_end_user(*each).id for each in (
        (b"salt", "acme", "ann"), (b"pepper", "other", "ann"),
        (b"pepper", "acme", "bob"), (b"pepper", "acm", "e\0ann"),
    )}  # fmt: skip
    assert len({*others, ANN.id}) == 5
    assert "ann" not in ANN.id
    assert parse_user_id(ANN.id) == ANN
    assert parse_user_id(UNNAMED.id) == UNNAMED
    assert parse_user_id("ann") is None
    assert ANN.owner == f"u:{ANN.id.removeprefix('usr_')}"


@pytest.mark.parametrize("name", ["a", "user 1", "auth0|5f7", "ann@example.com", "Jörg", "x" * 256])
def test_printable_text_names_a_user(name: str) -> None:
    assert is_user_name(name)


@pytest.mark.parametrize("name", ["", " ", "a ", " a", "a\n", "a\x00b", "\u200b", "\ud800", "x" * 257])
def test_what_is_not_printable_or_too_long_names_nobody(name: str) -> None:
    assert not is_user_name(name)


def test_a_named_user_has_windows_and_rates_beside_its_tenants() -> None:
    tenant = replace(TENANT, users=UserLimits(Rate(60, 10, 2)))
    caller = Caller(tenant, KEY, ANN)
    assert [window.field for window in list_budget_windows(caller, 0)] == [
        "t|images|day",
        f"{ANN.owner}|images|day",
    ]
    assert [limit.name for limit in list_rate_limits(caller)] == ["user-requests", "user-concurrent"]
    nobody = Caller(tenant, KEY)
    assert [window.field for window in list_budget_windows(nobody, 0)] == ["t|images|day"]
    assert list_rate_limits(nobody) == ()


@pytest.mark.parametrize(("tenant", "lacks"), [
    (TENANT, True),
    (replace(TENANT, users=UserLimits(unnamed="share")), False),
    (replace(TENANT, budgets=(DAY, replace(OWN, mode="shadow"))), False),
    (replace(TENANT, budgets=(DAY,)), False),
    (replace(TENANT, budgets=(DAY,), users=UserLimits(Rate(60))), True),
])  # fmt: skip
def test_a_name_is_needed_where_a_limit_of_users_is_enforced(tenant: Tenant, lacks: bool) -> None:
    assert Caller(tenant, KEY).lacks_user == lacks
    assert not Caller(tenant, KEY, ANN).lacks_user


def test_a_tenants_rules_for_users_are_kept_as_they_were_written() -> None:
    catalogue = load_catalogue()
    text = """
    tenants:
      - id: acme
        budgets:
          - {unit: images, window: day, limit: 100}
          - {scope: user, unit: images, window: day, limit: 5}
        users: {rate: {requests_per_minute: 60}, unnamed: share, active_max: 7}
    """
    (tenant,) = read_tenants("f", text, catalogue)
    assert tenant.budgets == (DAY, OWN)
    assert tenant.users == UserLimits(Rate(60), "share", 7)
    assert decode_tenant(encode_tenant(tenant, catalogue), catalogue) == tenant
    plain = replace(tenant, budgets=(DAY,), users=UserLimits())
    assert "users" not in encode_tenant(plain, catalogue), "earlier gateways can read it"
