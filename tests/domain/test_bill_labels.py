"""Labels for Google's bill: what becomes of names and values, and which are left out."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.bill_labels import BillLabel, build_bill_labels, format_name, format_value, merge_labels
from app.domain.tenancy import Caller, Key, Tenant

ALL: frozenset[BillLabel] = frozenset({"tenant", "project", "request"})
CALLER = Caller(
    Tenant(id="search", time_zone=ZoneInfo("UTC"), budgets=(), keys=()),
    Key("k1", "", frozenset({"images"}), project="Web.Shop"),
)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("team", "team"),
        ("Team Größe", "team_gr__e"),
        ("cost.centre/7", "cost_centre_7"),
        ("1st", "x1st"),
        ("-", "x-"),
        ("_", "x_"),
        ("a" * 70, "a" * 63),
        ("9" * 63, "x" + "9" * 62),
    ],
)
def test_a_name_becomes_one_that_google_takes(written: str, name: str) -> None:
    assert format_name(written) == name


@given(st.text(min_size=1, max_size=80))
def test_every_name_and_value_is_within_googles_rules(text: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", format_name(text))
    assert re.fullmatch(r"[a-z0-9_-]{0,63}", format_value(text))


def test_labels_are_made_from_what_is_configured() -> None:
    own = (("Team", "Search A"), ("stage", ""))
    assert build_bill_labels(frozenset(), CALLER, own) == ({}, ())
    assert build_bill_labels(ALL, CALLER, own) == (
        {
            "flashgate_tenant": "search",
            "flashgate_project": "web_shop",
            "team": "search_a",
            "stage": "",
        },
        (),
    )
    assert build_bill_labels(frozenset({"tenant"}), CALLER, own)[0] == {"flashgate_tenant": "search"}


def test_of_two_labels_with_the_same_name_at_google_the_first_is_kept_and_the_other_named() -> None:
    own = (("team", "b"), ("Team", "a"), ("TEAM", "c"), ("Flashgate Tenant", "another"))
    labels, left_out = build_bill_labels(frozenset({"request"}), CALLER, own)
    assert labels == {"team": "c"}, "in the order of their names"
    assert left_out == ("Flashgate Tenant", "Team", "team")
    assert build_bill_labels(frozenset({"request"}), CALLER, own[::-1]) == (labels, left_out)


def test_labels_of_a_body_stay_but_never_replace_the_gateways() -> None:
    written = {"Team": "as it is", "flashgate_tenant": "another"}
    assert merge_labels({"flashgate_tenant": "search"}, written) == {
        "Team": "as it is",
        "flashgate_tenant": "search",
    }
