"""Lifts base64 strings out of a JSON text while it streams in, so that no JSON parser ever sees an image.

The scanner knows just enough JSON to tell keys from other strings. It never loops over single characters of
image data: it searches with ``bytes.find`` and regular expressions, in linear time, and decodes each image
once, piece by piece, as its text arrives. What is left is the *skeleton*, the same JSON with a short
placeholder in place of each string; ``splicing`` reverses this.

The scanner does not validate the JSON; the parser of the skeleton reports errors.
"""

from __future__ import annotations

import itertools
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.media.base64_text import Base64Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from app.media.base64_text import Alphabets, Fault, Padding


_QUOTE: Final = ord('"')
_COLON: Final = ord(":")
# Possessive quantifiers stand over single characters only: after one over a group, CPython before 3.11.5 goes
# on from a wrong place (gh-100061, gh-106052). A greedy group remembers a way back for every repetition, so
# the number of repetitions is bounded, and where a match ends at the bound the scanner matches again.
_WHITESPACE: Final = re.compile(rb"[ \t\r\n]*+")
_STRING_REST_PATTERN: Final = rb'[^"\\]*+(?:\\.[^"\\]*+){0,2000}'
_STRING_REST: Final = re.compile(_STRING_REST_PATTERN, re.DOTALL)
# Ends before an escape that the end of the chunk cuts, but not before one that JSON does not know.
_ESCAPED_RUN: Final = re.compile(rb'[^"\\]*+(?:\\(?!u[^"\\]{0,3}+\Z).[^"\\]*+){0,2000}', re.DOTALL)


TEXT_BYTES_MAX: Final = 131_072
"""Longest string, in bytes of JSON, that is also kept as text, because it may turn out not to be a file's. No
model reads or writes a longer one (docs/model.md#what-the-card-rests-on)."""


class SkeletonTooLarge(ValueError):
    """The skeleton exceeds its size limit."""


