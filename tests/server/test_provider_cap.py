"""The cap on the back end through the whole service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.processes import Running, running_gateway
from tests.server.conftest import PEPPER, Client, calls_of, tokens_a_day, write_tenants

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tenant_whose_call_the_cap_refuses_is_booked_with_nothing(
    tmp_path: Path, emulator: Running
) -> None:
    known = write_tenants(tmp_path / "t.yaml", {"one": tokens_a_day(10**6), "two": tokens_a_day(10**6)})
    settings = {"tenants_file": str(known.path), "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    settings |= {"upstream": "emulator", "provider_requests_per_minute": "1"}
    with running_gateway(tmp_path / "g", **settings) as gateway:
        one, two = (Client(gateway.url, known.keys[name]) for name in ("one", "two"))
        before = calls_of(emulator)
        assert one.post({"prompt": "first", "image_size": "512", "delivery": "uri"}).status_code == 200
        refused = two.post({"prompt": "second", "image_size": "512", "delivery": "uri"})
        assert (refused.status_code, refused.json()["code"]) == (429, "upstream_quota")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        window = two.budget()
        assert (window["settled"], window["held"]) == (0, 0)
        assert calls_of(emulator) - before == 1
