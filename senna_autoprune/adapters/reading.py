"""How the answers of a run are read: an adapter's ``parse`` and ``score`` as the measures need them, made from plain data.

A run keeps its adapter in ``config.yaml``, so that it can be measured again without the model, the package or the file that the
adapter came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from senna_autoprune.adapters.answers import Answer, Choice, Invalid, MetaAction, Waypoints, parse
from senna_autoprune.adapters.schema import Adapter, Parse, adapter_of
from senna_autoprune.adapters.score import agreement, meaning, measure, same

if TYPE_CHECKING:
    from senna_autoprune.nuscenes.futures import Future

_AUTO = {"plan": "plan", "choice": "choice", "yes_no": "label"}
DECIMALS = 3  # decimals: a millimetre


@dataclass(frozen=True)
class Reading:
    """One adapter's way of reading. Equal for equal adapters."""

    adapter: Adapter = dataclasses.field(default_factory=Adapter)

    @classmethod
    def of(cls, values: Any, where: str = "config.yaml") -> Reading:
        """From a run's ``config.yaml``; None: as Senna's answers are read. SennaPruneError: it is no adapter."""
        return cls(adapter_of(dict(values), f"{where}: adapter") if isinstance(values, dict) else Adapter())

    def kind(self, question_type: str) -> str:
        """plan, label, choice, waypoints or text."""
        spec = self.adapter.parse.of(question_type)
        if spec.kind == "auto":
            return _AUTO.get(question_type, "text")
        return spec.then if spec.kind == "json" else spec.kind

    def plain(self, question_type: str) -> bool:
        """Whether answers are read as those of Senna are, from the text as it is."""
        return self.adapter.parse.of(question_type).kind in ("auto", "plan")

    def answer(self, question_type: str, text: str, question: str = "") -> Answer:
        """What an answer says."""
        return parse(text, self.adapter.parse, question_type, question)

    def label(self, question_type: str, text: str, question: str = "") -> Answer | None:
        """What a label says; None: nothing that could be read. Labels need not be the JSON that answers are."""
        spec: Parse = self.adapter.parse.of(question_type)
        found = parse(text, spec, question_type, question)
        if isinstance(found, Invalid) and spec.kind == "json":
            found = parse(text, dataclasses.replace(spec, kind=spec.then, path=None), question_type, question)
        return None if isinstance(found, Invalid) else found

    def written(self, question_type: str, text: str, question: str = "") -> str:
        """A planning answer in Senna's own form, where the adapter reads it from another."""
        found = self.answer(question_type, text, question)
        return f"{found}\n" if isinstance(found, MetaAction) else text

    def same(self, one: Answer, other: Answer) -> bool:
        """Whether two answers say the same."""
        return same(one, other, self.adapter.score.agreement_m)

    def meaning(self, answer: Answer) -> str:
        """An answer as one line."""
        return meaning(answer)

    def measure(
        self, question_type: str, labels: Sequence[Answer], answers: Sequence[Answer], futures: Sequence[Future] | None = None
    ) -> dict[str, Any]:
        """``score.measure`` of one question type, as far as ``score.measures`` names what it gives."""
        found = measure(labels, answers, self.adapter.parse.of(question_type), self.adapter.score, futures)
        wanted = self.adapter.score.measures
        dropped = {key for name, keys in _KEYS.items() if wanted and name not in wanted for key in keys}
        return {key: value for key, value in found.items() if key not in dropped}

    def agreement(self, answers: Sequence[Answer], reference: Sequence[Answer]) -> dict[str, Any]:
        """``score.agreement``."""
        return agreement(answers, reference, self.adapter.score)


_KEYS = {
    "macro_f1": ("macro_f1",),
    "l2": ("l2_m",),
    "collision": ("collision_rate", "ego_heading"),
    "text": ("rouge_l", "bleu", "equal"),
}


def text_of(answer: Answer) -> str:
    """An answer that somebody's own ``parse`` found, as text that the adapter's ``parse`` reads as the same.

    So a run of a Python adapter can be measured where its package is not: choices are their label, plans ``SPEED, PATH``,
    trajectories their pairs to the millimetre, and what could not be read is empty.
    """
    if isinstance(answer, Waypoints):
        return " ".join(f"[{x:.{DECIMALS}f}, {y:.{DECIMALS}f}]" for x, y in answer.points)
    if isinstance(answer, Choice):
        return answer.label
    if isinstance(answer, MetaAction):
        return f"{answer}\n"
    return "" if isinstance(answer, Invalid) else answer.text
