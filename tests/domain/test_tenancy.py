"""Keys over time, by a clock that stands still: rotation with overlap, and keys that end."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from app.domain.budget import Budget, Mode, Unit
from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from app.domain.policy import Policy
from app.domain.tenancy import Caller, Identity, Key, Project, RetiringSecret, Tenant
from app.tenants.directory import MemoryDirectory

PEPPER = b"pepper"
T = 1_795_000_000_000
OLD = mint("test", b"\x01" * ENTROPY_BYTES, "k1")
NEW = mint("test", b"\x02" * ENTROPY_BYTES, "k1")
OTHER = mint("test", b"\x03" * ENTROPY_BYTES, "k1")


def opens(text: str, key: Key, at_ms: int) -> bool:
    tenant = Tenant("t", ZoneInfo("UTC"), (), (key,))
    directory = MemoryDirectory((tenant,), PEPPER, clock=lambda: at_ms / 1000)
    return directory.authenticate(text) is not None


def rotated(*, not_after_ms: int = T, expires_at_ms: int | None = None) -> Key:
    retiring = RetiringSecret(hash_secret(PEPPER, OLD.secret), not_after_ms)
    new = hash_secret(PEPPER, NEW.secret)
    return Key("k1", new, frozenset({"images"}), retiring=retiring, expires_at_ms=expires_at_ms)


@pytest.mark.parametrize(("at_ms", "old"), [(0, True), (T - 1, True), (T, False), (T + 1, False)])
def test_the_secret_before_the_last_rotation_opens_until_its_end_and_not_at_it(at_ms: int, old: bool) -> None:
    assert opens(OLD.text, rotated(), at_ms) is old
    assert opens(NEW.text, rotated(), at_ms)
    assert not opens(OTHER.text, rotated(), at_ms)


@pytest.mark.parametrize(("at_ms", "alive"), [(T - 1, True), (T, False), (T + 10**9, False)])
def test_an_expired_key_opens_with_none_of_its_secrets(at_ms: int, alive: bool) -> None:
    key = rotated(not_after_ms=T + 10**12, expires_at_ms=T)
    assert [opens(each.text, key, at_ms) for each in (OLD, NEW)] == [alive, alive]


@pytest.mark.parametrize(
    ("at_ms", "alive"), [(0, False), (T - 1, False), (T, True), (T + 9, True), (T + 10, False)]
)
def test_a_key_whose_time_has_not_begun_opens_with_none_of_its_secrets(at_ms: int, alive: bool) -> None:
    key = replace(rotated(not_after_ms=T + 10**12, expires_at_ms=T + 10), not_before_ms=T)
    assert [opens(each.text, key, at_ms) for each in (OLD, NEW)] == [alive, alive]
    identity = Identity("subject", "42")
    tenant = Tenant("t", ZoneInfo("UTC"), (), (replace(key, secret_hash="", identity=identity),))
    directory = MemoryDirectory((tenant,), PEPPER, clock=lambda: at_ms / 1000)
    assert (directory.find_by_identity((identity,)) is not None) is alive


def test_no_hash_stands_in_a_keys_text_form() -> None:
    key = rotated()
    assert key.secret_hash not in repr(key)
    assert key.retiring is not None
    assert key.retiring.secret_hash not in repr(key)


@pytest.mark.parametrize(
    ("strict", "unit", "mode", "needed"),
    [
        (True, "usd", "enforce", True),
        (True, "total_tokens", "enforce", True),
        (True, "image_tokens", "enforce", False),
        (True, "usd", "shadow", False),
        (False, "usd", "enforce", False),
    ],
)
@pytest.mark.parametrize("owner", ["tenant", "project", "key"])
def test_strict_tenants_need_prices_where_a_budget_counts_them(
    strict: bool, unit: Unit, mode: Mode, needed: bool, owner: str
) -> None:
    budgets = {owner: (Budget(unit, "day", 5, mode=mode),)}
    project = Project("p", budgets.get("project", ()))
    key = Key("k", "", frozenset(), budgets.get("key", ()), project="p")
    tenant = Tenant(
        "t", ZoneInfo("UTC"), budgets.get("tenant", ()), (key,), projects=(project,), strict=strict
    )
    assert Caller(tenant, key).needs_prices is needed
    assert Policy().restrict_to(Caller(tenant, key)).needs_prices is needed
