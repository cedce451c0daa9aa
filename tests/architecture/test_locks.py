"""The locks can be installed, now and when newer releases have come."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.txt", "requirements-run.txt", "requirements-dev.txt"]


def pins(lock: str) -> dict[str, set[str]]:
    """Each locked package with the extras that its pin names."""
    found = re.finditer(r"^([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?==", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(pin[1]): {*filter(None, (pin[2] or "").split(","))} for pin in found}


def asked_extras(locked: set[str]) -> dict[str, set[str]]:
    """The extras that locked packages ask of each other, as installed here."""
    asked: dict[str, set[str]] = {}
    for distribution in distributions():
        if canonicalize_name(distribution.metadata["Name"]) not in locked:
            continue
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.extras and (
                requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            ):
                asked.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return asked


@pytest.mark.parametrize("lock", LOCKS)
def test_a_pin_names_the_extras_that_others_ask_of_it(lock: str) -> None:
    """Where only the plain package is pinned, pip looks for the one with the extra and takes a newer."""
    locked = pins(lock)
    asked = asked_extras({*locked})
    assert asked
    assert {name: extras - locked[name] for name, extras in asked.items() if extras - locked[name]} == {}
