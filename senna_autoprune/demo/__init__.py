"""The embedded default: a small Senna trained by our own tool, and synthetic scenes in nuScenes format.

It is a measuring instrument, not a claim about nuScenes: everything made with it says "embedded model, synthetic scenes".
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

LABEL = "embedded model, synthetic scenes"
_HERE = Path(__file__).parent


class EmbeddedDemo(NamedTuple):
    """Where the embedded model (a ``save_pretrained`` folder), its question file, and its nuScenes root are."""

    model_dir: Path
    questions_file: Path
    dataroot: Path


def label_of(*paths: str | Path | None) -> str | None:
    """What must be said of results made with these files: ``LABEL`` if one of them is embedded, else None."""
    return LABEL if any(path is not None and _is_ours(path) for path in paths) else None


def _is_ours(path: str | Path) -> bool:
    try:
        return Path(path).resolve().is_relative_to(_HERE)
    except (ValueError, OSError):  # a name that no file can have
        return False


def label_of_run(description: Mapping[str, Any]) -> str | None:
    """``label_of`` of a run by its ``config.yaml``: its files are embedded, here or (same hash) in another copy of the package."""
    from senna_autoprune.nuscenes.questions_file import file_sha256

    places, identity = (description.get(key) or {} for key in ("places", "identity"))
    found = embedded()
    if found is not None and identity.get("questions_sha256") == file_sha256(found.questions_file):
        return LABEL
    return label_of(*(places.get(key) for key in ("model", "questions", "images_root")))


def embedded() -> EmbeddedDemo | None:
    """The embedded model and scenes, or None where this copy of the package has no trained model."""
    found = EmbeddedDemo(_HERE / "model", _HERE / "data" / "questions.json", _HERE / "data")
    weights = found.model_dir / "model.safetensors"
    return found if weights.is_file() and found.questions_file.is_file() else None
