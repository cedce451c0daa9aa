"""Records as they are stored: compressed with a dictionary of the names that all records share.

The dictionary never changes, because what was packed with it could not be read any more. Another one needs
another mark; what has no mark is a plain record.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Final

PACKED_BYTES_MAX: Final = 65_536
"""Longer records are stored as they are: they are mostly thought signatures, which are random."""

DICTIONARY: Final = (
    b'"aspect_ratio":null,"image_size":"","n":1,"response_modalities":["IMAGE"],"output_mime_type":null,'
    b'"output_compression_quality":null,"temperature":1.0,"top_p":0.95,"seeds":[null],"max_output_tokens":,'
    b'"thinking_level":"minimal","variant":0,"continue_from":null,"grounding":{"web_search":false,'
    b'"image_search":false}},"conversation":{"id":"gen_","model":"gemini-3.1-flash-image","back_end":"vertex",'
    b'"turns":1,"contents":"{\\"role\\": \\"user\\", \\"parts\\": [{\\"text\\": \\"\\"}]},{\\"parts\\": '
    b'[{\\"inlineData\\": {\\"mimeType\\": \\"image/png\\", \\"data\\": \\"lifted\\"}, '
    b'\\"thoughtSignature\\": \\"\\"}], \\"role\\": \\"model\\"}","places":[["lifted","img_"]],"images":0,'
    b'"pictures":1,"text_bytes":,"document_tokens":0,"length":,"addresses":[]},"ending":null}}'
    b'"gemini-3-pro-image","gemini-3.1-flash-lite-image","gemini-nano-banana-2.1",'
    b'{"v":1,"finished":{"generation":{"id":"gen_","model":"gemini-3.1-flash-image",'
    b'{"v":1,"generation":{"id":"gen_","model":"gemini-3.1-flash-image","model_version":"gemini-3.1-flash-image",'
    b'"created_ms":0,"pictures":[{"id":"img_","mime_type":"image/jpeg","width":1024,"height":1024,"length":}],'
    b'"text":"","finish_reason":"STOP","usage":{"text_input":,"image_input":0,"image_output":1120,'
    b'"text_output":,"thinking":0,"tool_use":0,"cached_input":0,"estimated":false,"tier":"standard",'
    b'"search_queries":0,"usd":},"seeds":[null],"notices":[],"interim":[],"verbatim":"{\\"candidates\\":'
    b'[{\\"content\\":{\\"parts\\":[{\\"inlineData\\":{\\"mimeType\\":\\"image/jpeg\\",\\"data\\":\\"img_\\"},'
    b'\\"thoughtSignature\\":\\"\\"}],\\"role\\":\\"model\\"},\\"finishReason\\":\\"STOP\\",\\"index\\":0}],'
    b'\\"usageMetadata\\":{\\"promptTokenCount\\":,\\"candidatesTokenCount\\":,\\"totalTokenCount\\":,'
    b'\\"promptTokensDetails\\":[{\\"modality\\":\\"TEXT\\",\\"tokenCount\\":}],'
    b'\\"candidatesTokensDetails\\":[{\\"modality\\":\\"IMAGE\\",\\"tokenCount\\":1120}],'
    b'\\"thoughtsTokenCount\\":,\\"trafficType\\":\\"ON_DEMAND\\"},\\"modelVersion\\":'
    b'\\"gemini-3.1-flash-image\\",\\"responseId\\":\\"\\",\\"createTime\\":\\"2026-\\"}","back_end":"vertex",'
    b'"searches":[]},"fingerprint":"","effective":{"model":"gemini-3.1-flash-image",'
)
_MARK: Final = "z1:"


class UnreadablePacking(ValueError):
    """The value is damaged, or a later version packed it."""


def pack(record: str) -> bytes:
    """A record for a store of bytes."""
    value = record.encode()
    if len(value) > PACKED_BYTES_MAX:
        return value
    packer = zlib.compressobj(6, zdict=DICTIONARY)
    return packer.compress(value) + packer.flush()


def unpack(value: bytes) -> str:
    """The record of such bytes. Raises UnreadablePacking."""
    try:
        if value.startswith(b"{"):
            return value.decode()
        unpacker = zlib.decompressobj(zdict=DICTIONARY)
        record = unpacker.decompress(value).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise UnreadablePacking from error
    if not unpacker.eof:
        raise UnreadablePacking
    return record


def pack_text(record: str) -> str:
    """A record for a script, whose arguments and replies are texts."""
    value = pack(record)
    if value.startswith(b"{"):
        return record
    return _MARK + base64.b85encode(value).decode()


def unpack_text(text: str) -> str:
    """The record of such a text; one without the mark is returned as it is. Raises UnreadablePacking."""
    if not text.startswith(_MARK):
        return text
    try:
        return unpack(base64.b85decode(text.removeprefix(_MARK)))
    except (ValueError, binascii.Error) as error:
        raise UnreadablePacking from error
