"""senna-prune: complexity-adaptive token pruning (AutoPrune) for the Senna driving VLA.

Public names are imported on first use, so ``import senna_autoprune`` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_LAZY = {
    "AutoPrune": "senna_autoprune.pruning.methods.autoprune",
    "load_senna": "senna_autoprune.senna",
    "SennaPruneError": "senna_autoprune.errors",
}

if TYPE_CHECKING:
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.pruning.methods.autoprune import AutoPrune
    from senna_autoprune.senna import load_senna

__all__ = ["AutoPrune", "SennaPruneError", "__version__", "load_senna"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
