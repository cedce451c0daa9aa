"""The names of all keys in the store.

All keys of a tenant share the hash tag ``{tenant}``, so that one script may touch them in a cluster
(docs/reliability.md R18). The keys of administration share the tag ``{_admin}``, which no tenant id can be.
Whatever keeps a promise about money is a book: it never has a TTL, so no store evicts it, and scripts prune
it. All other keys always have a TTL and may vanish at any time (docs/decisions/0031).
"""

from __future__ import annotations

import re

WAKE_CHANNEL = "fg:wake"
TENANTS_CHANNEL = "fg:tenants"

TRIAL = tuple(f"fg:{{_trial}}:{kind}" for kind in ("hash", "sorted", "stream", "string"))
TRIAL_PICTURE = "fg:{_trial}:picture"
"""The keys with which the store is tried at start-up."""

PROVIDER = "_provider"
"""Whose ledger the caps on back ends are in; no tenant id can be this."""

TENANTS = "fg:{_admin}:tenants"
KEY_OWNERS = "fg:{_admin}:owners"
TENANTS_VERSION = "fg:{_admin}:version"
SWEEP = "fg:{_admin}:sweep"
SWEEPING = "fg:{_admin}:sweeping"
"""How far the sweep of images is, and that a pass was made a moment ago; both have a TTL."""

BUDGET_METRICS = "fg:{_admin}:budget-metrics"
"""The replica that exports the budgets of all tenants; it has a TTL."""

AUDIT_LOG = "fg:{_admin}:log"

IMAGES = "fg:{*}:img:*"
"""The pattern of all images."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_IMAGE_ID = re.compile(r"img_[0-9a-f]{64}")
_IMAGE_KEY = re.compile(r"fg:\{([a-z0-9][a-z0-9-]{0,62})\}:img:(img_[0-9a-f]{64})")
_FINGERPRINT = re.compile(r"[A-Za-z0-9_-]{1,128}")
_GENERATION_ID = re.compile(r"gen_[0-9a-f]{24}")
_OPERATION_ID = re.compile(r"op_[0-9a-f]{24}")
_CHANGE = re.compile(r"[0-9a-f]{32}")

LEDGER_NAMES = (
    *("res", "win", "exp", "gc", "log", "use", "lead", "idem", "ends", "ops", "opends"),
    *("calls", "callends", "users"),
)

CACHE_NAMES = ("gen", "fail", "img", "made", "op", "index", "change")
"""What may be evicted at any time, and always has a TTL: losing it breaks no promise about money."""


def _build_tag(tenant_id: str) -> str:
    if tenant_id != PROVIDER and not _TENANT.fullmatch(tenant_id):
        raise ValueError("This is no tenant id.")
    return f"fg:{{{tenant_id}}}"


def ledger_keys(tenant_id: str) -> list[str]:
    """The keys of a tenant's ledger, in the order of ``app/ledger/scripts/_common.lua``."""
    tag = _build_tag(tenant_id)
    return [f"{tag}:{name}" for name in LEDGER_NAMES]


def work_keys(tenant_id: str, fingerprint: str, idempotency: str | None = None) -> list[str]:
    """The ledger, then what is kept of one piece of work, then the caller's key as earlier versions named it.

    Args:
        tenant_id: Whose.
        fingerprint: Of the work.
        idempotency: The digest of an idempotency key with its scope.
    """
    if not _FINGERPRINT.fullmatch(fingerprint) or not _FINGERPRINT.fullmatch(idempotency or "-"):
        raise ValueError("This is no fingerprint.")
    tag = _build_tag(tenant_id)
    names = [*ledger_keys(tenant_id), result_key(tenant_id, fingerprint), f"{tag}:fail:{fingerprint}"]
    if idempotency is None:
        return names
    return [*names, f"{tag}:idem:{idempotency}"]


def usage_key(tenant_id: str) -> str:
    """The hash of usage rows."""
    return ledger_keys(tenant_id)[LEDGER_NAMES.index("use")]


def leads_key(tenant_id: str) -> str:
    """The hash of leaders: who generates each piece of work now, or how its last leader failed."""
    return ledger_keys(tenant_id)[LEDGER_NAMES.index("lead")]


def result_key(tenant_id: str, fingerprint: str) -> str:
    """The cached result of a piece of work."""
    return f"{_build_tag(tenant_id)}:gen:{fingerprint}"


def is_image_id(image_id: str) -> bool:
    """Whether the text has the form of an image id."""
    return _IMAGE_ID.fullmatch(image_id) is not None


def image_key(tenant_id: str, image_id: str) -> str:
    """An image's bytes."""
    if not is_image_id(image_id):
        raise ValueError("This is no image id.")
    return f"{_build_tag(tenant_id)}:img:{image_id}"


def parse_image_key(name: str) -> tuple[str, str] | None:
    """The tenant and id of an image's key, or None for another key."""
    parsed = _IMAGE_KEY.fullmatch(name)
    return None if parsed is None else (parsed[1], parsed[2])


def generation_key(tenant_id: str, generation_id: str) -> str:
    """A finished generation under its own id."""
    if not _GENERATION_ID.fullmatch(generation_id):
        raise ValueError("This is no generation id.")
    return f"{_build_tag(tenant_id)}:made:{generation_id}"


def index_key(tenant_id: str) -> str:
    """What is stored of a tenant: images and generations."""
    return f"{_build_tag(tenant_id)}:index"


def operation_keys(tenant_id: str, operation_id: str) -> list[str]:
    """A tenant's operations, and the outcome of this one; see ``app/ledger/scripts/operation.lua``."""
    if not _OPERATION_ID.fullmatch(operation_id):
        raise ValueError("This is no operation id.")
    tag = _build_tag(tenant_id)
    return [f"{tag}:ops", f"{tag}:opends", f"{tag}:op:{operation_id}"]


def tenant_change_keys(change_id: str) -> list[str]:
    """The keys of one change of the stored tenants, in the order of ``app/registry/scripts/tenants.lua``."""
    if not _CHANGE.fullmatch(change_id):
        raise ValueError("This is no id of a change.")
    return [TENANTS, KEY_OWNERS, TENANTS_VERSION, AUDIT_LOG, f"fg:{{_admin}}:change:{change_id}"]
