"""Name -> method, lazily: a line here is all that the registry needs, and listing names imports nothing."""

from __future__ import annotations

import difflib
import math
from dataclasses import fields
from importlib import import_module
from numbers import Integral, Real
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
        SennaPruneError: if the method or an option is unknown, an option's value is of the wrong kind, or the budget is bad.
    """
    from senna_autoprune.pruning.budget import BUDGET_FIELDS

    cls = method_class(name)
    known = {field.name: str(field.type) for field in fields(cls)}  # annotations are strings
    for option, value in options.items():
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            raise SennaPruneError(f"method {name!r} has no option {option!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if option not in BUDGET_FIELDS and not _fits(value, known[option]):
            raise SennaPruneError(f"method {name!r}: {option} is {value!r:.80}, not {known[option]}")
    return cls(**options)


def _fits(value: Any, kind: str) -> bool:
    """Whether an option's value is of the kind its field says: a finite number, a whole one, a text, or no scalar."""
    if value is None:
        return "None" in kind
    if kind.startswith("float"):
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if kind == "int":
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, str) if kind == "str" else not isinstance(value, (bool, Real, str))
