"""Files built byte by byte: unusual ones, false ones, and the first bytes of other formats."""

from __future__ import annotations

import struct
import zlib

from app.domain.policy import PIXELS_MAX
from tests.media.files import (
    EOI,
    IDAT,
    IEND,
    MDAT,
    PNG_SIGNATURE,
    SCAN,
    SOI,
    anmf,
    box,
    chunk,
    encoded,
    frame,
    ftyp,
    full,
    handler,
    ihdr,
    iinf,
    iloc,
    ipma,
    ispe,
    meta,
    pitm,
    png,
    riff_chunk,
    segment,
    vp8,
    vp8l,
    vp8x,
    webp,
)

ONE_FRAME = chunk(b"acTL", struct.pack(">II", 1, 0))
TILED = full(b"iref", box(b"dimg", struct.pack(">HHH", 1, 1, 2)))
LOOP = full(b"iref", box(b"dimg", struct.pack(">HHH", 1, 1, 1)))
DESCRIPTION = pitm(1) + iinf((1, b"hvc1")) + box(b"iprp", box(b"ipco", ispe(9, 9)) + ipma((1, (1,))))
# Version 1 of pitm and ipma: item ids of four bytes, property indexes of two.
WIDE_IPMA = struct.pack(">I", 2) + struct.pack(">IBH", 1, 1, 2) + struct.pack(">IBHH", 70_000, 2, 0x8001, 2)
WIDE_ITEM = full(b"infe", struct.pack(">IH", 70_000, 0) + b"hvc1\0", version=3)
WIDE_ITEMS = full(b"iinf", struct.pack(">I", 1) + WIDE_ITEM, version=1)
WIDE = (
    full(b"pitm", struct.pack(">I", 70_000), version=1)
    + WIDE_ITEMS
    + box(
        b"iprp",
        box(b"ipco", full(b"irot", b"\x01") + ispe(9, 9)) + full(b"ipma", WIDE_IPMA, version=1, flags=1),
    )
)
LONG_BOX = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 20) + b"abcd"
WHOLE_JPEG = SOI + frame(10, 10) + SCAN + EOI

