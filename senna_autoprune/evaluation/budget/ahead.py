"""How many answers a search may still come to: it stops at the first budget that fails, so beforehand only a bound is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from senna_autoprune.evaluation.runs.rows import NO_IMAGE, UNPRUNED

AGAIN = "unpruned-again"
CHOSEN = ""  # the method that the first half will choose

Job = tuple[str, float]  # a method's label and a budget, or a plain setting's name and 1


class Ahead:
    """What may still be asked, setting by setting and scene by scene; every step takes some away, and so does a budget that fails.

    Args:
        first: scenes that are asked unpruned, without images and unpruned again. choose, certify: of the design.
        size: scene -> questions. labels: of the methods. each: all are certified, none is chosen.
    """

    def __init__(
        self,
        first: Collection[str],
        choose: Collection[str],
        certify: Collection[str],
        size: Mapping[str, int],
        labels: Sequence[str],
        grid: Sequence[float],
        each: bool,
    ) -> None:
        self._size, self._certify = size, frozenset(certify)
        both = {*first, *choose, *certify}
        self._may: dict[Job, set[str]] = {(UNPRUNED, 1): set(both), (NO_IMAGE, 1): set(both), (AGAIN, 1): set(first)}
        scenes = set(certify) if each else set(choose)
        self._may |= {(label, share): set(scenes) for label in labels for share in grid}
        if not each:
            self._may |= {(CHOSEN, share): set(certify) for share in grid}
        self._asked: dict[Job, set[str]] = {}
        self.asked = 0

    @property
    def most(self) -> int:
        """Answers of the whole search, at most: those asked for, and those that may be."""
        return self.asked + sum(self._count(scenes) for scenes in self._may.values())

    def ask(self, jobs: Iterable[Job], scenes: Collection[str]) -> None:
        """These are asked now."""
        for job in jobs:
            known = self._asked.setdefault(job, set())
            self.asked += self._count(set(scenes) - known)
            known.update(scenes)
            self._may.get(job, set()).difference_update(scenes)

    def chosen(self, label: str, grid: Sequence[float]) -> None:
        """The first half has chosen a method, and the budgets worth a try."""
        self._drop(lambda name, share: share < 1)
        self._may |= {(label, share): set(self._certify) for share in grid}

    def stopped(self, label: str, share: float) -> None:
        """Nothing more is asked of a method at this budget and below."""
        self._drop(lambda name, at: name == label and at <= share)

    def decided(self, label: str, share: float) -> None:
        """Nothing more is asked of a method at this budget."""
        self._drop(lambda name, at: name == label and at == share)

    def _drop(self, gone: Callable[[str, float], bool]) -> None:
        self._may = {job: scenes for job, scenes in self._may.items() if not gone(*job)}

    def _count(self, scenes: Iterable[str]) -> int:
        return sum(self._size[scene] for scene in scenes)
