"""Name -> method, lazily: a line here is all that the registry needs, and listing names imports nothing.

A method of another package is named ``package.module:Class``, or by the name under which that package announces it in the entry point
group ``senna_prune.methods``. A name of ours always means ours.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import MISSING, Field, fields
from functools import cache
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
    "vispruner": "senna_autoprune.pruning.methods.vispruner:VisPruner",
    "visionzip": "senna_autoprune.pruning.methods.visionzip:VisionZip",
    "tome": "senna_autoprune.pruning.methods.tome:ToMe",
    "divprune": "senna_autoprune.pruning.methods.divprune:DivPrune",
    "cdpruner": "senna_autoprune.pruning.methods.cdpruner:CDPruner",
    "prune2drive": "senna_autoprune.pruning.methods.prune2drive:Prune2Drive",
    "dart": "senna_autoprune.pruning.methods.dart:DART",
    "random-lengths": "senna_autoprune.pruning.methods.random_lengths:RandomLengths",
    "random": "senna_autoprune.pruning.methods.controls:RandomPruning",
    "uniform": "senna_autoprune.pruning.methods.controls:UniformPruning",
}
ENTRY_POINTS = "senna_prune.methods"


@cache
def announced() -> dict[str, str]:
    """Name -> ``package.module:Class`` of the methods that installed packages announce."""
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}


def is_method(name: str) -> bool:
    """Whether ``name`` may be a method: ours, announced, or a path ``package.module:Class`` (which is not looked up here)."""
    module, _, attribute = name.partition(":")
    return name in METHODS or name in announced() or (attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")))


def split_variant(text: str) -> tuple[str, list[str]]:
    """``fastv:k=3`` or ``package.module:Class:k=3`` -> the method's name and its options, still as text."""
    name, *parts = text.split(":")
    if parts and "=" not in parts[0] and name not in METHODS and name not in announced():
        name = f"{name}:{parts.pop(0)}"
    return name, parts


def method_class(name: str) -> type[Policy]:
    """The dataclass of a method.

    Raises:
        SennaPruneError: if the name is unknown, with the nearest one, or what it names cannot be imported or is no ``Policy``.
    """
    path = METHODS.get(name) or announced().get(name) or (name if ":" in name else None)
    if path is None:
        known = [*METHODS, *announced()]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
        raise SennaPruneError(f"method {name!r} is unknown; {hint}")
    return getattr(import_module(path.split(":")[0]), path.split(":")[1]) if name in METHODS else _imported(name, path)


def _imported(name: str, path: str) -> type[Policy]:
    from senna_autoprune.pruning.policy import Policy

    module, _, attribute = path.partition(":")
    if not is_method(path):
        raise SennaPruneError(f"method {name!r}: write package.module:Class")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise SennaPruneError(f"method {name!r}: cannot import {module}: {error}; is it installed, or its folder on PYTHONPATH?") from error
    if found is None:
        raise SennaPruneError(f"method {name!r}: module {module} has no {attribute}")
    if not (isinstance(found, type) and issubclass(found, Policy)):
        raise SennaPruneError(f"method {name!r}: {attribute} is no class derived from senna_autoprune.Policy")
    return found


def build_policy(name: str, **options: Any) -> Policy:
    """A method with its budget and options, e.g. ``build_policy("autoprune", retention=0.25, mode="release")``.

    Raises:
        SennaPruneError: if the method or an option is unknown, an option's value is of the wrong kind, or the budget is bad.
    """
    from senna_autoprune.pruning.budget import BUDGET_FIELDS

    cls = method_class(name)
    known = {field.name: kind_of(field) for field in fields(cls) if field.init}
    for option, value in options.items():
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            raise SennaPruneError(f"method {name!r} has no option {option!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if option not in BUDGET_FIELDS and not _fits(value, known[option]):
            raise SennaPruneError(f"method {name!r}: {option} is {value!r:.80}, not {known[option]}")
    missing = [field.name for field in fields(cls) if field.init and field.name not in options and is_required(field)]
    if missing:
        raise SennaPruneError(f"method {name!r}: give its option {', '.join(missing)}")
    return cls(**options)


# --- kinds of options ------------------------------------------------------------------------------------------------------------------


def is_required(field: Field[Any]) -> bool:
    """Whether a method's option has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def kind_of(field: Field[Any]) -> str:
    """The field's annotation as text; a class where the method's file does not postpone annotations."""
    return field.type.__name__ if isinstance(field.type, type) else str(field.type).replace("typing.", "")


def _fits(value: Any, kind: str) -> bool:
    """Whether an option's value is of the kind its field says: a finite number, a whole one, a text, yes or no, or no scalar."""
    if value is None:
        return "None" in kind or "Optional" in kind
    kind = kind.removeprefix("Optional[").rstrip("]") if kind.startswith("Optional[") else kind
    if kind.startswith("float"):
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if kind.startswith("int"):
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind.startswith("bool"):
        return isinstance(value, bool)
    if kind.startswith(("Literal", "Any")):
        return True
    return isinstance(value, str) if kind.startswith("str") else not isinstance(value, (bool, Real, str))
