"""Credentials of the back ends: keys and projects with pools and caps of their own, from a YAML file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path  # noqa: TC003 (read by pydantic)
from typing import TYPE_CHECKING, Annotated, Self, get_args

from pydantic import AfterValidator, Field, ValidationError, model_validator

from app.domain.errors import ConfigurationError
from app.domain.tenancy import DEFAULT_POOL, POOL
from app.resilience.diagnosis import describe_system_error
from app.tenants.documents import describe_error
from app.tenants.limits import Document
from app.tenants.yaml_text import InvalidYaml, load
from app.upstream.google.backend import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def _check_name(value: str) -> str:
    if not POOL.fullmatch(value):
        raise ValueError("must have 1 to 40 of a-z, 0-9 and -, and not begin with a hyphen")
    if value in get_args(Kind):
        raise ValueError(f"{value} is the name of a back end")
    return value


Name = Annotated[str, AfterValidator(_check_name)]
PerMinute = Annotated[int | None, Field(ge=1)]


class Credential(Document):
    """A key or a project of one back end.

    Attributes:
        name: Unique; a tenant may name it in place of a pool.
        pool: The pool that it belongs to, of one or more back ends.
        project: Google Cloud project, for Vertex AI.
        key_file: For Vertex AI, credentials in place of the application default ones.
        api_key_file: File of an API key; spaces and line breaks around the key are ignored.
        weight: Share of the calls of its pool and back end, compared with the other weights.
        requests_per_minute: Cap for each model, in place of the deployment's; likewise the other caps.
    """

    name: Name
    back_end: Kind
    pool: Name = DEFAULT_POOL
    project: str | None = None
    key_file: Path | None = None
    api_key_file: Path | None = None
    weight: int = Field(1, ge=1, le=1000)
    requests_per_minute: PerMinute = None
    images_per_minute: PerMinute = None
    tokens_per_minute: PerMinute = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        needed = {"vertex": ("project",), "gemini": ("api_key_file",), "emulator": ()}[self.back_end]
        allowed = {"vertex": {"project", "key_file"}}.get(self.back_end, {"api_key_file"})
        for field in ("project", "key_file", "api_key_file"):
            value = getattr(self, field)
            if value is None and field in needed:
                raise ValueError(f"{field} is required for the back end {self.back_end}")
            if value is not None and field not in allowed:
                raise ValueError(f"{field} is not for the back end {self.back_end}")
        return self

    @property
    def pools(self) -> frozenset[str]:
        """The names by which tenants reach it: its pool's, and its own."""
        return frozenset({self.pool, self.name})

    def read_api_key(self) -> str | None:
        """The key in its file; None without a file. Raises ConfigurationError."""
        if self.api_key_file is None:
            return None
        key = _read_text(self.api_key_file).strip()
        if not key.isascii() or not key.isprintable() or not key:
            raise ConfigurationError(str(self.api_key_file), ("it must hold one API key",))
        return key


class CredentialsFile(Document):
    """The credentials' file."""

    credentials: tuple[Credential, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = Counter(each.name for each in self.credentials)
        if repeated := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(f"several credentials are called {', '.join(repeated)}")
        foreign = {each.pool for each in self.credentials} & set(names)
        for each in self.credentials:
            if each.pool != each.name and each.pool in foreign:
                raise ValueError(f"{each.pool} cannot be the name of a credential and of a pool with others")
        return self


def read_credentials(path: Path) -> tuple[Credential, ...]:
    """The credentials of a file. Raises ConfigurationError with all faults, never with a secret."""
    try:
        return CredentialsFile.model_validate(load(_read_text(path))).credentials
    except InvalidYaml as error:
        raise ConfigurationError(str(path), (str(error),)) from None
    except ValidationError as error:
        raise ConfigurationError(str(path), tuple(_describe_faults(error))) from None


def _describe_faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_input=False, include_url=False):
        place = ".".join(map(str, fault["loc"])) or "the file"
        yield f"{place}: {describe_error(fault)}"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        fault = "it is not UTF-8"
    except OSError as error:
        fault = f"it cannot be read: {describe_system_error(error)}"
    raise ConfigurationError(str(path), (fault,))


def list_pools(credentials: Iterable[Credential], *, has_unnamed: bool) -> frozenset[str]:
    """The names that tenants may use as their pool.

    Args:
        credentials: Those of the file.
        has_unnamed: Whether there is one of the settings, which belongs to the pool ``default``.
    """
    pools = frozenset[str]().union(*(each.pools for each in credentials))
    return pools | {DEFAULT_POOL} if has_unnamed else pools
