"""A configuration -> the engine it asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from senna_autoprune.evaluation.answering.engine import Engine, ModelPlace, Say
from senna_autoprune.evaluation.answering.local_engine import LocalEngine
from senna_autoprune.evaluation.config import AskConfig


def open_engine(config: AskConfig, say: Say) -> AbstractContextManager[Engine]:
    """The engine that the configuration asks for, to be used in a ``with``.

    Args:
        say: gets a line about what is loaded, and later about workers that die.
    Raises:
        SennaPruneError: the model cannot be loaded; Ray is not installed, or no cluster is at its address.
    """
    place = ModelPlace.of(config)
    if config.engine == "local":
        say(f"loading {config.model}")
        return nullcontext(LocalEngine.load(place))
    from senna_autoprune.evaluation.answering.ray_engine import RayEngine

    return RayEngine(place, config.workers or 1, config.worker_gpus, config.ray_address, say)