class TooManyStrings(ValueError):
    """The text has more strings to lift than allowed."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """A lifted string.

    Attributes:
        placeholder: The text that replaces it in the skeleton, without quotes.
        data: The decoded bytes. Empty if a fault makes them meaningless; present with ``not_canonical`` (they
            are complete) and ``unterminated`` (they are what had arrived).
        text_length: Length of the string's value in characters.
        fault: The first fault, or None.
        text: The string as JSON, without quotes, or None if it is longer than ``TEXT_BYTES_MAX``.
        media_type: The type that the head of a data URL declares, else empty.
        plain: Whether the string was base64 without line breaks and without the head of a data URL.
    """

    placeholder: str
    data: bytes
    text_length: int
    fault: Fault | None = None
    text: bytes | None = field(default=None, repr=False)
    media_type: str = ""
    plain: bool = True

    @property
    def has_all_bytes(self) -> bool:
        """Whether the string is whole base64, if perhaps not canonical."""
        return self.fault is None or self.fault.code == "not_canonical"


@dataclass(frozen=True, slots=True)
class LiftedBody:
    """A body in two parts: the JSON skeleton, and the lifted strings in the order of the text."""

    skeleton: bytes
    blobs: tuple[Lifted, ...]


def _build_key_pattern(key: str) -> bytes:
    """A pattern for all ways to write a key in JSON: each letter as itself or as an escape."""
    return b"".join(
        rb"(?:" + re.escape(letter).encode() + rb"|\\u(?i:" + f"{ord(letter):04x}".encode() + b"))"
        for letter in key
    )


def generate_placeholders() -> Iterator[str]:
    """Generate unlimited placeholders of 32 letters and digits that the author of a body cannot guess.

    Each is valid canonical base64 of 24 bytes in either alphabet, so that an SDK that decodes and re-encodes
    the field reproduces it.
    """
    nonce = secrets.token_hex(9)
    return (f"lifted{nonce}{index:08x}" for index in itertools.count())


class Lifter:
    """Lifts the base64 strings under given keys out of one JSON text in UTF-8.

    Feed the text in chunks of any length, then close. Memory use is about the decoded bytes plus one chunk.
    Every string under a key is lifted, with its fault if it is not base64; other values under it stay.

    Args:
        keys: Names of the members to lift, at any depth, of letters, digits and underscores.
        alphabets: ``standard`` (RFC 4648 section 4), or ``either`` to take the URL-safe one as well.
        padding: Whether ``=`` at the end may be missing altogether.
        wrapped: Whether line breaks and a data URL around the base64 are read.
        string_bytes_max: Most decoded bytes of one string, or None.
        strings_max: Most strings to lift, or None.
        light_bytes_max: Bytes that the skeleton body may have, or None.
    """

    def __init__(
        self,
        keys: Collection[str] = frozenset({"data"}),
        *,
        alphabets: Alphabets = "standard",
        padding: Padding = "required",
        wrapped: bool = False,
        string_bytes_max: int | None = None,
        strings_max: int | None = None,
        light_bytes_max: int | None = None,
    ) -> None:
        # A key may be spelt with escapes, six characters for each. No longer string can be a key.
        self._key_token_max = 2 + 6 * max(len(key) for key in keys)
        key = b'"(?:' + b"|".join(_build_key_pattern(key) for key in keys) + b')"'
        self._nothing_to_lift = re.compile(
            rb'[^"]*+(?:(?!' + key + rb')"' + _STRING_REST_PATTERN + rb'"[^"]*+){0,2000}', re.DOTALL
        )
        self._key = re.compile(key)
        self._key_and_quote = re.compile(key + rb'[ \t\r\n]*+:[ \t\r\n]*+"')
        self._new_string: Callable[[], Base64Decoder] = lambda: Base64Decoder(
            alphabets, padding, string_bytes_max, wrapped=wrapped
        )
        self._placeholders = generate_placeholders()
        self._light_bytes_max = light_bytes_max
        self._strings_max = strings_max
        self._skeleton = bytearray()
        self._blobs: list[Lifted] = []
        self._held = b""
        self._placeholder = ""
        self._string: Base64Decoder | None = None
        self._text = bytearray()
        # The state is a plain function, not a bound method, which would create a reference cycle and keep the
        # lifted images in memory until the next garbage collection.
        self._state: Callable[[Lifter, bytes, int], int] = Lifter._scan_outside

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the text.

        Raises:
            SkeletonTooLarge: The skeleton exceeds its limit.
            TooManyStrings: There are more strings to lift than ``strings_max``.
        """
        if self._held:
            chunk, self._held = self._held + chunk, b""
        position = 0
        while position < len(chunk):
            position = self._state(self, chunk, position)

    def close(self) -> LiftedBody:
        """Return the two parts. The skeleton of a truncated text is truncated at the same place.

        Raises:
            SkeletonTooLarge: See ``feed``.
        """
        if self._string is None:
            self._emit(self._held)
        else:
            self._feed_string(self._held)
            self._end_string(terminated=False)
        self._held = b""
        return LiftedBody(bytes(self._skeleton), tuple(self._blobs))

    def _emit(self, text: bytes) -> None:
        self._skeleton += text
        if self._light_bytes_max is not None and len(self._skeleton) > self._light_bytes_max:
            raise SkeletonTooLarge(f"The body has more than {self._light_bytes_max} bytes beside its images.")

    def _hold(self, chunk: bytes, position: int) -> int:
        """Hold back the end of a chunk until the next one arrives, because it is ambiguous alone."""
        self._held = chunk[position:]
        return len(chunk)

    # Each state scans a chunk from a position below its length, and returns the position that it reached. It
    # must either advance, change the state, or hold back the rest, so that ``feed`` terminates.

    def _scan_outside(self, chunk: bytes, position: int) -> int:
        """Between strings, or before one that may be a key."""
        begin = self._nothing_to_lift.match(chunk, position).end()  # type: ignore[union-attr]  # may be empty
        self._emit(chunk[position:begin])
        if begin == len(chunk):
            return begin
        head = self._key_and_quote.match(chunk, begin)
        if head is not None:  # the common case, without the next two states
            self._emit(head[0])
            self._begin_string()
            return head.end()
        key = self._key.match(chunk, begin)
        if key is not None:
            self._emit(key[0])
            self._state = Lifter._scan_after_key
            return key.end()
        if begin > position:
            return begin  # the pattern may have stopped at its repetition bound, so it must be matched again
        if len(chunk) - begin <= self._key_token_max:
            return self._hold(chunk, begin)
        self._emit(b'"')
        self._state = Lifter._scan_string
        return begin + 1

    def _scan_string(self, chunk: bytes, position: int) -> int:
        """Inside a string that is too long for a key."""
        end = _STRING_REST.match(chunk, position).end()  # type: ignore[union-attr]  # it may match nothing
        if end > position:
            self._emit(chunk[position:end])
            return end
        if chunk[end] != _QUOTE:
            return self._hold(chunk, end)  # a backslash whose escape continues in the next chunk
        self._emit(b'"')
        self._state = Lifter._scan_outside
        return end + 1

    def _scan_after_key(self, chunk: bytes, position: int) -> int:
        """After a string that is spelled like a key; a colon makes it one."""
        return self._skip_whitespace(chunk, position, _COLON, Lifter._scan_after_colon)

    def _scan_after_colon(self, chunk: bytes, position: int) -> int:
        """After a key and its colon; a quote begins the string to lift."""
        return self._skip_whitespace(chunk, position, _QUOTE, Lifter._scan_lifted)

    def _skip_whitespace(
        self, chunk: bytes, position: int, wanted: int, then: Callable[[Lifter, bytes, int], int]
    ) -> int:
        end = _WHITESPACE.match(chunk, position).end()  # type: ignore[union-attr]  # it may match nothing
        self._emit(chunk[position:end])
        if end == len(chunk):
            return end
        if chunk[end] != wanted:
            self._state = Lifter._scan_outside
            return end
        self._emit(chunk[end : end + 1])
        self._state = then
        if wanted == _QUOTE:
            self._begin_string()
        return end + 1

    def _scan_lifted(self, chunk: bytes, position: int) -> int:
        """Inside a string that is lifted."""
        quote = chunk.find(b'"', position)
        end = quote
        if quote < 0:
            end = len(chunk)
        backslashes = chunk.count(b"\\", position, end)
        if not backslashes or backslashes == chunk.count(b"\\/", position, end):
            # Some encoders escape every solidus. No backslash escapes the quote, so it ends the string.
            self._feed_string(chunk[position:end], solidi=backslashes > 0)
        else:
            # The other state stops at certain escapes, and searching for the quote after each of them would
            # take quadratic time.
            self._state = Lifter._scan_lifted_escaped
            return position
        if end == len(chunk):
            return end
        return self._close_string(end)

    def _scan_lifted_escaped(self, chunk: bytes, position: int) -> int:
        """Inside a string that is lifted, in a chunk with other escapes."""
        end = _ESCAPED_RUN.match(chunk, position).end()  # type: ignore[union-attr]  # it may match nothing
        if end > position:
            self._feed_string(chunk[position:end], escaped=True)
        if end == len(chunk):
            self._state = Lifter._scan_lifted
            return end
        if chunk[end] == _QUOTE:
            return self._close_string(end)
        if end > position:
            return end
        return self._hold(chunk, end)

    def _begin_string(self) -> None:
        if self._strings_max is not None and len(self._blobs) >= self._strings_max:
            raise TooManyStrings(f"The text has more than {self._strings_max} strings to lift.")
        self._string = self._new_string()
        self._placeholder = next(self._placeholders)
        self._emit(self._placeholder.encode())
        self._state = Lifter._scan_lifted

    def _feed_string(self, text: bytes, *, escaped: bool = False, solidi: bool = False) -> None:
        """Take text of the string as JSON; ``solidi``: its only escapes are those of solidi."""
        if self._string is None:
            return
        if len(self._text) <= TEXT_BYTES_MAX:
            self._text += text[: TEXT_BYTES_MAX + 1]
        if escaped:
            self._string.feed_escaped(text)
        elif solidi:
            self._string.feed(text.replace(b"\\/", b"/"))
        else:
            self._string.feed(text)

    def _close_string(self, quote: int) -> int:
        self._end_string(terminated=True)
        self._emit(b'"')
        self._state = Lifter._scan_outside
        return quote + 1

    def _end_string(self, *, terminated: bool) -> None:
        if self._string is not None:
            string, self._string = self._string, None
            data, fault = string.end(terminated=terminated)
            text = None
            if len(self._text) <= TEXT_BYTES_MAX:
                text = bytes(self._text)
            self._text = bytearray()
            lifted = Lifted(
                self._placeholder, data, string.text_length, fault, text, string.media_type, string.plain
            )
            self._blobs.append(lifted)
