"""A teacher on this machine: the transformers image-text-to-text pipeline with a model directory or hub id.

The model needs a chat template (every current vision-language model has one). No remote code is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import open_image
from senna_autoprune.nuscenes.teacher.backend import MAX_NEW_TOKENS, TeacherError


class PipelineBackend:
    """Loads the pipeline with the first question; answers one at a time, greedily."""

    concurrency = 1

    def __init__(self, model: str) -> None:
        self.identity: dict[str, Any] = {"teacher": "hf", "model": model, "max_tokens": MAX_NEW_TOKENS}
        if Path(model).is_dir():
            self.identity["files"] = _fingerprint(Path(model))
        self._model = model
        self._pipeline: Any = None
        self._lock = threading.Lock()

    def answer(self, question: str, image: Path) -> str:
        """Generate an answer.

        Raises:
            TeacherError: the image cannot be read.
            SennaPruneError: the model cannot be loaded, or takes no chat with an image.
        """
        with self._lock:
            pipeline = self._loaded()
            try:
                picture = open_image(image)
            except SennaPruneError as error:
                raise TeacherError(str(error)) from error
            chat = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]
            try:
                out = pipeline(
                    text=chat,
                    return_full_text=False,
                    generate_kwargs={"do_sample": False, "max_new_tokens": MAX_NEW_TOKENS},
                )
            except (ValueError, TypeError, KeyError) as error:  # no chat template, or one without images
                raise SennaPruneError(f"teacher {self._model} cannot answer a chat with an image: {error}") from error
        return str(out[0]["generated_text"])

    def close(self) -> None:
        """Nothing to stop: the answer under way ends by itself."""

    def _loaded(self) -> Any:
        if self._pipeline is None:
            import torch
            from transformers import pipeline

            place: dict[str, Any] = {"device": "cuda:0" if torch.cuda.is_available() else "cpu"}
            if torch.cuda.is_available() and importlib.util.find_spec("accelerate"):
                place = {"device_map": "auto"}
            try:
                self._pipeline = pipeline("image-text-to-text", model=self._model, dtype="auto", trust_remote_code=False, **place)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise SennaPruneError(f"cannot load the teacher {self._model}: {first}") from error
        return self._pipeline


def _fingerprint(folder: Path) -> str:
    """Hash of names, sizes and times of a model directory's files: a model changed in place is another teacher."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
