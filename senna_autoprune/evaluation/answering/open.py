"""A configuration -> the engine it asks for; for a finished run one that need not load the model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from senna_autoprune.device import words
from senna_autoprune.evaluation.answering.engine import Engine, ModelPlace, Say
from senna_autoprune.evaluation.config import AskConfig


def open_engine(config: AskConfig, say: Say, directory: Path | None = None) -> AbstractContextManager[Engine]:
    """The engine that the configuration asks for, to be used in a ``with``.

    Args:
        say: gets a line about what is loaded, and later about workers that die.
        directory: of the run; one that is finished is read without its model (``stored_engine.StoredEngine``).
    Raises:
        SennaPruneError: the model cannot be loaded; Ray is not installed, or no cluster is at its address.
    """
    place = ModelPlace.of(config)
    if directory is not None:
        from senna_autoprune.evaluation.answering.stored_engine import StoredEngine, facts_of_finished

        known = facts_of_finished(directory, place)
        if known is not None:
            say("finished before: read from the run folder, the model is not loaded (its files have not changed since)")
            return StoredEngine(known, lambda: _open(config, place, say))
    return _open(config, place, say)


def _open(config: AskConfig, place: ModelPlace, say: Say) -> AbstractContextManager[Engine]:
    if config.engine == "local" and (config.workers or 1) > 1:
        from senna_autoprune.evaluation.answering.process_engine import ProcessEngine

        say(f"loading {config.model} in {config.workers} processes of one thread")
        return ProcessEngine(place, config.workers or 1, say)
    if config.engine == "local":
        from senna_autoprune.evaluation.answering.local_engine import LocalEngine

        say(f"loading {config.model} on {words(config.device, config.dtype)}")
        return nullcontext(LocalEngine.load(place))
    from senna_autoprune.evaluation.answering.ray_engine import RayEngine

    return RayEngine(place, config.workers or 1, config.worker_gpus, config.ray_address, say)
