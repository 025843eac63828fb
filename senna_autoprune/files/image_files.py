"""Image files are untrusted data: which of them are opened, and what is a fault.

Only formats that cameras and their tools write are decoded. Pillow knows more, and for some of them (EPS) it would start
another program.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import warnings
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path

from PIL import Image

from senna_autoprune.errors import SennaPruneError

FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP")
MAX_SIDE = 6144  # pixels; the square an image is padded to has this side at most
MAX_BYTES = 100_000_000  # of a file
HEADER_BYTES = 4096  # that a PPM's header with its comments takes at most
MOST_COMMENTS = 100  # of a PPM in plain text
MOST_SCANS = 100  # of a progressive JPEG; encoders write ten or so, a thumbnail has its own
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # grey in 16 bits; PNG and PPM come as "I" or "I;16" by version of Pillow

ImageLike = str | PathLike[str] | Image.Image


def open_image(image: ImageLike) -> Image.Image:
    """An RGB image of any mode and size; orientation tags are ignored, as in the original.

    Raises:
        SennaPruneError: the file is missing, no image of ``FORMATS``, truncated, or so large that it may be a
        decompression bomb.
    """
    if isinstance(image, Image.Image):
        return _rgb(image, getattr(image, "filename", "") or f"an image of size {image.size}")
    if not isinstance(image, (str, PathLike)):
        raise SennaPruneError(f"an image must be a path or a PIL image, got {type(image).__name__}")
    with _opened(Path(image)) as opened:
        return _rgb(opened, fspath(image))


def image_header(path: str | PathLike[str]) -> tuple[str, tuple[int, int]]:
    """Format (``"jpeg"``) and size (width, height) of an image file, without decoding it.

    Raises:
        SennaPruneError: as ``open_image``, as far as the header tells.
    """
    with _opened(Path(path)) as opened:
        kind = str(opened.format).lower()
        return "jpeg" if kind == "mpo" else kind, opened.size  # a JPEG with a second one behind it, as phones and stereo cameras write


def _opened(path: Path) -> Image.Image:
    """The file with its header read."""
    if not os.path.isfile(path):  # a pipe or a device would be waited for, or read without an end
        raise SennaPruneError(f"broken image: {path} (not a file)" if os.path.exists(path) else f"image not found: {path}")
    if path.stat().st_size > MAX_BYTES:
        raise SennaPruneError(f"image too large: {path} has more than {MAX_BYTES} bytes")
    _check_costs(path)
    try:
        with _no_warnings():
            opened = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise SennaPruneError(f"image too large: {path} ({error})") from error
    except Exception as error:  # the readers of broken files raise whatever their parsing came upon
        raise _broken(str(path), error) from error
    try:
        _check_size(opened, str(path))
    except SennaPruneError:
        opened.close()
        raise
    return opened


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Sizes are judged here, before a pixel is decoded; Pillow need not warn of them. Filters are the process's: a thread leaves them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _check_costs(path: Path) -> None:
    """What costs minutes although the picture is small: a PPM's header is read byte by byte, and each scan of a JPEG goes over the
    whole picture.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            if head[:1] == b"P" and not _ppm_header(head):
                raise SennaPruneError(f"broken image: {path} (a PPM whose header does not end within {HEADER_BYTES} bytes)")
            if head[:2] in (b"P1", b"P2", b"P3") and (head + file.read()).count(b"#") > MOST_COMMENTS:
                raise SennaPruneError(f"broken image: {path} (a PPM with more than {MOST_COMMENTS} comments)")
            if head[:2] == b"\xff\xd8":
                scans = (head + file.read()).count(b"\xff\xda")  # in data of pixels 0xff is followed by 0
                if scans > MOST_SCANS:
                    raise SennaPruneError(f"broken image: {path} (a JPEG of {scans} scans, more than {MOST_SCANS})")
    except OSError as error:
        raise _broken(str(path), error) from error


def _ppm_header(head: bytes) -> bool:
    """Whether these bytes hold a PPM's format and three words more, comments left out."""
    return len(re.sub(rb"#[^\r\n]*[\r\n]", b" ", head).partition(b"#")[0].split()) >= 4 or len(head) < HEADER_BYTES


def _check_size(image: Image.Image, name: str) -> None:
    # the square an image is padded to counts, so a 1 x 100000 strip is no way round the limit
    if max(image.size) > MAX_SIDE:
        raise SennaPruneError(f"image too large: {name} is {image.width} x {image.height}; scale it down to at most {MAX_SIDE} a side")


def _rgb(image: Image.Image, name: str) -> Image.Image:
    _check_size(image, name)
    try:
        return (_eight_bits(image) if image.mode in _DEEP else image).convert("RGB")
    except Exception as error:  # as in _opened: decoding begins here
        raise _broken(name, error) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits in 8: scaled from its full range, where Pillow would cut everything above 255 to white."""
    import numpy as np

    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ValueError(f"pixels of mode {image.mode} beyond 16 bits")
    if image.mode == "I" and values.max(initial=0) <= 255:
        return image  # eight bits already
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


def _broken(name: str, error: Exception) -> SennaPruneError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return SennaPruneError(f"broken image: {name} ({reason})")
