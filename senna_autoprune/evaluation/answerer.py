"""One model that answers the questions of one sample at a time, under every setting: the unit of work of every engine.

A sample's images are decoded once and its vision features computed once, for all its questions and settings. The
settings of a question run one after the other in an order that turns from question to question, so that a slow drift of
the machine favours none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessorList

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answers import PATHS, SPEEDS
from senna_autoprune.evaluation.controls import NO_IMAGE, PRUNING_CONTROLS, grey_view
from senna_autoprune.evaluation.stopwatch import SaneLogits, Stopwatch, synchronise
from senna_autoprune.evaluation.store import AnswerRow, QuestionRow

if TYPE_CHECKING:
    from senna_autoprune.config import EvalConfig
    from senna_autoprune.pruning.policy import Policy
    from senna_autoprune.senna import Senna

UNPRUNED = "unpruned"
LONGEST_ANSWER = 4000  # characters; a longer answer is a failure and is cut here
PLAN_TOKENS = 16  # enough for any planning answer with the original's tokenizer
NEW_TOKENS = {"vru": 192, "motion": 640, "light": 16, "description": 512, "explanation": 256}
OTHER_TOKENS = 512  # what the original allows for everything


@dataclass(frozen=True)
class Setting:
    """A column of a run: a method with its budget and options, or none of it. ``blind``: visual tokens of even grey
    views.
    """

    name: str
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    blind: bool = False

    def policy(self, seed: int) -> Policy | None:
        """The method's policy with this seed. SennaPruneError on an unknown method or option, or a bad budget."""
        if self.method is None:
            return None
        from senna_autoprune.pruning.methods.registry import build_policy

        return build_policy(self.method, **self.options, seed=seed)


def settings_of(config: EvalConfig) -> list[Setting]:
    """Unpruned, the method, and with ``config.controls`` random, uniform and no-image. Each policy is built once, to
    fail early.

    Raises:
        SennaPruneError: the method, one of its options or the budget is not possible.
    """
    budget = config.budget_arguments()
    settings = [Setting(UNPRUNED), Setting(config.method, config.method, {**budget, **config.method_arguments()})]
    if config.controls:
        settings += [Setting(name, name, budget) for name in PRUNING_CONTROLS if name != config.method]
        settings.append(Setting(NO_IMAGE, blind=True))
    for setting in settings:
        setting.policy(config.seed)
    return settings