HARMLESS: dict[str, bytes] = {
    "png with data behind its end": png(ihdr(10, 10), IDAT, IEND) + b"PK\x03\x04 and more",
    "png with many chunks": png(ihdr(10, 10), *[chunk(b"tEXt", b"k\x00v")] * 2000, IDAT, IEND),
    "png animated": png(ihdr(9, 9), chunk(b"acTL", struct.pack(">II", 2, 0)), IDAT, IEND),
    "png animated for ever": png(ihdr(9, 9), chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)), IDAT, IEND),
    "png with a palette": png(ihdr(9, 9, colour=3), chunk(b"PLTE", bytes(6)), IDAT, IEND),
    "png of one frame with animation control": png(ihdr(9, 9), ONE_FRAME, IDAT, IEND),
    "png interlaced": png(ihdr(10, 10, interlace=1), IDAT, IEND),
    "jpeg with an empty comment": SOI + segment(0xFE) + frame(10, 10) + SCAN + EOI,
    "heic with an empty box": ftyp() + box(b"free") + meta(ispe(9, 9)) + MDAT,
    "heic with four association boxes": ftyp() + meta(ispe(9, 9), associations=ipma((1, (1,))) * 4) + MDAT,
    "jpeg with zeros between segments": SOI + segment(0xE0) + bytes(2) + frame(9, 9) + bytes(9) + SCAN + EOI,
    "jpeg with text between segments": SOI + segment(0xE1) + b"Truepic" + frame(10, 10) + SCAN + EOI,
    "jpeg with stuffed bytes between segments": SOI + b"\xff\x00" * 50 + frame(10, 10) + SCAN + EOI,
    "jpeg padded with zeros": WHOLE_JPEG + bytes(512),
    "jpeg with a film behind it": WHOLE_JPEG + box(b"ftyp", b"mp42") + bytes(100_000),
    "jpeg with fill bytes": SOI + b"\xff\xff\xff" + frame(10, 10) + b"\xff\xff" + SCAN + EOI,
    "jpeg with restart markers": SOI + frame(10, 10) + SCAN + b"\xff\xd0\x01\xff\xd1\x02" + EOI,
    "jpeg arithmetic": SOI + frame(10, 10, 0xC9) + SCAN + EOI,
    "jpeg with an end marker in a thumbnail": SOI + segment(0xE1, SOI + EOI) + frame(9, 9) + SCAN + EOI,
    "webp animated": webp(vp8x(9, 9, 2), anmf(9, 9), anmf(9, 9)),
    "webp with data behind its end": webp(vp8(10, 10)) + b"trailer",
    "webp odd metadata": webp(vp8x(10, 10, 8), vp8(10, 10), riff_chunk(b"EXIF", b"odd")),
    "webp odd profile before its picture": webp(vp8x(10, 10, 32), riff_chunk(b"ICCP", b"odd"), vp8(10, 10)),
    "heic with wide numbers": ftyp() + full(b"meta", WIDE) + MDAT,
    "webp scaled": webp(vp8(10 | 1 << 14, 10 | 2 << 14)),
    "heic with a 64-bit length": ftyp() + meta(ispe(9, 9)) + LONG_BOX,
    "heic with data to the end": ftyp() + meta(ispe(9, 9)) + box(b"mdat", bytes(50), length=0),
    "heic with its data in meta": ftyp() + full(b"meta", DESCRIPTION + box(b"idat", b"x")),
    "heic of tiles": ftyp() + meta(ispe(9, 9), items=iinf((1, b"grid"), (2, b"hvc1")), more=TILED) + MDAT,
    "heic with noise behind its data": ftyp() + meta(ispe(9, 9)) + MDAT + b"\x00\x00\x00\x01noise",
    "heic with its picture's place": ftyp() + meta(ispe(9, 9), more=iloc((1, 9, 100))) + MDAT,
    "heic with a film behind that is cut": (
        ftyp() + meta(ispe(9, 9), more=iloc((1, 9, 100))) + MDAT + box(b"mpvd", length=99_999)
    ),
    "heif by its brand": ftyp(b"mif1", b"heic") + meta(ispe(9, 9)) + MDAT,
}  # fmt: skip


def _tiles(count: int) -> bytes:
    """An association box for many items, the primary one last."""
    return ipma(*(((item, (1,))) for item in range(2, count + 2)), (1, (1,)))


