"""What others make of a file: decoders of pictures, readers of PDFs, a prober of videos."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import warnings
from typing import TYPE_CHECKING, NamedTuple

import pillow_heif
import pypdfium2_raw as pdfium  # type: ignore[import-untyped]
from PIL import Image

from app.domain.policy import PIXELS_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from app.domain.request import InputKind

pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = PIXELS_MAX
pdfium.FPDF_InitLibrary()

_PATIENT_S = 60


class Opened(NamedTuple):
    """What a decoder found.

    Attributes:
        by: The decoder, with why it could not where it could not.
        opens: Whether it could, or None where there is no decoder for such a file on this machine.
        size: Pixels.
        pages: Of a document.
        seconds: Of a video.
    """

    by: str
    opens: bool | None
    size: tuple[int, int] | None = None
    pages: int | None = None
    seconds: float | None = None


def opened(path: Path, data: bytes, kind: InputKind) -> Opened:
    """What the decoder for this kind of file makes of it."""
    if kind == "image":
        return _picture(data)
    if kind == "video":
        return _video(path)
    pages = _pdf(path, data) if b"%PDF-" in data[:1024] else None
    return pages if pages is not None and pages.opens else _text(data)


def _picture(data: bytes) -> Opened:
    """Every pixel of the first frame by Pillow, for HEIF by libheif through pillow-heif."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                return Opened(f"Pillow as {picture.format}", opens=True, size=picture.size)
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they stumble on
        return Opened(f"Pillow: {type(error).__name__}", opens=False)


def _pdf(path: Path, data: bytes) -> Opened:
    """Pages by poppler where it is installed, which is a reader other than the gateway's; else by PDFium."""
    if shutil.which("pdfinfo"):
        done = _run("pdfinfo", str(path))
        lines = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
        pages = int(lines.get("Pages", "0"))
        return Opened("poppler", opens=done.returncode == 0 and pages > 0, pages=pages or None)
    document = pdfium.FPDF_LoadMemDocument64(data, len(data), None)
    pages = pdfium.FPDF_GetPageCount(document) if document else 0
    return Opened("PDFium", opens=pages > 0, pages=pages or None)


def _text(data: bytes) -> Opened:
    try:
        data.decode()
    except UnicodeDecodeError:
        return Opened("UTF-8", opens=False)
    return Opened("UTF-8", opens=bool(data))


def _video(path: Path) -> Opened:
    """Streams and length by ffprobe."""
    if not shutil.which("ffprobe"):
        return Opened("no ffprobe", opens=None)
    asked = ("-v", "error", "-of", "json", "-show_entries", "format=duration:stream=codec_type")
    done = _run("ffprobe", *asked, str(path))
    found = json.loads(done.stdout or "{}")
    shown = any(stream.get("codec_type") == "video" for stream in found.get("streams", ()))
    seconds = found.get("format", {}).get("duration")
    return Opened(
        "ffprobe", opens=done.returncode == 0 and shown, seconds=float(seconds) if seconds else None
    )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENT_S
    )
