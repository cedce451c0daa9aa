"""Plain text: detection, and the faults for which a text is refused."""

from __future__ import annotations

import codecs
import re

_SLICE = 1 << 20
# As in file(1), a text may hold the control characters from bell to carriage return, and escape. DOS texts
# end with Ctrl-Z.
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x19\x1c-\x1f\x7f]|\x1a(?!\Z)")
_PLAIN = re.compile(rb"[\x07-\x0d\x1b\x20-\x7e]")
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_WIDE_SAMPLE = 256
_MOSTLY = 0.75


def is_text(head: bytes) -> bool:
    """Whether a head is UTF-8 without control characters; its last character may be incomplete."""
    if not head or _CONTROL.search(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=False)
    except UnicodeDecodeError:
        return False
    return True


def is_nearly_text(head: bytes) -> bool:
    """Whether a head that is not valid UTF-8 is a text in another encoding, or slightly damaged.

    Such a file is refused with a message about its encoding, not as an unknown type.
    """
    if _detect_wide_encoding(head) is not None:
        return True
    controls = len(_CONTROL.findall(head))
    plain = len(_PLAIN.findall(head))
    return plain >= _MOSTLY * len(head) and controls <= len(head) - plain and controls * 20 <= len(head)


def _detect_wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by its byte order mark, or UTF-16 of mostly Latin letters without one; else None."""
    for mark, name in _MARKS:
        if head.startswith(mark) and len(head) > len(mark):
            return name
    sample = head[:_WIDE_SAMPLE]
    for zeros, letters in ((sample[0::2], sample[1::2]), (sample[1::2], sample[0::2])):
        if len(sample) >= 8 and not any(zeros) and len(_PLAIN.findall(letters)) == len(letters):
            return "UTF-16"
    return None


def find_fault(data: bytes) -> str | None:
    """Why a text cannot be sent, as a sentence, or None. It is decoded a megabyte at a time.

    Control characters are refused everywhere: in the head they distinguish binary data from text, and further
    on they are the same fault.
    """
    wide = _detect_wide_encoding(data[:_WIDE_SAMPLE])
    if wide is not None:
        return f"The text is encoded as {wide}; send it as UTF-8."
    control = _CONTROL.search(data)
    if control is not None:
        return f"The text has the control character 0x{data[control.start()]:02x} at byte {control.start()}."
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(data), _SLICE):
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(data[at : at + _SLICE], final=at + _SLICE >= len(data))
        except UnicodeDecodeError as error:
            place = at - held + error.start
            return f"The text is not UTF-8: no character begins at byte {place}. Send it as UTF-8."
    return None