HOSTILE: dict[str, tuple[bytes, str]] = {
    # PNG
    "png signature alone": (PNG_SIGNATURE, "truncated_image"),
    "png cut in its header": (png(ihdr(10, 10))[:20], "truncated_image"),
    "png header alone": (png(ihdr(10, 10)), "truncated_image"),
    "png without end": (png(ihdr(10, 10), IDAT), "truncated_image"),
    "png cut with an end pasted on": (png(ihdr(10, 10), IDAT[:-6]) + IEND, "truncated_image"),
    "png without data": (png(ihdr(10, 10), IEND), "unreadable_image"),
    "png of no width": (png(ihdr(0, 10), IDAT, IEND), "unreadable_image"),
    "png of no height": (png(ihdr(10, 0), IDAT, IEND), "unreadable_image"),
    "png wider than can be": (png(ihdr(2**31, 1), IDAT, IEND), "unreadable_image"),
    "png of most pixels": (png(ihdr(2**31 - 1, 2**31 - 1), IDAT, IEND), "too_many_pixels"),
    "png thin and long": (png(ihdr(1, PIXELS_MAX + 1), IDAT, IEND), "too_many_pixels"),
    "png of depth 3": (png(ihdr(10, 10, depth=3), IDAT, IEND), "unreadable_image"),
    "png of colour type 7": (png(ihdr(10, 10, colour=7), IDAT, IEND), "unreadable_image"),
    "png of interlace 9": (png(ihdr(10, 10, interlace=9), IDAT, IEND), "unreadable_image"),
    "png with a wrong checksum": (png(ihdr(10, 10)[:-1] + b"!", IDAT, IEND), "unreadable_image"),
    "png with another first chunk": (png(chunk(b"tEXt", bytes(13)), ihdr(10, 10)), "unreadable_image"),
    "png with a long header chunk": (png(chunk(b"IHDR", bytes(14)), IDAT, IEND), "unreadable_image"),
    "png chunk of 4 GB": (png(ihdr(10, 10), chunk(b"IDAT", b"abc", 2**32 - 1), IEND), "truncated_image"),
    "png chunk that is no chunk": (png(ihdr(10, 10), bytes(40), IDAT, IEND), "unreadable_image"),
    "png of a million empty chunks": (png(ihdr(10, 10), IDAT, chunk(b"tEXt") * 100_000), "truncated_image"),
    "png with half of its rows": (
        png(ihdr(100, 100), chunk(b"IDAT", zlib.compress(bytes(301 * 50))), IEND), "truncated_image"
    ),
    "png interlaced with half of its rows": (
        png(ihdr(100, 100, interlace=1), chunk(b"IDAT", zlib.compress(bytes(301 * 50))), IEND),
        "truncated_image",
    ),
    "png with pixels that cannot be unpacked": (
        png(ihdr(9, 9), chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 90), IEND), "unreadable_image"
    ),
    "png without palette": (png(ihdr(9, 9, colour=3), IDAT, IEND), "unreadable_image"),
    "png with a damaged palette": (
        png(ihdr(9, 9, colour=3), chunk(b"PLTE", bytes(6))[:-1] + b"!", IDAT, IEND), "unreadable_image"
    ),
    "png with its palette too late": (
        png(ihdr(9, 9, colour=3), IDAT, chunk(b"PLTE", bytes(6)), IEND), "unreadable_image"
    ),
    # JPEG
    "jpeg start alone": (SOI + b"\xff", "truncated_image"),
    "jpeg without end": (SOI + frame(10, 10) + SCAN, "truncated_image"),
    "jpeg cut in its frame header": (SOI + frame(10, 10)[:6], "truncated_image"),
    "jpeg without frame": (SOI + SCAN + EOI, "unreadable_image"),
    "jpeg empty": (SOI + EOI, "unreadable_image"),
    "jpeg whose only end is in a thumbnail": (
        SOI + segment(0xE1, SOI + EOI) + frame(9, 9) + SCAN, "truncated_image"
    ),
    "jpeg of no height": (SOI + frame(10, 0) + SCAN + EOI, "unreadable_image"),
    "jpeg of no width": (SOI + frame(0, 10) + SCAN + EOI, "unreadable_image"),
    "jpeg of most pixels": (SOI + frame(65_535, 65_535) + SCAN + EOI, "too_many_pixels"),
    "jpeg with two sizes": (SOI + frame(10, 10) + frame(60_000, 60_000) + SCAN + EOI, "unreadable_image"),
    "jpeg segment of length 0": (SOI + segment(0xE0, b"", 0) + frame(9, 9) + SCAN + EOI, "unreadable_image"),
    "jpeg segment of length 1": (SOI + segment(0xE0, b"", 1) + frame(9, 9) + SCAN + EOI, "unreadable_image"),
    "jpeg segment beyond the end": (SOI + segment(0xE0, b"", 65_535) + frame(9, 9), "truncated_image"),
    "jpeg segment into noise": (SOI + segment(0xE0, b"", 40) + bytes(90), "truncated_image"),
    "jpeg of fill bytes": (SOI + b"\xff" * 100_000, "truncated_image"),
    "jpeg of empty segments": (SOI + segment(0xE0) * 100_000, "unreadable_image"),
    "jpeg of restart markers": (SOI + b"\xff\xd0" * 100_000, "unreadable_image"),
    "jpeg quantisation at the end": (SOI + frame(9, 9) + segment(0xDB, bytes(65)), "truncated_image"),
    # WebP
    "webp header alone": (webp(), "unreadable_image"),
    "webp longer than the file": (webp(vp8(9, 9), length=10_000), "truncated_image"),
    "webp of 4 GB": (webp(vp8(9, 9), length=2**32 - 1), "truncated_image"),
    "webp shorter than its chunk": (webp(vp8(9, 9), length=20), "truncated_image"),
    "webp chunk beyond the file": (webp(riff_chunk(b"VP8 ", vp8(9, 9)[8:], 5000)), "truncated_image"),
    "webp of unknown first chunk": (webp(riff_chunk(b"XXXX", bytes(30)), vp8(9, 9)), "unreadable_image"),
    "webp without key frame": (webp(vp8(9, 9, b"\x00\x00\x00")), "unreadable_image"),
    "webp of no size": (webp(vp8(0, 0)), "unreadable_image"),
    "webp lossless of wrong signature": (webp(vp8l(9, 9, signature=0x30)), "unreadable_image"),
    "webp lossless of wrong version": (webp(vp8l(9, 9, version=1)), "unreadable_image"),
    "webp lossless of most pixels": (webp(vp8l(16_384, 16_384)), "too_many_pixels"),
    "webp small canvas, large picture": (webp(vp8x(1, 1), vp8(16_383, 16_383)), "unreadable_image"),
    "webp large canvas, no picture": (webp(vp8x(10, 10)), "unreadable_image"),
    "webp canvas of 2**48 pixels": (webp(vp8x(2**24, 2**24, 2), anmf(9, 9)), "too_many_pixels"),
    "webp of empty chunks": (webp(vp8x(9, 9), *[riff_chunk(b"ICCP", b"")] * 50_000), "unreadable_image"),
    "webp animation of large frames": (webp(vp8x(9, 9, 2), anmf(16_383, 16_383)), "too_many_pixels"),
    # HEIF
    "heic brand alone": (ftyp(), "unreadable_image"),
    "heic without metadata": (ftyp() + MDAT, "unreadable_image"),
    "heic without data": (ftyp() + meta(ispe(9, 9)), "truncated_image"),
    "heic cut in its data": (ftyp() + meta(ispe(9, 9)) + MDAT[:-1], "truncated_image"),
    "heic whose picture lies behind its end": (
        ftyp() + meta(ispe(9, 9), more=iloc((1, 9, 10_000))) + MDAT, "truncated_image"
    ),
    "heic of av1": (ftyp() + meta(ispe(9, 9), items=iinf((1, b"av01")))[:-1], "truncated_image"),
    "heic uncompressed": (ftyp() + meta(ispe(9, 9), items=iinf((1, b"unci"))) + MDAT, "unreadable_image"),
    "heic of tiles of jpeg": (
        ftyp() + meta(ispe(9, 9), items=iinf((1, b"grid"), (2, b"jpeg")), more=TILED) + MDAT,
        "unreadable_image",
    ),
    "heic of tiles of itself": (
        ftyp() + meta(ispe(9, 9), items=iinf((1, b"grid")), more=LOOP) + MDAT, "unreadable_image"
    ),
    "heic of no tiles": (ftyp() + meta(ispe(9, 9), items=iinf((1, b"grid"))) + MDAT, "unreadable_image"),
    "heic without items": (ftyp() + meta(ispe(9, 9), items=b"") + MDAT, "unreadable_image"),
    "heic of items without end": (
        ftyp() + meta(ispe(9, 9), items=full(b"iinf", b"\xff\xff" + box(b"free") * 5000)) + MDAT,
        "unreadable_image",
    ),
    "heic of places without end": (
        ftyp() + meta(ispe(9, 9), more=full(b"iloc", b"\x00\x00\xff\xff" + bytes(9) * 9)) + MDAT,
        "unreadable_image",
    ),
    "heic of 65,535 places of nothing": (
        ftyp() + meta(ispe(9, 9), more=full(b"iloc", bytes.fromhex("0000 0001 0001 0000 ffff"))) + MDAT,
        "unreadable_image",
    ),
    "heic cut in its metadata": (ftyp() + meta(ispe(9, 9))[:-4], "truncated_image"),
    "heic without primary item": (
        ftyp() + full(b"meta", box(b"iprp", box(b"ipco"))) + MDAT, "unreadable_image"
    ),
    "heic without properties": (ftyp() + full(b"meta", pitm(1)) + MDAT, "unreadable_image"),
    "heic without size": (ftyp() + meta(full(b"irot", b"")) + MDAT, "unreadable_image"),
    "heic size of another item": (ftyp() + meta(ispe(9, 9), item=7) + MDAT, "unreadable_image"),
    "heic of no width": (ftyp() + meta(ispe(0, 9)) + MDAT, "unreadable_image"),
    "heic of most pixels": (ftyp() + meta(ispe(2**32 - 1, 2**32 - 1)) + MDAT, "too_many_pixels"),
    "heic small cover, large rest": (
        ftyp() + meta(ispe(9, 9), ispe(60_000, 60_000), associations=ipma((1, (1,)))) + MDAT,
        "too_many_pixels",
    ),
    "heic size cut": (ftyp() + meta(full(b"ispe", b"\x00\x00")) + MDAT, "unreadable_image"),
    "heic box of length 1 to 7": (ftyp() + box(b"meta", bytes(20), length=4) + MDAT, "unreadable_image"),
    "heic 64-bit box of length 2": (
        ftyp() + struct.pack(">I", 1) + b"meta" + struct.pack(">Q", 2) + MDAT, "unreadable_image"
    ),
    "heic box of 2**63": (
        ftyp() + struct.pack(">I", 1) + b"meta" + struct.pack(">Q", 2**63) + MDAT, "truncated_image"
    ),
    "heic child larger than its parent": (
        ftyp() + full(b"meta", pitm(1) + box(b"iprp", b"", length=9999)) + MDAT, "unreadable_image"
    ),
    "heic property larger than its parent": (
        ftyp() + meta(box(b"colr", b"", length=5000)) + MDAT, "unreadable_image"
    ),
    "heic of empty boxes": (ftyp() + box(b"free") * 100_000, "unreadable_image"),
    "heic of empty properties": (ftyp() + meta(*[box(b"free")] * 250) + MDAT, "unreadable_image"),
    "heic associations without end": (
        ftyp() + meta(ispe(9, 9), associations=ipma((2, (1,)), count=2**32 - 1)) + MDAT, "unreadable_image"
    ),
    "heic of too many associations": (
        ftyp() + meta(ispe(9, 9), associations=_tiles(20_000)) + MDAT, "unreadable_image"
    ),
    "heic of many association boxes": (
        ftyp() + meta(ispe(9, 9), associations=ipma((1, (1,))) * 50) + MDAT, "unreadable_image"
    ),
    "heic aperture over zero": (
        ftyp() + meta(ispe(9, 9), box(b"clap", bytes(32))) + MDAT, "unreadable_image"
    ),
    "heic aperture of nothing": (
        ftyp() + meta(ispe(9, 9), box(b"clap", struct.pack(">8I", 0, 1, 0, 1, 0, 1, 0, 1))) + MDAT,
        "unreadable_image",
    ),
    "avif cut": (ftyp(b"avif") + meta(ispe(9, 9)) + MDAT[:20], "truncated_image"),
    # Documents and nothing
    "nothing": (b"", "empty_file"),
    "text in utf-16": ("fox".encode("utf-16"), "unreadable_document"),
    "text in utf-16 without a mark": ("a fox in the snow".encode("utf-16-be"), "unreadable_document"),
    "text in utf-32": ("fox".encode("utf-32"), "unreadable_document"),
    "text in latin-1": ("Ein Fuchs über dem Schnee".encode("latin-1"), "unreadable_document"),
    "text with a ctrl-z": (b"A fox\x1a in the snow, and another one in the wood", "unreadable_document"),
    "text with a zero": (b"a fox\x00 in the snow, and another one in the wood", "unreadable_document"),
    "text with a zero far behind": (b"a" * 100_000 + b"\x00", "unreadable_document"),
    "text that turns into bytes": (b"a" * 5000 + b"\xff\xfe" + b"b" * 10, "unreadable_document"),
    "text of a megabyte cut inside a letter": (("狐" * 350_000).encode()[: 1 << 20], "unreadable_document"),
    "text cut inside a letter": (("狐".encode() * 3000)[:-1], "unreadable_document"),
}  # fmt: skip


