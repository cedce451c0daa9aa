"""Callers delete pictures and generations, and operators tenants with everything that they have stored."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER
from tests.server.operators import ADMIN_KEY, Admin

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["file:", "redis:"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, emulator: Running
) -> Iterator[Running]:
    settings = {
        "admin_key": ADMIN_KEY,
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
        "pictures_url": request.param,
    }
    with running_gateway(tmp_path_factory.mktemp("d"), **settings) as process:
        yield process


class Caller:
    """A tenant's caller."""

    def __init__(self, gateway: Running, tenant: str) -> None:
        admin = Admin(gateway.url)
        admin.tenant(tenant)
        self._url, self._key = gateway.url, admin.key_of(tenant)["key"]

    def call(self, method: str, path: str, **options: Any) -> Any:
        return HTTP.request(method, f"{self._url}/v1{path}", headers={"X-API-Key": self._key}, **options)

    def draw(self, prompt: str) -> dict[str, Any]:
        answer = self.call("POST", "/images:generate", json={"prompt": prompt, "image_size": "512"})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def status(self, method: str, path: str) -> int:
        return int(self.call(method, path).status_code)


@pytest.fixture
def name() -> str:
    return f"t-{secrets.token_hex(4)}"


def test_a_caller_deletes_a_picture_and_then_a_generation(gateway: Running, name: str) -> None:
    caller, other = Caller(gateway, name), Caller(gateway, f"{name}-b")
    made = caller.draw(name)
    assert caller.draw(name)["cache"]["status"] == "hit"
    picture, generation = f"/images/{made['images'][0]['id']}", f"/generations/{made['id']}"
    for path in (picture, generation):
        assert caller.status("GET", path) == 200
        assert other.status("DELETE", path) == 404
    assert caller.status("DELETE", picture) == 204
    assert caller.status("GET", picture) == 404
    assert caller.status("DELETE", picture) == 404
    assert caller.status("DELETE", generation) == 204
    assert caller.status("GET", generation) == 404
    assert caller.draw(name)["cache"]["status"] == "miss"


def test_a_tenant_that_is_made_again_sees_nothing_of_the_earlier_one(gateway: Running, name: str) -> None:
    earlier = Caller(gateway, name)
    made = earlier.draw(name)
    deleted = Admin(gateway.url).call("DELETE", f"/tenants/{name}", If_Match="*")
    assert deleted.status_code == 204
    later = Caller(gateway, name)
    assert later.status("GET", f"/images/{made['images'][0]['id']}") == 404
    assert later.status("GET", f"/generations/{made['id']}") == 404
    assert later.draw(name)["cache"]["status"] == "miss"
