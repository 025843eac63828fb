"""``--teacher``: which teacher a specification names."""

from __future__ import annotations

import os

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.teacher.backend import Backend
from senna_autoprune.nuscenes.teacher.secrets import Mask
from senna_autoprune.nuscenes.teacher.teacher import Teacher


def open_teacher(spec: str, cache: str | os.PathLike[str], concurrency: int = 4, timeout_s: float = 120.0, attempts: int = 5) -> Teacher:
    """The teacher a specification names. Its model is loaded, or its server asked, with the first question.

    Args:
        spec: ``hf:MODEL_OR_DIR`` or ``openai:BASE_URL#MODEL``.
        cache: folder of the answers.
        concurrency, timeout_s, attempts: for a server: requests at once, seconds for one, tries before giving up on
            one.
    Raises:
        SennaPruneError: no such kind of teacher, or a specification with a part missing.
    """
    kind, _, rest = spec.partition(":")
    backend: Backend
    if kind == "hf" and rest:
        from senna_autoprune.nuscenes.teacher.hf import PipelineBackend

        backend = PipelineBackend(rest)
    elif kind == "openai" and rest:
        from senna_autoprune.nuscenes.teacher.openai import OpenAIBackend

        backend = OpenAIBackend.parse(rest, concurrency=concurrency, timeout_s=timeout_s, attempts=attempts)
    else:
        raise SennaPruneError(f"--teacher {Mask('', spec)(spec)}: use hf:MODEL_OR_DIR or openai:BASE_URL#MODEL")
    return Teacher(backend, cache)
