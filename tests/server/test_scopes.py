"""What each scope opens, route by route: nothing by default (docs/reliability.md R60)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Mount, Route

from app.main import create_app
from app.settings import Settings
from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER
from tests.server.operators import ADMIN_KEY, Admin

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = {"/livez", "/readyz", "/openapi.json", "/docs", "/docs/assets", "/docs/start.js"}
OPEN |= {"/gemini/{path:path}"}  # where there is nothing
SCOPES = {
    "/metrics": "admin",
    "/v1/admin/": "admin",
    "/v1/": "images",
    "/openai/": "images",
    "/gemini/": "images",
}
NOWHERE = {"tenant_id": "nobody", "key_id": "k0", "image_id": "img_0", "generation_id": "gen_0"}


def everything() -> Iterator[tuple[str, str]]:
    """Every method and path that the application answers, whether or not the document names it."""
    waiting: list[Any] = list(create_app(Settings()).routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, Route):
            for method in sorted((route.methods or {"GET"}) - {"HEAD", "OPTIONS"}):
                yield method, route.path
        elif isinstance(route, Mount):
            yield "GET", route.path
        else:
            waiting += route.original_router.routes


ROUTES = sorted(set(everything()))


def scope_of(path: str) -> str | None:
    """The scope that a path asks for; None for what is open, an error for what nobody has thought of."""
    if path in OPEN:
        return None
    return next(scope for prefix, scope in SCOPES.items() if path.startswith(prefix))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[Running]:
    settings = {"admin_key": ADMIN_KEY, "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    with running_gateway(tmp_path_factory.mktemp("scopes"), upstream="emulator", **settings) as process:
        yield process


@pytest.fixture(scope="module")
def keys(gateway: Running) -> dict[str, str]:
    """A key of each scope alone."""
    admin = Admin(gateway.url)
    admin.tenant("scoped")
    return {scope: admin.key_of("scoped", scopes=[scope])["key"] for scope in ("images", "admin")}


def status(url: str, method: str, path: str, key: str | None) -> int:
    filled = re.sub(r"\{(\w+)(:\w+)?\}", lambda name: NOWHERE.get(name[1], "x"), path)
    headers = {} if key is None else {"X-API-Key": key}
    return HTTP.request(method, f"{url}{filled}", headers=headers).status_code


def test_there_are_routes_of_every_kind() -> None:
    assert {scope_of(path) for _, path in ROUTES} == {None, "images", "admin"}
    assert len(ROUTES) > 30


@pytest.mark.parametrize(("method", "path"), [each for each in ROUTES if scope_of(each[1])], ids=str)
def test_a_route_opens_to_its_own_scope_alone(
    gateway: Running, keys: dict[str, str], method: str, path: str
) -> None:
    scope = scope_of(path)
    other = next(key for name, key in keys.items() if name != scope)
    refusals = {400, 401, 403} if path.startswith("/gemini/") else {401, 403}
    nobody = status(gateway.url, method, path, None)
    assert nobody in refusals - {403}
    assert status(gateway.url, method, path, other) == 403
    assert status(gateway.url, method, path, keys[scope or ""]) not in {401, 403}
