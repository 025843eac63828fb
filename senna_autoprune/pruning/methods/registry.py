"""Name -> method, lazily: a line here is all that the registry needs, and listing names imports nothing."""

from __future__ import annotations

import difflib
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import SennaPruneError

if TYPE_CHECKING:
    from senna_autoprune.pruning.policy import Policy

METHODS: dict[str, str] = {
    "autoprune": "senna_autoprune.pruning.methods.autoprune:AutoPrune",
    "fastv": "senna_autoprune.pruning.methods.fastv:FastV",
    "pyramiddrop": "senna_autoprune.pruning.methods.pyramiddrop:PyramidDrop",
    "sparsevlm": "senna_autoprune.pruning.methods.sparsevlm:SparseVLM",
    "fastervlm": "senna_autoprune.pruning.methods.fastervlm:FasterVLM",
    "visionzip": "senna_autoprune.pruning.methods.visionzip:VisionZip",
    "tome": "senna_autoprune.pruning.methods.tome:ToMe",
    "divprune": "senna_autoprune.pruning.methods.divprune:DivPrune",
    "cdpruner": "senna_autoprune.pruning.methods.cdpruner:CDPruner",
    "prune2drive": "senna_autoprune.pruning.methods.prune2drive:Prune2Drive",
    "random": "senna_autoprune.pruning.methods.controls:RandomPruning",
    "uniform": "senna_autoprune.pruning.methods.controls:UniformPruning",
}


def method_class(name: str) -> type[Policy]:
    """The dataclass of a registered method.

    Raises:
        SennaPruneError: if the name is unknown, with the nearest one.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(METHODS)}"
        raise SennaPruneError(f"method {name!r} is unknown; {hint}")
    module, attribute = METHODS[name].split(":")
    return getattr(import_module(module), attribute)


def build_policy(name: str, **options: Any) -> Policy:
    """A method with its budget and options, e.g. ``build_policy("autoprune", retention=0.25, mode="release")``.

    Raises:
        SennaPruneError: if the method or an option is unknown, or the budget is bad.
    """
    cls = method_class(name)
    known = {field.name for field in fields(cls)}
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            raise SennaPruneError(f"method {name!r} has no option {option!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return cls(**options)