def question_seed(seed: int, question: int) -> int:
    """A seed of its own for every question, whatever the order in which they are asked."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question}".encode()).digest()[:6], "big")


class Answerer:
    """Asks one model. ``root``: folder of relative image paths. ``proven``: settings known to work (from a run being
    continued).
    """

    def __init__(
        self,
        senna: Senna,
        settings: Sequence[Setting],
        root: Path,
        seed: int = 0,
        prompt_template: str = "eval",
        max_new_tokens: int | None = None,
        proven: Collection[str] = (),
    ) -> None:
        self.model: Any = senna.model
        self.processor = senna.processor
        self.settings = list(settings)
        self.root = root
        self.seed = seed
        self.prompt_template = prompt_template
        self.max_new_tokens = max_new_tokens
        self._proven = set(proven)
        self._plan_tokens = self._longest_plan()
        self._needs = frozenset().union(*(p.needs for s in settings if (p := s.policy(seed)) is not None))
        self._blind: Any = None  # features of one grey view

    def answer(self, questions: Sequence[QuestionRow], todo: Collection[tuple[int, str]]) -> Iterator[AnswerRow]:
        """Rows of the (question, setting) pairs in ``todo``, for questions that share their images.

        What is wrong with a sample becomes a failed row of all its pairs.

        Raises:
            SennaPruneError: a setting has never worked and fails on its first question: the set-up is wrong, not the
            sample.
        """
        wanted = [question for question in questions if any((question.question, s.name) in todo for s in self.settings)]
        if not wanted:
            return
        try:
            features, vision_ms = self._look([str(self.root / image) for image in wanted[0].images])
        except (SennaPruneError, torch.OutOfMemoryError) as error:
            for question in wanted:
                yield from self._failed(question, todo, _reason(error))
            return
        for question in wanted:
            try:
                batch = self.processor(text=question.text, prompt_template=self.prompt_template).to(self.model.device)
            except SennaPruneError as error:
                yield from self._failed(question, todo, _reason(error))
                continue
            for setting in self._in_turn(question):
                if (question.question, setting.name) in todo:
                    seen = self._grey(len(question.images)) if setting.blind else features
                    yield self._ask(question, setting, batch, seen, vision_ms)

    def _in_turn(self, question: QuestionRow) -> list[Setting]:
        start = question.question % len(self.settings)
        return self.settings[start:] + self.settings[:start]

    def _failed(self, question: QuestionRow, todo: Collection[tuple[int, str]], reason: str) -> Iterator[AnswerRow]:
        for setting in self.settings:
            if (question.question, setting.name) in todo:
                yield AnswerRow(question.question, setting.name, "failed", reason=reason)

    # --- seeing -----------------------------------------------------------------------------------------------------

    def _look(self, images: list[Any]) -> tuple[Any, float]:
        """Vision features of a sample's views, and the time the tower, the projector and the adapter took."""
        seen = self.processor.image_processor(images)
        device = self.model.device
        pixels = seen["pixel_values"][None].to(device)  # (1, V, 3, H, W)
        masks = seen["patch_mask"][None].to(device)  # (1, V, P)
        synchronise(device)
        start = perf_counter()
        with torch.inference_mode():
            features = self.model.get_image_features(pixels, cls_scores="cls_scores" in self._needs, patch_mask=masks)
        synchronise(device)
        return features, (perf_counter() - start) * 1e3

    def _grey(self, views: int) -> Any:
        """Features of ``views`` grey views; they are all the same, so the tower sees one."""
        if self._blind is None:
            self._blind, _ = self._look([grey_view()])
        return self._blind.tokens.expand(-1, views, -1, -1)  # (1, V, T, d)

    # --- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, question: QuestionRow, setting: Setting, batch: Any, features: Any, vision_ms: float) -> AnswerRow:
        policy = setting.policy(question_seed(self.seed, question.question))
        logits = SaneLogits()
        try:
            with ExitStack() as stack:
                watch = stack.enter_context(Stopwatch(self.model))
                trace = stack.enter_context(policy(self.model)) if policy is not None else None
                ids = self.model.generate(
                    **batch,
                    image_features=features,
                    max_new_tokens=self._new_tokens(question.type),
                    do_sample=False,
                    logits_processor=LogitsProcessorList([logits]),
                )
        except SennaPruneError as error:
            if setting.name not in self._proven:
                raise
            return AnswerRow(question.question, setting.name, "failed", reason=_reason(error))
        except torch.OutOfMemoryError as error:
            return AnswerRow(question.question, setting.name, "failed", reason=_reason(error))
        self._proven.add(setting.name)
        answer = self.processor.decode_answers(ids, batch["input_ids"].shape[1])[0]
        reason = _fault(answer, logits.sane)
        return AnswerRow(
            question.question,
            setting.name,
            status="ok" if reason is None else "failed",
            answer=answer[:LONGEST_ANSWER] if logits.sane else "",
            reason=reason,
            vision_ms=vision_ms,
            prefill_ms=watch.prefill_ms,
            decode_ms=watch.decode_ms,
            new_tokens=ids.shape[1] - batch["input_ids"].shape[1],
            kv_bytes=watch.kv_bytes,
            trace=trace[0].to_dict() if trace else None,
        )

    def _new_tokens(self, kind: str) -> int:
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        return self._plan_tokens if kind == "plan" else NEW_TOKENS.get(kind, OTHER_TOKENS)

    def _longest_plan(self) -> int:
        """Tokens that any of the 20 planning answers may take with this tokenizer, the end mark included; 16 at least."""
        encode = self.processor.encode_chunk
        return max(PLAN_TOKENS, 1 + max(len(encode(f"{speed}, {path}\n")) for speed in SPEEDS for path in PATHS))


def _fault(answer: str, sane: bool) -> str | None:
    """Why an answer is a failure of the model, or None. It still counts as given (and wrong) in the measures."""
    if not sane:
        return "the model's logits are not finite"
    if not answer:
        return "the model generated no text"
    if len(answer) > LONGEST_ANSWER:
        return f"the answer has {len(answer)} characters"
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory on the device"
    return " ".join(str(error).split())[:500]
