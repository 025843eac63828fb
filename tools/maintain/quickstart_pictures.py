"""The pictures of docs/quickstart.md, each made by a command that the page shows. Pages are photographed with headless Chromium.

python tools/maintain/quickstart_pictures.py                          # all of them, into docs/images
python tools/maintain/quickstart_pictures.py --only attention.png --out /tmp/pictures
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
WINDOW, WIDTH = "1280,960", 1400  # pixels
# picture -> the command that makes it, or makes the page that is photographed, and the page's fragment
PICTURES: dict[str, tuple[str, str | None]] = {
    "attention.png": ("senna-prune attention --question 40 --out attention.png", None),
    "replay.png": ("senna-prune replay --scene scene-9003 --retention 0.25", "#frame=1"),
}


def run(command: str, folder: Path) -> str:
    """What a command of the page prints, in ``folder``. SystemExit: it failed."""
    words = [sys.executable, "-m", "senna_autoprune", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {command} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def photograph(page: Path, fragment: str, picture: Path) -> None:
    """The top of a page. SystemExit: there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("error: photographing a page needs Chromium")
    flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WINDOW}", f"--screenshot={picture}"]
    subprocess.run([browser, *flags, page.as_uri() + fragment], check=True, capture_output=True)


def fitted(picture: Path, out: Path) -> None:
    """The picture at the width of a page."""
    with Image.open(picture) as opened:
        shown = opened.convert("RGB")
    shown.thumbnail((WIDTH, WIDTH * 10), Image.Resampling.LANCZOS)
    shown.quantize(256).save(out, optimize=True)


def make(name: str, out: Path) -> Path:
    """One picture into the folder ``out``."""
    command, fragment = PICTURES[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        said = run(command, folder)
        if fragment is None:
            fitted(folder / name, out / name)
        else:
            page = next(line.rpartition(" (")[0] for line in said.splitlines() if ".html (" in line)
            photograph((folder / page).resolve(), fragment, out / name)
    return out / name


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(PICTURES), help="this picture alone")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder (default: docs/images)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else PICTURES:
        print(make(name, options.out))


if __name__ == "__main__":
    main()
