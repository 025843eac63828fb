"""Which image files a run's answers were made from, and whether they still are what they were: two sets of images in one table are a
wrong number that nobody notices.

A file is known by size, times and inode, as make and git know one, and by the hash of its content. Where all of the former are as they
were, nothing was written to it; where one differs (a copy, a restored backup, a file put in another's place) the content decides. So a
data root may move, be copied or be reached through a link; an image that was replaced is found, whatever its name, size and date.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from senna_autoprune.errors import SennaPruneError, one_line
from senna_autoprune.evaluation.runs.rows import QuestionRow, SeenImage
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.regular import open_regular

logger = logging.getLogger(__name__)

_REMEDY = "give the folder that the run began with (--images), or another directory with --out"
_MANY_BYTES = 2e9  # to read again, from which the user is told why nothing happens


class Pictures:
    """What is known of the images of a run that answers are being added to."""

    def __init__(self, known: Iterable[str], root: Path) -> None:
        self._known, self._root = set(known), root

    @classmethod
    def of(cls, store: RunStore, root: Path) -> Pictures:
        """Those of the run so far, compared with what is under ``root``.

        Raises:
            SennaPruneError: an image is another than the run's answers were made from.
        """
        seen = store.seen()
        if seen:
            compare(seen, root, str(store.directory))
        elif store.proven():
            logger.warning(f"{store.directory} was made before runs noted their images: it goes on, they are not compared")
        return cls((one.image for one in seen), root)

    def new(self, question: QuestionRow) -> list[SeenImage]:
        """The question's images that no answer was made from yet. A file that went in the meantime is left out."""
        found = []
        for image in (*question.images, *question.earlier.values()):
            if image not in self._known:
                self._known.add(image)
                one = look(self._root / image, image)
                if one is not None:
                    found.append(one)
        return found


def look(path: Path, image: str) -> SeenImage | None:
    """A file as it is now, its content read; None if it cannot be."""
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = path.stat()
    except (OSError, SennaPruneError):
        return None
    return SeenImage(image, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, digest)


def is_the_same(one: SeenImage, root: Path) -> bool:
    """Whether the file under ``root`` has the content that answers were made from. One of another size is not opened."""
    try:
        if (root / one.image).stat().st_size != one.size:
            return False
    except OSError:
        return False
    now = look(root / one.image, one.image)
    return now is not None and now.sha256 == one.sha256


def compare(seen: Iterable[SeenImage], root: Path, run: str, remedy: str = _REMEDY) -> None:
    """SennaPruneError: an image under ``root`` is another than it was. Files that are gone are counted and said: no answer is made
    from them any more.
    """
    gone, touched = 0, []
    for one in seen:
        try:
            now = (root / one.image).stat()
        except OSError:
            gone += 1
            continue
        if now.st_size != one.size:
            raise _other(root / one.image, f"{one.size} bytes then, {now.st_size} now", run, remedy)
        if (now.st_mtime_ns, now.st_ctime_ns, now.st_ino) != (one.mtime_ns, one.ctime_ns, one.inode):
            touched.append(one)
    size = sum(one.size for one in touched)
    if size > _MANY_BYTES:
        logger.warning(f"{len(touched)} images were copied or touched since {run} saw them: reading their {size / 1e9:.1f} GB again")
    for one in touched:
        found = look(root / one.image, one.image)
        if found is None or found.sha256 != one.sha256:
            raise _other(root / one.image, f"same size, another content than sha256 {one.sha256[:8]}", run, remedy)
    if gone:
        logger.warning(f"{gone} images that answers of {run} were made from are no longer under {root}: they are not compared")


def _other(path: Path, how: str, run: str, remedy: str) -> SennaPruneError:
    return SennaPruneError(f"{one_line(str(path))} is not the image that answers of {run} were made from ({how}): {remedy}")
