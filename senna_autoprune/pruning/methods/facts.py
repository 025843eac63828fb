"""What ``senna-prune methods`` says of a method: where it was published, what it needs, what it acts on, its options."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from senna_autoprune.pruning.budget import BUDGET_FIELDS
from senna_autoprune.pruning.methods.registry import METHODS, announced, is_required, kind_of, method_class

WORDS = {"cls_scores": "the vision tower's CLS attention", "keys": "the vision tower's attention keys"}


@dataclass(frozen=True)
class MethodFacts:
    """One method.

    path: ``package.module:Class``. says: its docstring. cuts: "between layers" or "before the decoder".
    needs, acts_on: in words. options: (name, kind, default) besides the budget.
    """

    name: str
    path: str
    paper: str
    says: str
    cuts: str
    needs: str
    acts_on: str
    options: tuple[tuple[str, str, Any], ...]


def method_names() -> list[str]:
    """Ours in the registry's order, then those that other packages announce; a name of ours means ours."""
    return [*METHODS, *(name for name in announced() if name not in METHODS)]


def method_facts(name: str) -> MethodFacts:
    """What a user should know before choosing the method.

    Raises:
        SennaPruneError: as ``method_class``.
    """
    cls = method_class(name)
    required, optional = sorted(cls.needs - cls.optional), sorted(cls.optional)
    needs = [WORDS.get(need, need) for need in required] + [f"{WORDS.get(need, need)} where there is one" for need in optional]
    options = [
        (field.name, kind_of(field), "required" if is_required(field) else field.default)
        for field in fields(cls)
        if field.init and field.name not in BUDGET_FIELDS
    ]
    return MethodFacts(
        name=name,
        path=f"{cls.__module__}:{cls.__qualname__}",
        paper=cls.paper,
        says="\n".join(line.strip() for line in (cls.__doc__ or "").strip().splitlines()),
        cuts=cls.cuts,
        needs=", ".join(needs) or "nothing",
        acts_on="models whose vision tower has a [CLS] token" if "cls_scores" in required else "every decoder that can be pruned",
        options=tuple(options),
    )
