"""An operator in the hands of a test: calls of the Admin API with everything usual filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.processes import HTTP

if TYPE_CHECKING:
    import httpx2

ADMIN_KEY = "the operators' first key, at least 32 characters"


@dataclass(frozen=True)
class Admin:
    """An operator at one gateway."""

    url: str
    key: str = ADMIN_KEY

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Any call below /v1/admin; headers are named with underscores."""
        named = {"X-API-Key": self.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return HTTP.request(method, f"{self.url}/v1/admin{path}", json=body, headers=named)

    def get(self, path: str) -> httpx2.Response:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> httpx2.Response:
        return self.call("POST", path, body)

    def tenant(self, tenant_id: str, **fields: Any) -> dict[str, Any]:
        """Make a tenant; a day's ample budget unless another one is given."""
        budgets = [{"unit": "image_tokens", "window": "day", "limit": 1_000_000}]
        answer = self.post("/tenants", {"id": tenant_id, "budgets": budgets, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def key_of(self, tenant_id: str, **fields: Any) -> dict[str, Any]:
        """Make a key."""
        answer = self.post(f"/tenants/{tenant_id}/keys", fields)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


def status_of(url: str, key: str) -> int:
    """What a gateway answers to a key that only wants to see its models."""
    return HTTP.get(f"{url}/v1/models", headers={"X-API-Key": key}).status_code
