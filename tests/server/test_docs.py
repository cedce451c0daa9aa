"""The page to browse the API works where no other host can be reached, in a real browser."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from app.surfaces.docs import INTEGRITY, SWAGGER_UI
from tests.processes import HTTP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OFFLINE = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--enable-logging=stderr",
)  # fmt: skip
RELEASED = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
"""The SHA-256 of the two files in the release that ``app/surfaces/docs.py`` names."""


def test_the_page_names_no_other_host_and_may_ask_none(gateway: Running) -> None:
    page = HTTP.get(f"{gateway.url}/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert len(addresses) == 3
    for address in addresses:
        assert HTTP.get(f"{gateway.url}/{address}").status_code == 200, address
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", RELEASED)
def test_a_file_of_swagger_ui_is_the_released_one_and_the_page_gives_its_hash(
    gateway: Running, name: str
) -> None:
    served = HTTP.get(f"{gateway.url}/docs/assets/{name}").content
    assert hashlib.sha256(served).hexdigest() == RELEASED[name]
    assert INTEGRITY[name] == f"sha384-{base64.b64encode(hashlib.sha384(served).digest()).decode()}"
    page = HTTP.get(f"{gateway.url}/docs").text
    assert re.search(rf'"docs/assets/{re.escape(name)}" integrity="{re.escape(INTEGRITY[name])}"', page)


def test_the_licences_of_swagger_ui_are_passed_on_with_it() -> None:
    for name in ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"):
        assert (SWAGGER_UI / name).stat().st_size, name


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
def test_a_browser_shows_every_operation(gateway: Running, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    profile = f"--user-data-dir={tmp_path}"
    browser = [CHROMIUM, *OFFLINE, profile, "--dump-dom", f"{gateway.url}/docs"]
    done = subprocess.run(browser, capture_output=True, text=True, timeout=90, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []  # nothing was refused
    shown = done.stdout
    document = HTTP.get(f"{gateway.url}/openapi.json").json()
    for path in document["paths"]:
        assert f'data-path="{path}"' in shown, path
