"""Reads and reloads the tenants' file.

All faults are reported at once, each with its path. An entry is validated once: while it is unchanged,
reloading only costs a hash of it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from app.domain.errors import ConfigurationError
from app.tenants import yaml_text
from app.tenants.documents import describe_error
from app.tenants.schema import TenantDocument, TenantsFile
from app.tenants.yaml_text import InvalidYaml, UnsupportedLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.cards import Catalogue
    from app.domain.tenancy import Tenant

WORK_S: Final = 0.001
REST_S: Final = 0.0005
"""A reader in a thread sleeps after this much work. Otherwise each turn of the event loop would wait up to
five milliseconds for the GIL."""


class _Name(NamedTuple):
    """A name that must be unique in the file."""

    kind: str
    value: str
    path: str  # within its entry
    field: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A validated entry: a tenant, or faults with their place in the entry."""

    tenant: Tenant | None
    faults: tuple[tuple[tuple[str | int, ...], str], ...]
    names: tuple[_Name, ...]


class TenantsReader:
    """Reads one file repeatedly, in one thread at a time.

    Args:
        source: File name for error messages.
        catalogue: Validates models and sizes.
        pools: Pools that tenants may name; None to accept any.

    Attributes:
        validated_count: Number of entries that the last reading had to validate; the others were unchanged.
    """

    def __init__(self, source: str, catalogue: Catalogue, pools: frozenset[str] | None = None) -> None:
        self._source = source
        self._context = {"catalogue": catalogue, "pools": pools}
        self._known: dict[bytes, _Entry] = {}
        self.validated_count = 0

    def read(self, text: str, *, paced: bool = False) -> tuple[Tenant, ...]:
        """Read the tenants of a text. Raises ConfigurationError with all faults."""
        try:
            validated, entries = self._collect(self._split_entries(text), paced)
        except UnsupportedLayout:
            try:
                validated, entries = self._collect(self._stream_entries(text), paced)
            except (UnsupportedLayout, InvalidYaml):
                validated, entries = self._collect(self._load_document(text), paced)
        faults = [
            f"{_format_path(('tenants', index, *place))}: {message}"
            for index, entry in enumerate(entries)
            for place, message in entry.faults
        ]
        faults += _find_repeated(entries)
        if faults:
            raise ConfigurationError(self._source, tuple(faults))
        self._known = validated
        return tuple(entry.tenant for entry in entries if entry.tenant is not None)

    def _collect(
        self,
        items: Iterator[tuple[bytes, _Entry]],
        paced: bool,  # noqa: FBT001
    ) -> tuple[dict[bytes, _Entry], list[_Entry]]:
        self.validated_count = 0
        rest_at = time.perf_counter() + WORK_S
        validated: dict[bytes, _Entry] = {}
        entries: list[_Entry] = []
        for digest, entry in items:
            validated[digest] = entry
            entries.append(entry)
            if paced and time.perf_counter() >= rest_at:
                time.sleep(REST_S)
                rest_at = time.perf_counter() + WORK_S
        return validated, entries

    def _split_entries(self, text: str) -> Iterator[tuple[bytes, _Entry]]:
        """Read entry by entry, hashed by text. Raises UnsupportedLayout."""
        for part in yaml_text.split_entries(text):
            digest = _hash_text(part)
            yield digest, self._known.get(digest) or self._validate(yaml_text.load_entry(part))

    def _stream_entries(self, text: str) -> Iterator[tuple[bytes, _Entry]]:
        """Read entry by entry, hashed by value. Raises UnsupportedLayout or InvalidYaml."""
        for document in yaml_text.iterate_entries(text):
            digest = _hash_text(repr(document))
            yield digest, self._known.get(digest) or self._validate(document)

    def _load_document(self, text: str) -> Iterator[tuple[bytes, _Entry]]:
        """Read a file of any other layout as a whole. Raises ConfigurationError if it is invalid."""
        document: Any = None
        try:
            document = yaml_text.load(text)
            TenantsFile.model_validate(document, context=self._context)
        except InvalidYaml as error:
            raise ConfigurationError(self._source, (str(error),)) from None
        except ValidationError as error:
            faults = [f"{_format_path(fault['loc'])}: {describe_error(fault)}" for fault in error.errors()]
            tenants = None
            if isinstance(document, dict):
                tenants = document.get("tenants")
            raw_entries = []
            if isinstance(tenants, list):
                raw_entries = tenants
            faults += _find_repeated([_Entry(None, (), tuple(_list_names(entry))) for entry in raw_entries])
            raise ConfigurationError(self._source, tuple(faults)) from None
        for entry in document["tenants"]:
            digest = _hash_text(repr(entry))
            yield digest, self._known.get(digest) or self._validate(entry)

    def _validate(self, document: object) -> _Entry:
        self.validated_count += 1
        names = tuple(_list_names(document))
        try:
            tenant = TenantDocument.model_validate(document, context=self._context).build_tenant()
        except ValidationError as error:
            return _Entry(
                None, tuple((fault["loc"], describe_error(fault)) for fault in error.errors()), names
            )
        return _Entry(tenant, (), names)


def read_tenants(source: str, text: str, catalogue: Catalogue) -> tuple[Tenant, ...]:
    """Read the tenants of a file's text. Raises ConfigurationError with all faults and their paths."""
    return TenantsReader(source, catalogue).read(text)


def _hash_text(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _format_path(location: tuple[str | int, ...]) -> str:
    """Format pydantic's location as ``tenants[0].keys[1].hash``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.lstrip(".") or "the file"


def _list_names(document: object) -> Iterator[_Name]:
    """List ids and identities of a raw entry, so that duplicates are reported along with other faults."""
    if not isinstance(document, dict):
        return
    places = [("tenant id", "", "id", document)]
    keys = document.get("keys")
    for index, key in enumerate(keys if isinstance(keys, list) else []):
        if isinstance(key, dict):
            path = f".keys[{index}]"
            places += [("key id", path, "id", key), ("e-mail address", path, "email", key)]
            places += [("subject", path, "subject", key)]
    for kind, path, field, entry in places:
        name = entry.get(field)
        if isinstance(name, str):
            yield _Name(kind, name, path, field)


def _find_repeated(entries: list[_Entry]) -> list[str]:
    """Return the faults of duplicate ids and identities."""
    faults = []
    seen: dict[tuple[str, str], tuple[int, str]] = {}
    for index, entry in enumerate(entries):
        for kind, value, path, field in entry.names:
            name = (kind, value.lower() if field == "email" else value)
            first, where = seen.setdefault(name, (index, path))
            if (first, where) != (index, path):
                place = f"tenants[{index}]{path}.{field}"
                faults.append(f"{place}: the {kind} {value!r} is taken by tenants[{first}]{where}")
    return faults
