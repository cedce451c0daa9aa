"""What a start says about itself: what runs, for whom, and how to generate the first picture."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from app.tenants.directory import DEMO_KEY_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.tenancy import Tenant
    from app.settings import Settings
    from app.surfaces.http.context import Service
    from app.upstream.google.backend import Kind

NOT_READY: Final = """
flashgate is not ready, and serves no paid request until it is
  {fault}
"""

_FIRST_PICTURE: Final = """
Generate a picture:

  curl -sS --fail-with-body {url}/v1/images:generate \\
    -H "X-API-Key: {key}" \\
    -H 'Content-Type: application/json' -H 'Accept: image/*' \\
    -d '{body}' \\
    -o {file}
"""
_NAMED_MAX: Final = 3


def is_for_a_person(settings: Settings) -> bool:
    """Whether somebody reads the output at a terminal. Logs are stored and shipped, so they get no keys."""
    return settings.log_format == "text" or sys.stderr.isatty()


def build_banner(settings: Settings, service: Service, port: int) -> str:
    """What runs, a line for each part; with the demo tenant, also its key and a command to copy."""
    url = _build_url(settings, port)
    tenants = service.directory.list_tenants()
    lines = [
        ("version", metadata.version("flashgate")),
        ("address", url),
        ("tenants", _describe_tenants(settings, tenants)),
    ]
    key = "…"
    if settings.has_demo:
        file = settings.state_dir / DEMO_KEY_FILE
        key, shown = f"$(cat {file})", f"in {file}"
        if is_for_a_person(settings):
            key = shown = file.read_text().strip()
        lines.append(("key", shown))
    lines += [
        ("back ends", ", then ".join(_describe_back_end(kind, settings) for kind in settings.back_ends)),
        ("store", f"{service.store}; pictures {_describe_pictures(settings)}"),
        ("admin API", _describe_admin(settings)),
        ("metrics", _describe_metrics(settings, url)),
        ("off", ", ".join(name for name, _ in _list_off(settings)) or "nothing"),
    ]
    text = "\nflashgate is ready\n"
    text += "".join(f"  {name:<10} {words}\n" for name, words in lines)
    if settings.has_demo:
        text += _build_command(settings, url, key)
    return text


def build_log_fields(settings: Settings, service: Service) -> dict[str, Any]:
    """The same for a log that programs read."""
    tenants = service.directory.list_tenants()
    return {
        "version": metadata.version("flashgate"),
        "tenants": len(tenants),
        "keys": sum(len(tenant.keys) for tenant in tenants),
        "unlimited": [tenant.id for tenant in _list_unlimited(tenants)][:_NAMED_MAX],
        "back_ends": list(settings.back_ends),
        "store": service.store.rpartition(" ")[2],
        "off": [variable for _, variable in _list_off(settings)],
    }


def _build_url(settings: Settings, port: int) -> str:
    host = settings.host
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        host = "127.0.0.1"
    return f"http://{host}:{port}"


def _describe_tenants(settings: Settings, tenants: tuple[Tenant, ...]) -> str:
    source = "the Admin API"
    if settings.has_demo:
        source = "the demo"
    elif settings.tenants_file is not None:
        source = str(settings.tenants_file)
    keys = sum(len(tenant.keys) for tenant in tenants)
    words = f"{len(tenants)} with {keys} {'key' if keys == 1 else 'keys'}, from {source}"
    unlimited = _list_unlimited(tenants)
    if unlimited:
        more = ", …" if len(unlimited) > _NAMED_MAX else ""
        named = ", ".join(tenant.id for tenant in unlimited[:_NAMED_MAX])
        words += f"; {len(unlimited)} without an enforced budget: {named}{more}"
    return words


def _list_unlimited(tenants: tuple[Tenant, ...]) -> list[Tenant]:
    """The tenants with a key that no enforced budget limits."""
    return [tenant for tenant in tenants if not tenant.is_limited]


def _describe_back_end(kind: Kind, settings: Settings) -> str:
    base_urls = {
        "emulator": settings.emulator.base_url,
        "gemini": settings.gemini.base_url,
        "vertex": settings.vertex.base_url,
    }
    credentials = {
        "emulator": "free of charge",
        "gemini": "an API key",
        "vertex": f"application default credentials, project {settings.vertex.project}",
    }
    named = [each.name for each in settings.credentials if each.back_end == kind]
    words = [credentials[kind]] if settings.has_unnamed(kind) else []
    if named:
        words.append(f"credentials {', '.join(named)}")
    named = [each.name for each in settings.credentials if each.back_end == kind]
    if named:
        return f"{kind} ({', '.join(named)} of {settings.credentials_file})"
    place = base_urls[kind]
    return f"{kind} ({' and '.join(words)}{'' if place is None else f', at {place}'})"


def _describe_pictures(settings: Settings) -> str:
    if settings.pictures_url == "redis:":
        return "in the same"
    if settings.pictures_url == "file:":
        return f"in {settings.state_dir / 'pictures'}"
    return f"in {settings.pictures_url}"


def _describe_admin(settings: Settings) -> str:
    if settings.admin_key is None:
        return "keys with the scope admin"
    return f"FLASHGATE_ADMIN_KEY, at port {settings.admin_port or settings.port}"


def _describe_metrics(settings: Settings, url: str) -> str:
    port = settings.metrics_port or settings.admin_port
    if port is None:
        return f"{url}/metrics, with an operator's key"
    return f"port {port}, without a key"


def _list_off(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is not in use, with the setting that turns it on."""
    parts = {
        "ID tokens": ("FLASHGATE_IDENTITY_AUDIENCES", settings.identity.audiences),
        "grace without the store": ("FLASHGATE_STORE_GRACE_TOKENS", settings.durability.store_grace_tokens),
        "journal on disk": (
            "FLASHGATE_JOURNAL_DIR",
            settings.journal_dir is not None or settings.state_dir.is_dir(),
        ),
        "a port for metrics": ("FLASHGATE_METRICS_PORT", settings.metrics_port or settings.admin_port),
    }
    for name, (variable, used) in parts.items():
        if not used:
            yield name, variable


def _build_command(settings: Settings, url: str, key: str) -> str:
    body, file = '{"prompt": "A lighthouse at dusk", "aspect_ratio": "16:9"}', "lighthouse.jpg"
    if "gemini" not in settings.back_ends:  # it does not offer a choice of the format
        body, file = f'{body[:-1]}, "output_mime_type": "image/png"}}', "lighthouse.png"
    return _FIRST_PICTURE.format(url=url, key=key, body=body, file=file)
