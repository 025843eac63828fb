"""What a caller may hand over as the model: any family's behind its adapter, or a loaded Senna as before there were adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna


def driving_model(model: DrivingModel | Senna, prompt_template: str = "eval") -> DrivingModel:
    """A Senna becomes one with its adapter as released, asked in the words of ``prompt_template``."""
    from senna_autoprune.senna import Senna

    if not isinstance(model, Senna):
        return model
    from senna_autoprune.adapters.senna import SennaModel

    return SennaModel(model, prompt_template=prompt_template)
