"""Every method's own certificate, side by side: the sequences run in step, so that all methods left ask about a scene together.

What does not depend on the method is computed once: unpruned answers, pictures, vision features. Each method is tested by
itself at 5 %; Holm's step-down over the methods says which certificates hold together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from senna_autoprune.evaluation.budget.sequence import Look, Rules, look
from senna_autoprune.evaluation.measures.verdict import NOT_SHOWN, SAFE

Seen = tuple[Any, int | None]  # paired answers of the scenes asked so far, and how many of these hold a newly dangerous flip
Ask = Callable[[Sequence[str], float, int], dict[str, Seen | str]]  # methods, budget, look -> what was seen, or why it cannot be


@dataclass
class Ladder:
    """One method's way down the budgets. ``stopped``: why there was no look at the next one, though the last was safe."""

    method: str
    done: list[tuple[float, list[Look]]] = field(default_factory=list)
    seen: list[list[Seen]] = field(default_factory=list)
    stopped: str | None = None
    together: bool = False

    @property
    def going(self) -> bool:
        return self.stopped is None and (not self.done or self.done[-1][1][-1].outcome == SAFE)

    @property
    def safe(self) -> list[tuple[float, list[Look]]]:
        return [(budget, looks) for budget, looks in self.done if looks[-1].outcome == SAFE]

    @property
    def budget(self) -> float | None:
        """The smallest that was shown to be safe."""
        return self.safe[-1][0] if self.safe else None


def descend(methods: Sequence[str], budgets: Sequence[float], rules: Rules, ask: Ask, controls: Collection[str] = ()) -> list[Ladder]:
    """All methods from the largest budget down, each until its first failure.

    Args:
        ask: has these methods answer at a budget what a look needs.
        controls: those of which nothing is claimed, so that they do not count among the many.
    """
    claims = max(1, len(set(methods) - set(controls)))
    ladders = {method: Ladder(method) for method in methods}
    for budget in sorted(budgets, reverse=True):
        undecided: dict[str, list[Look]] = {method: [] for method, one in ladders.items() if one.going}
        for index in range(len(rules.stops)):
            found = ask(list(undecided), budget, index) if undecided else {}
            for method, seen in found.items():
                one, looks = ladders[method], undecided[method]
                if isinstance(seen, str):
                    one.stopped = f"{100 * budget:.3g} %: {seen}"
                    del undecided[method]
                    continue
                if not looks:
                    one.done.append((budget, looks))
                    one.seen.append([])
                one.seen[-1].append(seen)
                looks.append(look(rules, index, *seen, looks[-1] if looks else None))
                # what is safe by itself goes on while it would not yet be the strongest of so many
                proven = looks[-1].outcome == SAFE and _passes(one.seen[-1], replace(rules, alpha=rules.alpha / claims))
                if looks[-1].outcome == NOT_SHOWN or proven:
                    del undecided[method]
    holm_together([one for one in ladders.values() if one.safe and one.method not in controls], rules, claims)
    return list(ladders.values())


def passes_at(one: Ladder, rules: Rules, alpha: float) -> bool:
    """Whether the method's way to its smallest safe budget passes at another level too, with the looks that were taken."""
    return all(_passes(seen, replace(rules, alpha=alpha)) for _, seen in zip(one.safe, one.seen, strict=False))


def _passes(seen: Sequence[Seen], rules: Rules) -> bool:
    last: Look | None = None
    for index, (pairs, dangerous) in enumerate(seen):
        last = look(rules, index, pairs, dangerous, last)
    return last is not None and last.accurate and last.harmless


def holm_together(ladders: Sequence[Ladder], rules: Rules, tests: int) -> None:
    """Mark the certificates that hold together at alpha: the strongest must pass at alpha / tests, the next at alpha / (tests - 1) ..."""
    left, divisor = list(ladders), tests
    while left:
        held = [one for one in left if passes_at(one, rules, rules.alpha / divisor)]
        if not held:
            return
        for one in held:  # Holm: what passes at the strictest of the levels left would pass at its own
            one.together = True
            left.remove(one)
            divisor -= 1
