"""What ``senna-prune doctor`` finds out of one loaded model: whether a pruned run on it can be trusted, and which methods can act."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image

from senna_autoprune.adapters.model import DrivingModel
from senna_autoprune.adapters.senna import SennaModel, together
from senna_autoprune.adapters.views import Asked
from senna_autoprune.errors import SennaPruneError, one_line
from senna_autoprune.pruning.context import VisualContext
from senna_autoprune.pruning.decoder.check import SelfCheck, admit, check_prompt
from senna_autoprune.pruning.decoder.hooks import PruningHooks
from senna_autoprune.pruning.methods.registry import METHODS, build_policy
from senna_autoprune.pruning.multimodal.families import NoCls, family_of
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.pruning.self_check import self_check

VIEWS = ("FRONT", "FRONT LEFT", "FRONT RIGHT", "BACK", "BACK LEFT", "BACK RIGHT")
QUESTION = "".join(f"<{view} VIEW>:\n<image>\n" for view in VIEWS) + "What should the ego vehicle do next, and why?"
PACKAGES = ("senna_autoprune", "torch", "transformers")


@dataclass(frozen=True)
class Examination:
    """versions, family (``model_type`` of the model), found: where the visual tokens are. check: of the method that was asked for.

    methods: method -> None if it can act on the model, else why not.
    """

    versions: dict[str, str]
    family: str
    found: str
    check: SelfCheck
    methods: dict[str, str | None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def examine(driving: DrivingModel, policy: Policy, names: Sequence[str] = tuple(METHODS)) -> Examination:
    """Ask the model one question about six made-up pictures, pruned and in full, and try every method on its decoder.

    Raises:
        SennaPruneError: the model cannot be pruned at all, or not with this policy.
    """
    model = driving.model
    hooks = PruningHooks(policy, model)
    admit(hooks.decoder, allow_unproven=True)
    batch, sizes = _question(driving, policy)
    check = self_check(model, batch, policy)
    kind = str(getattr(model.config, "model_type", ""))
    if hasattr(hooks.model, "visual_context"):
        where = "the model's own visual_context"
    else:
        where = f"input_ids that are {model.config.image_token_id} (image_token_id)"
    found = f"{sum(sizes)} in {len(sizes)} pictures, by {where}"
    return Examination(_versions(), kind, found, check, {name: _why_not(name, hooks) for name in names})


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _pictures() -> list[Image.Image]:
    """Smooth and different, so that attention has something to prefer."""
    draw = np.random.default_rng(0)
    coarse = [Image.fromarray(draw.integers(0, 255, (6, 10, 3), dtype=np.uint8)) for _ in VIEWS]
    return [one.resize((168, 112), Image.Resampling.BICUBIC) for one in coarse]


def _question(driving: DrivingModel, policy: Policy) -> tuple[dict[str, Any], tuple[int, ...]]:
    """What ``generate`` takes, and the visual tokens of each picture."""
    asked = Asked(QUESTION, "plan", tuple(_pictures()))
    seen = driving.see(asked, policy.needs)
    prepared = driving.prepare(asked, seen)
    device = driving.model.device
    if isinstance(driving, SennaModel):
        inputs = driving.processor(text=[prepared.inputs[0]], prompt_template=driving.prompt_template).to(device)
        return {**inputs, "image_features": together([prepared.inputs[1]])}, prepared.view_sizes
    if not (isinstance(prepared.inputs, dict) and "inputs" in prepared.inputs):
        raise SennaPruneError(f"{type(driving).__name__} says nothing of what generate takes; call senna_autoprune.self_check on its model")
    dtype = driving.model.dtype
    batch = {name: value.to(device, dtype if value.is_floating_point() else None) for name, value in prepared.inputs["inputs"].items()}
    return batch, prepared.view_sizes


def _why_not(name: str, hooks: PruningHooks) -> str | None:
    """Why a method cannot act, as it says itself over a few random tokens in the decoder."""
    model, decoder = hooks.model, hooks.decoder
    embeds, mask = check_prompt(decoder)
    missing, scores = {}, None
    family = family_of(model)
    if hasattr(model, "visual_context"):
        scores = torch.rand(1, int(mask.sum()))
    elif family is None:
        missing = {"cls_scores": f"nobody says what the [CLS] of {type(model).__name__} attends to"}
    else:
        try:
            family.tower(model.base_model)
            scores = torch.rand(1, int(mask.sum()))
        except NoCls as reason:
            missing = {"cls_scores": str(reason)}
    context = VisualContext(mask, cls_scores=scores, missing=missing)
    try:
        with PruningHooks(build_policy(name, retention=0.5), decoder, context), torch.no_grad():
            decoder(inputs_embeds=embeds, use_cache=False)
    except SennaPruneError as error:
        return one_line(error)
    return None
