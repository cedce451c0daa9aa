"""The page to browse the API works where no other host can be reached, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.processes import HTTP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OFFLINE = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip


def test_the_page_names_no_other_host_and_may_ask_none(gateway: Running) -> None:
    page = HTTP.get(f"{gateway.url}/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 4
    for address in addresses:
        assert HTTP.get(f"{gateway.url}/{address}").status_code == 200, address
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
def test_a_browser_shows_every_operation(gateway: Running, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    profile = f"--user-data-dir={tmp_path}"
    browser = [CHROMIUM, *OFFLINE, profile, "--dump-dom", f"{gateway.url}/docs"]
    shown = subprocess.run(browser, capture_output=True, text=True, timeout=90, check=True).stdout
    document = HTTP.get(f"{gateway.url}/openapi.json").json()
    for path in document["paths"]:
        assert f'data-path="{path}"' in shown, path
