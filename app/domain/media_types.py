"""Media types as callers write them, mapped to those that Google lists.

Where the bytes are here, they decide what a file is, and the caller's claim is only compared. Where they are
elsewhere, the claim is all that is known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.request import Input, InputKind

_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9][a-z0-9.+-]{0,60}", re.ASCII)
_TEXT = "text/plain"

# Left: the names sent upstream, as Google lists them; where it lists several for one type, the registered one
# (docs/model.md#file-types). Right: what clients write for them.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "image/png": ("image/x-png", "image/apng", "image/vnd.mozilla.apng", "png", "apng"),
    "image/jpeg": ("image/jpg", "image/pjpeg", "image/jpe", "image/jfif", "jpeg", "jpg"),
    "image/webp": ("webp",),
    "image/heic": ("image/heic-sequence", "heic"),
    "image/heif": ("image/heif-sequence", "heif", "hif"),
    "application/pdf": ("application/x-pdf", "application/acrobat", "text/pdf", "text/x-pdf", "pdf"),
    _TEXT: ("application/json", "application/xml", "text", "txt", "csv", "md", "json", "xml", "html"),
    "video/mp4": ("video/x-m4v", "video/m4v", "application/mp4", "mp4", "m4v"),
    "video/quicktime": ("video/mov", "video/x-quicktime", "mov"),
    "video/mpeg": ("video/mpg", "video/x-mpeg", "video/mpegs", "video/mpegps", "video/mp2t", "mpeg", "mpg"),
    "video/webm": ("webm",),
    "video/avi": ("video/x-msvideo", "video/msvideo", "video/vnd.avi", "avi"),
    "video/x-flv": ("video/flv", "flv"),
    "video/wmv": ("video/x-ms-wmv", "video/x-ms-asf", "wmv"),
    "video/3gpp": ("video/3gp", "video/3gpp2", "video/3gp2", "3gp", "3gpp", "3g2"),
}
_CANONICAL = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
# HEIC is a kind of HEIF, and software calls either by both names.
_SAME_FAMILY = frozenset({"image/heic", "image/heif"})
_SAYS_NOTHING = frozenset({"application/octet-stream", "application/binary", "application/x-binary"})
_SAYS_NO_MORE = ("binary/", "*")


def _strip_parameters(claim: str) -> str:
    """A claim in lower case without its parameters; empty where it names no type."""
    bare = claim.partition(";")[0].strip().lower()
    unsaid = bare in _SAYS_NOTHING or bare.startswith(_SAYS_NO_MORE) or bare.endswith("/*")
    return "" if unsaid else bare


def normalize_media_type(claim: str) -> str:
    """The gateway's name of a type. Every kind of text is ``text/plain``, the only one that models read."""
    bare = _strip_parameters(claim)
    if bare in _CANONICAL:
        return _CANONICAL[bare]
    return _TEXT if bare.startswith("text/") else bare


def get_declared_type(item: Input) -> str | None:
    """The caller's claim in the gateway's spelling, or None where it names no type."""
    return (normalize_media_type(item.declared_mime_type) or None) if item.declared_mime_type else None


def is_corrected(item: Input) -> bool:
    """Whether the bytes are sent as another type than the caller's claim."""
    if item.drawn or item.data is None or item.mime_type is None or not item.declared_mime_type:
        return False
    declared, bare = get_declared_type(item), _strip_parameters(item.declared_mime_type)
    if declared is None or {declared, item.mime_type} <= _SAME_FAMILY:
        return False
    return declared != item.mime_type or (declared == _TEXT and "/" in bare and bare != _TEXT)


def quote_media_type(claim: str) -> str:
    """A caller's claim, safe to repeat in an answer."""
    bare = _strip_parameters(claim)
    return bare if _MEDIA_TYPE.fullmatch(bare) else "something else"


def classify_media_type(mime_type: str) -> InputKind:
    """The kind of input for this type: image, video, or else document."""
    match normalize_media_type(mime_type).partition("/")[0]:
        case "image":
            return "image"
        case "video":
            return "video"
        case _:
            return "document"
