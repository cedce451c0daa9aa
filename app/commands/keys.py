"""``flashgate keys``: keys of a running gateway, and new ones for the tenants' file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from app.commands.admin import add_url_option, build_path, collect_options, format_rows, run_action

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    import httpx2

    from app.commands.api import GatewayApi


def add_arguments(parser: ArgumentParser) -> None:
    """Add ``new``, ``list``, ``create``, ``rotate`` and ``revoke``."""
    actions = parser.add_subparsers(dest="action", required=True)
    new = actions.add_parser("new", help="print a new key and its line for the tenants' file")
    new.add_argument("--env", default="live", help="environment name in the key")
    listing = actions.add_parser("list", help="list the keys of a tenant, or of all tenants")
    listing.add_argument("tenant", nargs="?")
    creation = actions.add_parser("create", help="create a key at a running gateway and print it once")
    creation.add_argument("tenant")
    creation.add_argument("--name", help="name for people, such as the team's")
    creation.add_argument("--scope", dest="scopes", action="append", choices=("images", "admin"))
    account = creation.add_mutually_exclusive_group()
    account.add_argument("--email", help="e-mail address of a Google account whose ID tokens the key accepts")
    account.add_argument("--subject", help="subject of such an account")
    creation.add_argument(
        "--not-before", help="start of validity, such as 2026-12-01T00:00:00Z; default: now"
    )
    creation.add_argument("--expires-at", help="end of validity, such as 2027-01-01T00:00:00Z; default: none")
    rotation = actions.add_parser(
        "rotate", help="rotate the secret of a key; the previous one stays valid for a time"
    )
    revocation = actions.add_parser("revoke", help="revoke a key")
    for each in (rotation, revocation):
        each.add_argument("tenant")
        each.add_argument("key", help="key id")
    rotation.add_argument(
        "--grace-s", type=int, help="seconds for which the previous secret stays valid; default: a day"
    )
    for each in (creation, rotation):
        each.add_argument("--env", help="environment name in the key; default: live")
    add_url_option((listing, creation, rotation, revocation))


def run(arguments: Namespace) -> int:
    """Run a command."""
    if arguments.action == "new":
        # It needs the settings, which take longer to load than the other commands take.
        from app.commands.new_key import print_new_key  # noqa: PLC0415

        return print_new_key(arguments.env)
    actions = {"list": _list_keys, "create": _create_key, "rotate": _rotate_key, "revoke": _revoke_key}
    return run_action(actions, arguments)


def _list_keys(api: GatewayApi, arguments: Namespace) -> str:
    tenants = [arguments.tenant]
    if arguments.tenant is None:
        tenants = [tenant["id"] for tenant in api.call("GET", "/tenants").json()["tenants"]]
    rows = [("TENANT", "KEY", "NAME", "SCOPES", "LAST USED", "VALID")]
    for tenant in tenants:
        for key in api.call("GET", build_path(tenant, "keys")).json()["keys"]:
            scopes = ",".join(sorted(key["scopes"]))
            rows.append(
                (
                    tenant,
                    key["id"],
                    key["name"] or "-",
                    scopes,
                    key["last_used_at"] or "never",
                    _describe_validity(key),
                )
            )
    return format_rows(rows)


def _describe_validity(key: dict[str, Any]) -> str:
    parts = {
        "from": key["not_before"],
        "until": key["expires_at"],
        "previous secret until": key["retiring_until"],
        "for": key["email"] or key["subject"],
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value) or "always"


def _create_key(api: GatewayApi, arguments: Namespace) -> str:
    body = collect_options(arguments, "name", "scopes", "not_before", "expires_at")
    account = collect_options(arguments, "email", "subject")
    if account:
        created = api.call("POST", build_path(arguments.tenant, "identities"), body | account).json()
        sys.stderr.write("This key has no secret; it accepts the ID tokens of the account.\n")
        return f"{created['id']}\n"
    body |= collect_options(arguments, "env")
    return _format_issued_key(api.call("POST", build_path(arguments.tenant, "keys"), body))


def _rotate_key(api: GatewayApi, arguments: Namespace) -> str:
    path = build_path(arguments.tenant, "keys", arguments.key)
    return _format_issued_key(
        api.call("POST", f"{path}:rotate", collect_options(arguments, "grace_s", "env"))
    )


def _format_issued_key(answer: httpx2.Response) -> str:
    """Return only the key for stdout; print the rest to stderr."""
    issued = answer.json()
    until = issued.get("retiring_until")
    sys.stderr.write(f"key {issued['id']}; it is shown only once.\n")
    if until:
        sys.stderr.write(f"The previous secret is valid until {until}.\n")
    return f"{issued['key']}\n"


def _revoke_key(api: GatewayApi, arguments: Namespace) -> str:
    api.call("POST", f"{build_path(arguments.tenant, 'keys', arguments.key)}:revoke")
    return f"Revoked {arguments.key}.\n"
