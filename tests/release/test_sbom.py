"""The bill of materials names what the image holds, no more and no less."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from tests.deploy.tools import needs_tools
from tests.release import sbom
from tests.release.check import project_version
from tests.release.licences import everything_in_the_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [needs_tools, pytest.mark.timeout(600)]


def test_the_bill_names_every_package_with_its_version_and_licence(tmp_path: Path) -> None:
    bill, report = sbom.write(tmp_path / "dist")
    found = json.loads(bill.read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    root = found["metadata"]["component"]
    assert (root["name"], root["version"]) == ("flashgate", project_version())
    named = {canonicalize_name(each["name"]): each["version"] for each in found["components"]}
    assert named == {canonicalize_name(each.name): each.version for each in everything_in_the_image()}
    assert "swagger-ui-dist" in named
    assert [each["name"] for each in found["components"] if not each.get("licenses")] == []
    assert len(report.read_text().splitlines()) == 4 + len(named)
