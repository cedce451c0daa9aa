"""Decodes base64 (RFC 4648) while its text arrives, and reports the position of the first fault.

Unless the options say otherwise it is strict: no character outside the alphabet, no line breaks, correct
padding, and no set bits after the last byte, so that equal bytes have only one text.
"""

from __future__ import annotations

import binascii
import io
import json
import re
from dataclasses import dataclass, field
from typing import Final, Literal

import pybase64

Alphabets = Literal["standard", "either"]
Padding = Literal["required", "optional"]
FaultCode = Literal["alphabet", "padding", "not_canonical", "too_large", "unterminated"]

_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]")
_ESCAPE: Final = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})')
_PADDING_AFTER: Final = {0: 0, 2: 2, 3: 1}
_WHITE_SPACE: Final = b"\r\n\t "
_SCHEME: Final = b"data:"
_HEAD: Final = re.compile(rb"data:([^,;\s]*)[^,]*;base64,", re.IGNORECASE)
_HEAD_BYTES_MAX: Final = 256
_BYTES_KEPT_WITH: Final = frozenset({None, "not_canonical", "unterminated"})


@dataclass(frozen=True, slots=True)
class Fault:
    """The first fault of a base64 string.

    Attributes:
        code: ``alphabet`` for a character that is no base64, ``padding`` for a wrong number or place of
            ``=``, ``not_canonical`` for set bits behind the last byte (RFC 4648 section 3.5),
            ``too_large`` for more bytes than allowed, ``unterminated`` where the body ended inside.
        offset: Characters of the base64 before the fault, white space not counted; for ``too_large`` before
            the excess.
        character: The character that is no base64, which tells what the caller may have meant.
    """

    code: FaultCode
    offset: int
    character: str = field(default="", compare=False)


