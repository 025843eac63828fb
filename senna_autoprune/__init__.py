"""senna-prune: complexity-adaptive token pruning (AutoPrune) for the Senna driving VLA.

Public names are imported on first use, so ``import senna_autoprune`` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_LAZY = {
    "Allocation": "senna_autoprune.pruning.budget",
    "AutoPrune": "senna_autoprune.pruning.methods.autoprune",
    "CDPruner": "senna_autoprune.pruning.methods.cdpruner",
    "DART": "senna_autoprune.pruning.methods.dart",
    "DivPrune": "senna_autoprune.pruning.methods.divprune",
    "FastV": "senna_autoprune.pruning.methods.fastv",
    "FasterVLM": "senna_autoprune.pruning.methods.fastervlm",
    "Policy": "senna_autoprune.pruning.policy",
    "Prune2Drive": "senna_autoprune.pruning.methods.prune2drive",
    "PyramidDrop": "senna_autoprune.pruning.methods.pyramiddrop",
    "RandomLengths": "senna_autoprune.pruning.methods.random_lengths",
    "RandomPruning": "senna_autoprune.pruning.methods.controls",
    "Revived": "senna_autoprune.pruning.context",
    "PromptContext": "senna_autoprune.pruning.context",
    "SennaPruneError": "senna_autoprune.errors",
    "SparseVLM": "senna_autoprune.pruning.methods.sparsevlm",
    "ToMe": "senna_autoprune.pruning.methods.tome",
    "UniformPruning": "senna_autoprune.pruning.methods.controls",
    "VisPruner": "senna_autoprune.pruning.methods.vispruner",
    "VisionZip": "senna_autoprune.pruning.methods.visionzip",
    "build_policy": "senna_autoprune.pruning.methods.registry",
    "keep_before_decoder": "senna_autoprune.pruning.parts.before",
    "load_senna": "senna_autoprune.senna",
    "self_check": "senna_autoprune.pruning.self_check",
}

if TYPE_CHECKING:
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.pruning.budget import Allocation
    from senna_autoprune.pruning.context import PromptContext, Revived
    from senna_autoprune.pruning.methods.autoprune import AutoPrune
    from senna_autoprune.pruning.methods.cdpruner import CDPruner
    from senna_autoprune.pruning.methods.controls import RandomPruning, UniformPruning
    from senna_autoprune.pruning.methods.dart import DART
    from senna_autoprune.pruning.methods.divprune import DivPrune
    from senna_autoprune.pruning.methods.fastervlm import FasterVLM
    from senna_autoprune.pruning.methods.fastv import FastV
    from senna_autoprune.pruning.methods.prune2drive import Prune2Drive
    from senna_autoprune.pruning.methods.pyramiddrop import PyramidDrop
    from senna_autoprune.pruning.methods.random_lengths import RandomLengths
    from senna_autoprune.pruning.methods.registry import build_policy
    from senna_autoprune.pruning.methods.sparsevlm import SparseVLM
    from senna_autoprune.pruning.methods.tome import ToMe
    from senna_autoprune.pruning.methods.visionzip import VisionZip
    from senna_autoprune.pruning.methods.vispruner import VisPruner
    from senna_autoprune.pruning.parts.before import keep_before_decoder
    from senna_autoprune.pruning.policy import Policy
    from senna_autoprune.pruning.self_check import self_check
    from senna_autoprune.senna import load_senna

__all__ = [
    "DART",
    "Allocation",
    "AutoPrune",
    "CDPruner",
    "DivPrune",
    "FastV",
    "FasterVLM",
    "Policy",
    "PromptContext",
    "Prune2Drive",
    "PyramidDrop",
    "RandomLengths",
    "RandomPruning",
    "Revived",
    "SennaPruneError",
    "SparseVLM",
    "ToMe",
    "UniformPruning",
    "VisPruner",
    "VisionZip",
    "__version__",
    "build_policy",
    "keep_before_decoder",
    "load_senna",
    "self_check",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