SIGNATURES: dict[str, tuple[bytes, str | None]] = {
    "gif": (encoded("GIF", 9, 9), "image/gif"),
    "bmp": (encoded("BMP", 9, 9), "image/bmp"),
    "tiff": (encoded("TIFF", 9, 9), "image/tiff"),
    "tiff big-endian": (b"MM\x00*\x00\x00\x00\x08", "image/tiff"),
    "icon": (encoded("ICO", 16, 16), "image/vnd.microsoft.icon"),
    "jpeg 2000": (encoded("JPEG2000", 9, 9), "image/jp2"),
    "jpeg xl": (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    "pdf": (b"%PDF-1.7\n%%EOF\n", "application/pdf"),
    "pdf behind a mark": (b"\xef\xbb\xbf\r\n%PDF-1.7\n%%EOF", "application/pdf"),
    "text": ("Ein Fuchs, 狐, im Schnee.\n".encode(), "text/plain"),
    "text of an old terminal": (b"page one\x0b\x0c\x1b[1mbold\x1b[0m b\x08old\x07", "text/plain"),
    "text of dos": (b"A fox\r\nin the snow\r\n\x1a", "text/plain"),
    "text with a mark": (b"\xef\xbb\xbfhello", "text/plain"),
    "text that begins like a bitmap": (b"BMW is a maker of cars.", "text/plain"),
    "text about pdf": (b"A file that begins with %PDF- is a PDF.", "text/plain"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "text/plain"),
    "html": (b"<!doctype html><img src=x>", "text/plain"),
    "canon raw": (ftyp(b"crx ", b"isom") + box(b"moov") + MDAT, "image/x-canon-cr3"),
    "audio book": (ftyp(b"M4B ", b"isom") + box(b"moov") + MDAT, "audio/mp4"),
    "mp4 behind a long box": (
        ftyp(b"isom") + struct.pack(">I4sQ", 1, b"uuid", 40) + bytes(24) + box(b"moov", handler()),
        "video/mp4",
    ),
    "ogg": (b"OggS\x00\x02" + bytes(30), "video/ogg"),
    "wave": (b"RIFF\x24\x00\x00\x00WAVEfmt \x00", "audio/wav"),
    "text that begins like a gif": (b"GIF89a is the name of a format.", "text/plain"),
    "text that begins like a pdf": (b"%PDF-1.7 is how a PDF begins.\n%%EOF is its end.", "text/plain"),
    "text that quotes a pdf": (b"A PDF:\n%PDF-1.7\n1 0 obj\n<<>>\nendobj", "application/pdf"),
    "pdf behind 1000 bytes": (b"\x00\x01" * 500 + b"%PDF-1.4\n", "application/pdf"),
    "pdf behind too many bytes": (b"\x00\x01" * 600 + b"%PDF-1.4\n", None),
    "zip": (b"PK\x03\x04" + bytes(30), "application/zip"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "application/gzip"),
    "zeros": (bytes(100), None),
    "noise": (b"\x01\x02\x03\x04\xff\xfe", None),
    "elf": (b"\x7fELF\x02\x01\x01" + bytes(50), None),
    "unknown brand": (ftyp(b"zzzz"), None),
    "riff that is nothing": (b"RIFF\x24\x00\x00\x00CDXAfmt \x00", None),
    "brand of a video without a movie": (ftyp(b"isom"), None),
    "png in the middle": (b"GIF8" + png(ihdr(9, 9), IDAT, IEND), None),
    "jpeg marker alone": (b"\xff\xd8", None),
}