class Base64Decoder:
    """Decodes one base64 text that arrives in pieces. After the first fault, it only counts characters.

    The bytes are collected in a ``BytesIO``, because its ``getvalue`` returns the buffer itself; a bytearray
    or a list of pieces would have to be copied once more at the end.

    Args:
        alphabets: ``standard`` (RFC 4648 section 4), or ``either`` to take the URL-safe one as well.
        padding: Whether ``=`` at the end may be missing altogether.
        bytes_max: Decoded bytes that are kept, or None for all.
        wrapped: Whether line breaks (RFC 2045) and a data URL (RFC 2397) around the base64 are read.

    ``media_type`` is the type that a data URL declares, else empty. ``plain`` is whether nothing but the
    base64 was there.
    """

    __slots__ = ("_bytes_max", "_carry", "_either", "_fed", "_head", "_kept", "_padding", "_padding_rule",
                 "_url_safe", "_wrapped", "fault", "media_type", "plain", "text_length")  # fmt: skip

    def __init__(
        self, alphabets: Alphabets, padding: Padding, bytes_max: int | None, *, wrapped: bool = False
    ) -> None:
        self._wrapped = wrapped
        self._head: bytes | None = b"" if wrapped else None
        self._fed = 0
        self.media_type = ""
        self.plain = True
        self._either = alphabets == "either"
        self._padding_rule = padding
        self._bytes_max = bytes_max
        self._url_safe = False
        self._kept = io.BytesIO()
        self._carry = b""
        self._padding = 0
        self.text_length = 0
        self.fault: Fault | None = None

    def feed(self, text: bytes) -> None:
        """Take the next characters, without JSON escapes."""
        self.text_length += len(text)
        if self.fault is not None:
            return
        if self._head is not None:
            text = self._take_head(self._head + text)
        if self._wrapped and any(character in text for character in _WHITE_SPACE):
            text = text.translate(None, _WHITE_SPACE)
            self.plain = False
        start = self._fed
        self._fed += len(text)
        equals = 0
        if not self._padding:
            equals = text.find(b"=")
        if equals < 0:
            self._decode(text, start)
            return
        self._decode(text[:equals], start)
        if text.count(b"=", equals) != len(text) - equals:
            self._fail("padding", start + equals - self._padding)
        self._padding += len(text) - equals

    def feed_escaped(self, text: bytes) -> None:
        r"""Take characters with whole JSON escapes among them, such as ``\u003d``.

        The backslash of an escape that JSON does not know is a character outside the alphabet.
        """
        try:
            plain = _unescape(text)
        except ValueError:
            plain = text if self.fault else _ESCAPE.sub(lambda escape: _unescape(escape[0]), text)
        self.feed(plain)

    def end(self, *, terminated: bool) -> tuple[bytes, Fault | None]:
        """The bytes and the first fault; the string takes no more text."""
        if self._head:
            rest, self._head = self._head, None
            self.text_length -= len(rest)
            self.feed(rest)
        if self.fault is None:
            self._decode_rest(terminated=terminated)
        if self.fault is None or self.fault.code in _BYTES_KEPT_WITH:
            return self._kept.getvalue(), self.fault
        return b"", self.fault

    def _fail(self, code: FaultCode, offset: int, character: bytes = b"") -> None:
        """Record a fault, unless there was an earlier one."""
        if self.fault is not None:
            return
        self.fault = Fault(code, offset, character.decode("latin-1"))
        if code not in _BYTES_KEPT_WITH:
            self._kept = io.BytesIO()

    def _take_head(self, text: bytes) -> bytes:
        """Return the text behind the head of a data URL; empty while more is needed to tell."""
        beginning = text[: len(_SCHEME)].lower()
        if not _SCHEME.startswith(beginning):
            self._head = None
            return text
        head = _HEAD.match(text)
        if head is None:
            undecided = b"," not in text and len(text) <= _HEAD_BYTES_MAX
            self._head = text if undecided else None
            return b"" if undecided else text
        self._head = None
        self.media_type = head[1].decode("latin-1").lower()
        self.plain = False
        return text[head.end() :]

    def _decode(self, text: bytes, start: int) -> None:
        """Decode whole quanta of four characters, carrying up to three to the next piece."""
        view = memoryview(text)
        if self._carry:
            missing = 4 - len(self._carry)
            quantum = self._carry + text[:missing]
            if len(quantum) < 4:
                self._carry = quantum
                return
            self._keep(quantum, start - len(self._carry))
            self._carry = b""
            view = view[missing:]
            start += missing
        whole = len(view) & ~3
        self._carry = bytes(view[whole:])
        if whole:
            self._keep(view[:whole], start)

    def _keep(self, text: bytes | memoryview, start: int) -> None:
        if self.fault is not None:
            return
        raw = self._decode_quanta(text)
        if raw is None:
            wrong = _NOT_BASE64.search(self._normalize_alphabet(text))
            self._fail("alphabet", start + (wrong.start() if wrong else 0), wrong[0] if wrong else b"")
            return
        self._kept.write(raw)
        if self._bytes_max is not None and self._kept.tell() > self._bytes_max:
            self._fail("too_large", -(-self._bytes_max // 3) * 4)

    def _normalize_alphabet(self, text: bytes | memoryview) -> bytes:
        if self._either:
            return bytes(text).replace(b"-", b"+").replace(b"_", b"/")
        return bytes(text)

    def _decode_quanta(self, text: bytes | memoryview) -> bytes | None:
        """The bytes of whole quanta, or None for a wrong character."""
        try:
            return pybase64.b64decode(
                self._normalize_alphabet(text) if self._url_safe else text, validate=True
            )
        except binascii.Error:
            if self._url_safe or not self._either:
                return None
            # From here on both alphabets are accepted, which is a little slower.
            self._url_safe = True
            return self._decode_quanta(text)

    def _decode_rest(self, *, terminated: bool) -> None:
        rest = self._normalize_alphabet(self._carry)
        start = self._fed - self._padding - len(rest)
        wrong = _NOT_BASE64.search(rest)
        expected = _PADDING_AFTER.get(len(rest))
        if wrong:
            self._fail("alphabet", start + wrong.start(), wrong[0])
        elif not terminated:
            self._fail("unterminated", self._fed)
        elif expected is None or (
            self._padding != expected and (self._padding or self._padding_rule == "required")
        ):
            self._fail("padding", start + len(rest))
        elif rest:
            quantum = rest + b"=" * expected
            self._keep(quantum, start)
            if self.fault is None and pybase64.b64encode(pybase64.b64decode(quantum)) != quantum:
                self._fail("not_canonical", start + len(rest) - 1)


def _unescape(text: bytes) -> bytes:
    """The characters, a question mark for each beyond Latin-1. Raises ValueError for an unknown escape."""
    value: str = json.loads(f'"{text.decode("latin-1")}"', strict=False)
    return value.encode("latin-1", "replace")
