"""The locks say what the project asks for today: nothing is missing, nothing is left over, both agree."""

from __future__ import annotations

import tomllib
from importlib import metadata
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environments import ROOT
from tests.release.licences import locked

RUN, DEV = ROOT / "requirements.txt", ROOT / "requirements-dev.txt"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OF_THE_BUILD = (ROOT / "requirements-build.in").read_text(encoding="utf-8").splitlines()


def asked(*, dev: bool) -> list[Requirement]:
    """What the project asks for itself."""
    lines = [*PROJECT["dependencies"], *(PROJECT["optional-dependencies"]["dev"] if dev else ())]
    lines += [line for line in OF_THE_BUILD if line and not line.startswith("#")]
    return [Requirement(line) for line in lines]


def pins(*, dev: bool) -> dict[str, str]:
    """The version that each package of a lock is pinned to, on this machine."""
    found: dict[str, str] = {}
    for each in locked(DEV if dev else RUN):
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


@pytest.mark.parametrize("dev", [False, True])
def test_every_package_that_is_asked_for_is_pinned_to_a_version_that_will_do(dev: bool) -> None:
    pinned = pins(dev=dev)
    wrong = [
        f"{name} {pinned.get(name)} is not {each.specifier}"
        for name, requirements in reached(asked(dev=dev)).items()
        for each in requirements
        if name not in pinned or not each.specifier.contains(pinned[name], prereleases=True)
    ]
    assert wrong == []


@pytest.mark.parametrize("dev", [False, True])
def test_no_pin_is_left_over(dev: bool) -> None:
    assert sorted(pins(dev=dev).keys() - reached(asked(dev=dev)).keys()) == []


def test_both_locks_pin_the_same_versions() -> None:
    run, dev = pins(dev=False), pins(dev=True)
    assert {name: version for name, version in run.items() if dev.get(name) != version} == {}
