"""A bad day can be rehearsed for one tenant alone, through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes import HTTP
from tests.server.conftest import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running
    from tests.server.conftest import Tenants


@pytest.fixture
def others_bad_day(emulator: Running) -> Iterator[None]:
    rule = {"rehearse": "image-safety", "match": {"headers": {"x-flashgate-tenant": "other"}}}
    HTTP.put(f"{emulator.url}/emulator/faults", json={"rules": [rule]}).raise_for_status()
    yield
    HTTP.delete(f"{emulator.url}/emulator/faults").raise_for_status()


@pytest.mark.usefixtures("others_bad_day")
def test_the_other_tenants_day_is_as_good_as_ever(gateway: Running, tenants: Tenants) -> None:
    body = {"prompt": "Whose day is it", "image_size": "512", "delivery": "uri"}
    codes = {
        tenant: Client(gateway.url, tenants.keys[tenant]).post(body).json().get("code", "served")
        for tenant in ("other", "pictures")
    }
    assert codes == {"other": "content_blocked", "pictures": "served"}
