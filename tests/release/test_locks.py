"""The locks say what the project asks for today: nothing is missing, nothing is left over, they agree."""

from __future__ import annotations

import tomllib
from importlib import metadata
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environments import ROOT
from tests.release.licences import locked

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OF_THE_BUILD = (ROOT / "requirements-build.in").read_text(encoding="utf-8").splitlines()


RUN, DEV, BUILD = "requirements-run.txt", "requirements-dev.txt", "requirements-build.txt"
EXTRAS = {
    "requirements.txt": (),
    RUN: ("embedded", "emulator"),
    DEV: ("embedded", "emulator", "dev"),
}
LOCKS = [*EXTRAS, BUILD]


def asked(lock: str) -> list[Requirement]:
    """What the project asks for itself."""
    if lock == BUILD:
        lines = [line for line in OF_THE_BUILD if line and not line.startswith("#")]
    else:
        extras = PROJECT["optional-dependencies"]
        lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS[lock] for line in extras[extra])]
    return [Requirement(line) for line in lines]


def pins(lock: str) -> dict[str, str]:
    """The version that each package of a lock is pinned to, on this machine."""
    found: dict[str, str] = {}
    for each in locked(ROOT / lock):
        (pin,) = each.specifier
        found[canonicalize_name(each.name)] = pin.version
    return found


def reached(wanted: list[Requirement]) -> dict[str, list[Requirement]]:
    """Every package that is asked for, by the project or by one that is, with all that is asked of it."""
    found: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        each = wanted.pop()
        name = canonicalize_name(each.name)
        found.setdefault(name, []).append(each)
        for extra in ("", *each.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            inner = [Requirement(line) for line in metadata.requires(name) or ()]
            wanted += [
                more for more in inner if more.marker is None or more.marker.evaluate({"extra": extra})
            ]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_that_is_asked_for_is_pinned_to_a_version_that_will_do(lock: str) -> None:
    pinned = pins(lock)
    wrong = [
        f"{name} {pinned.get(name)} is not {each.specifier}"
        for name, requirements in reached(asked(lock)).items()
        for each in requirements
        if name not in pinned or not each.specifier.contains(pinned[name], prereleases=True)
    ]
    assert wrong == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_pin_is_left_over(lock: str) -> None:
    assert sorted(pins(lock).keys() - reached(asked(lock)).keys()) == []


def test_every_lock_pins_the_same_versions() -> None:
    """The lock of the build is installed beside another one, and pip refuses two versions of a package."""
    dev = pins(DEV)
    wrong = {
        (lock, name): version
        for lock in LOCKS
        for name, version in pins(lock).items()
        if dev.get(name, version) != version
    }
    assert wrong == {}
    assert pins("requirements.txt").keys() < pins(RUN).keys() < dev.keys()


def test_every_extra_is_in_a_lock() -> None:
    assert {*PROJECT["optional-dependencies"]} == {*EXTRAS[DEV]}
