"""The address and credentials of a back end: the emulator, Gemini or Vertex AI."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["emulator", "gemini", "vertex"]
ImageStyle = Literal["image_config", "response_format"]
RequestType = Literal["dedicated", "shared"]
GLOBAL: Final = "global"
IMAGE_STYLE: Final = "image_config"
ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024

_MULTI_REGIONS: Final = frozenset({"us", "eu"})
_API_VERSIONS: Final[dict[Kind, str]] = {"emulator": "v1beta1", "gemini": "v1beta", "vertex": "v1beta1"}
# The Gemini Developer API always chooses the format itself, and reads no file from Cloud Storage.
_CAPABILITIES: Final[dict[Kind, frozenset[str]]] = {
    "emulator": frozenset({"output_mime_type", "cloud_storage"}),
    "gemini": frozenset(),
    "vertex": frozenset({"output_mime_type", "cloud_storage"}),
}


@dataclass(frozen=True, slots=True)
class BackEnd:
    """One back end. Everything the SDK would otherwise take from its own environment variables is here.

    The emulator speaks the Vertex dialect in its express form, so that a caller can choose the format of
    the picture; the SDK writes that field for no other.

    Attributes:
        kind: ``emulator``, ``gemini`` (Developer API, a key) or ``vertex`` (application default
            credentials and a project; without a project a key: the express form).
        name: The name of its credential; empty for the only one.
        base_url: Another address than Google's; the emulator has no other.
        location: Vertex AI location.
        proxy: Address of a proxy. Those named by environment variables are never used.
        request_type: Of Vertex AI: ``dedicated`` is Provisioned Throughput or nothing, ``shared`` never that;
            None is Provisioned Throughput first.
        image_style: How ratio and size are said: in ``imageConfig``, or in its successor ``responseFormat``.
        key_file: Of Vertex AI: credentials in a file, in place of the application default ones.
        trust_env: Whether certificates named by environment variables are used.
    """

    kind: Kind
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    project: str | None = None
    location: str = GLOBAL
    proxy: str | None = field(default=None, repr=False)
    trust_env: bool = False
    request_type: RequestType | None = None
    image_style: ImageStyle = IMAGE_STYLE
    name: str = ""
    key_file: Path | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where something is missing that no default can stand for."""
        if self.kind == "emulator" and not self.base_url:
            raise ValueError("The emulator needs its address.")
        if self.kind == "gemini" and not self.api_key:
            raise ValueError("The Gemini Developer API needs a key.")
        if self.kind == "vertex" and not (self.project or self.api_key):
            raise ValueError("Vertex AI needs a project or a key.")

    @property
    def full_name(self) -> str:
        """The kind, and the name of the credential if it has one: ``vertex/images-a``."""
        return f"{self.kind}/{self.name}" if self.name else self.kind

    @property
    def url(self) -> str:
        """The address that calls go to."""
        if self.base_url:
            return self.base_url
        if self.kind == "gemini":
            return "https://generativelanguage.googleapis.com"
        if self.location == "global":
            return "https://aiplatform.googleapis.com"
        if self.location in _MULTI_REGIONS:
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"

    @property
    def version(self) -> str:
        """The API version in the path."""
        return _API_VERSIONS[self.kind]

    @property
    def capabilities(self) -> frozenset[str]:
        """What this back end can do beyond the common ground: ``output_mime_type``, ``cloud_storage``."""
        return _CAPABILITIES[self.kind]
