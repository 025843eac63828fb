"""One model that answers the questions of some samples at a time, under every setting: the unit of work of every engine.

A sample's images are decoded once and its vision features computed once, for all its questions and settings. The
settings of a question run one after the other in an order that turns from question to question, so that a slow drift of
the machine favours none of them. In a batch the questions of several samples run together under one setting; pruned,
they may keep different numbers of tokens, and each answers as it would alone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessorList

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.faults import LONGEST_ANSWER, NoRoom, answer_fault, reason_of, room
from senna_autoprune.evaluation.answering.questions import samples_of
from senna_autoprune.evaluation.answering.settings import Setting, grey_view, question_seed
from senna_autoprune.evaluation.answering.stopwatch import SaneLogits, Stopwatch, synchronise
from senna_autoprune.evaluation.measures.parsing import PATHS, SPEEDS
from senna_autoprune.evaluation.runs.rows import UNREACHABLE, AnswerRow, QuestionRow
from senna_autoprune.senna.vision import SennaImageFeatures

if TYPE_CHECKING:
    from senna_autoprune.senna import Senna

logger = logging.getLogger(__name__)

PLAN_TOKENS = 16  # enough for any planning answer with the original's tokenizer
NEW_TOKENS = {"vru": 192, "motion": 640, "light": 16, "description": 512, "explanation": 256}
OTHER_TOKENS = 512  # what the original allows for everything


@dataclass(frozen=True)
class _Seen:
    """A question with the vision features of its sample."""

    question: QuestionRow
    features: SennaImageFeatures
    vision_ms: float


class Answerer:
    """Asks one model.

    Args:
        root: folder of relative image paths.
        batch_size: questions that go through the model together; halved for good when the device has no room for them.
    """

    def __init__(
        self,
        senna: Senna,
        settings: Sequence[Setting],
        root: Path,
        seed: int = 0,
        prompt_template: str = "eval",
        max_new_tokens: int | None = None,
        batch_size: int = 1,
    ) -> None:
        self.model: Any = senna.model
        self.processor = senna.processor
        self.settings = list(settings)
        self.root = root
        self.seed = seed
        self.prompt_template = prompt_template
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.unreachable: dict[str, str] | None = None
        self._proven: set[str] = set()
        self._plan_tokens = self._longest_plan()
        self._vocabulary = len(self.processor.tokenizer)
        self._needs = frozenset().union(*(p.needs for s in settings if (p := s.policy(seed)) is not None))
        self._blind: Any = None  # features of one grey view
        self._said = False  # that batches do not fit

    def learn(self, proven: Collection[str], unreachable: dict[str, str] | None) -> None:
        """Take over what is known of the settings from a run being continued, or from other workers.

        Args:
            proven: settings that have worked.
            unreachable: settings known to be impossible on this model, with the reason; what is found to be so is added.
                None (as before the first call): an impossible setting is an error.
        """
        self._proven.update(proven)
        self.unreachable = unreachable

    def answer(self, questions: Sequence[QuestionRow], todo: Collection[tuple[int, str]]) -> Iterator[AnswerRow]:
        """Rows of the (question, setting) pairs in ``todo``, for the questions of one sample, or of the few samples of
        a batch.

        What is wrong with a sample becomes a failed row of all its pairs.

        Raises:
            SennaPruneError: a setting has never worked and fails on its first question: the set-up is wrong, not the
            sample. (With ``unreachable`` its rows say so instead.)
        """
        wanted = [question for question in questions if any((question.question, s.name) in todo for s in self.settings)]
        seen: list[_Seen] = []
        for sample in samples_of(wanted):
            try:
                features, vision_ms = self._look([str(self.root / image) for image in sample[0].images])
            except (SennaPruneError, NoRoom) as error:
                for question in sample:
                    yield from self._failed(question, todo, reason_of(error))
                continue
            for question in sample:
                try:
                    self._encode([question])
                except SennaPruneError as error:
                    yield from self._failed(question, todo, reason_of(error))
                else:
                    seen.append(_Seen(question, features, vision_ms))
        for batch in self._batches(seen):
            for setting in self._in_turn(batch[0].question):
                yield from self._ask([one for one in batch if (one.question.question, setting.name) in todo], setting)

    def _batches(self, seen: Sequence[_Seen]) -> Iterator[list[_Seen]]:
        """Questions that may run together: as many views, and answers of the same greatest length."""
        groups: dict[tuple[int, int], list[_Seen]] = {}
        for one in seen:
            groups.setdefault((self._new_tokens(one.question.type), len(one.question.images)), []).append(one)
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    def _encode(self, questions: Iterable[QuestionRow]) -> Any:
        """Padded ids and mask, (B, n) each. SennaPruneError: a prompt without views or beyond the limit."""
        texts = [question.text for question in questions]
        return self.processor(text=texts, prompt_template=self.prompt_template).to(self.model.device)

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
        with room(), torch.inference_mode():
            features = self.model.get_image_features(pixels, cls_scores="cls_scores" in self._needs, patch_mask=masks)
        synchronise(device)
        return features, (perf_counter() - start) * 1e3

    def _grey(self, views: int) -> Any:
        """Features of ``views`` grey views; they are all the same, so the tower sees one."""
        if self._blind is None:
            self._blind, _ = self._look([grey_view()])
        return self._blind.tokens.expand(-1, views, -1, -1)  # (1, V, T, d)

    # --- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, batch: Sequence[_Seen], setting: Setting) -> Iterator[AnswerRow]:
        """The rows of a batch under one setting. A batch that fails is asked again in halves, so that one bad question
        costs no other its answer; one that found no room makes all later batches smaller, too.
        """
        if len(batch) > self.batch_size:
            for start in range(0, len(batch), self.batch_size):
                yield from self._ask(batch[start : start + self.batch_size], setting)
            return
        if not batch:
            return
        reason = (self.unreachable or {}).get(setting.name)
        if reason is not None:
            yield from (AnswerRow(one.question.question, setting.name, UNREACHABLE, reason=reason) for one in batch)
            return
        try:
            rows = self._generate(batch, setting)
        except (SennaPruneError, NoRoom) as error:
            if len(batch) == 1:
                yield self._fallen(batch[0].question, setting, error)
                return
            no_room = isinstance(error, NoRoom)
        else:
            yield from rows
            return
        half = len(batch) // 2  # outside the handler: the error holds on to the tensors of the call that failed
        if no_room:
            self._make_room(half)
        yield from self._ask(batch[:half], setting)
        yield from self._ask(batch[half:], setting)

    def _make_room(self, batch_size: int) -> None:
        """Smaller batches from here on, said once."""
        if not self._said:
            logger.warning(
                f"out of memory on {self.model.device} in batches of up to {self.batch_size} questions: going on with half as many, "
                "and half again where that does not fit; the answers stay the same"
            )
            self._said = True
        self.batch_size = batch_size
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()  # blocks of the larger batch's sizes

    def _fallen(self, question: QuestionRow, setting: Setting, error: Exception) -> AnswerRow:
        """The row of a question that raised; raises again if the fault lies with the set-up."""
        reason = reason_of(error)
        if isinstance(error, SennaPruneError) and setting.name not in self._proven:
            if self.unreachable is None or setting.method is None:
                raise error
            self.unreachable[setting.name] = reason
            return AnswerRow(question.question, setting.name, UNREACHABLE, reason=reason)
        return AnswerRow(question.question, setting.name, "failed", reason=reason)

    def _generate(self, batch: Sequence[_Seen], setting: Setting) -> list[AnswerRow]:
        """One ``generate`` call. Times and bytes of a batch are divided by its size."""
        size, questions = len(batch), [one.question for one in batch]
        seeds = [question_seed(self.seed, question.question) for question in questions]
        policy, logits, inputs = setting.policy(seeds[0]), SaneLogits(), self._encode(questions)
        with ExitStack() as stack:
            stack.enter_context(room())
            watch = stack.enter_context(Stopwatch(self.model))
            trace = stack.enter_context(policy(self.model, seeds=seeds)) if policy is not None else None
            ids = self.model.generate(
                **inputs,
                image_features=self._grey(len(questions[0].images)) if setting.blind else _together(batch),
                max_new_tokens=self._new_tokens(questions[0].type),
                do_sample=False,
                logits_processor=LogitsProcessorList([logits]),
            )
        self._proven.add(setting.name)
        rows, prompt, sane = [], inputs["input_ids"].shape[1], logits.sane_rows(size)
        for index, one in enumerate(batch):
            given = self._until_end(ids[index, prompt:])
            answer = self.processor.decode_answers(given[None], 0)[0]
            reason = answer_fault(answer, sane[index], given[given >= self._vocabulary].tolist())
            rows.append(
                AnswerRow(
                    one.question.question,
                    setting.name,
                    status="ok" if reason is None else "failed",
                    answer=answer[:LONGEST_ANSWER] if sane[index] else "",
                    reason=reason,
                    vision_ms=one.vision_ms,
                    prefill_ms=_shared(watch.prefill_ms, size),
                    decode_ms=_shared(watch.decode_ms, size),
                    new_tokens=len(given),
                    kv_bytes=None if watch.kv_bytes is None else watch.kv_bytes // size,
                    trace=trace[index].to_dict() if trace else None,
                )
            )
        return rows

    def _until_end(self, ids: torch.Tensor) -> torch.Tensor:
        """(n,) new ids up to the end mark; what follows it only fills the batch."""
        ends = self.model.generation_config.eos_token_id
        marks = [] if ends is None else ends if isinstance(ends, list) else [ends]
        found = next((place for place, token in enumerate(ids.tolist()) if token in marks), None)
        return ids if found is None else ids[: found + 1]

    def _new_tokens(self, kind: str) -> int:
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        return self._plan_tokens if kind == "plan" else NEW_TOKENS.get(kind, OTHER_TOKENS)

    def _longest_plan(self) -> int:
        """Tokens that any of the 20 planning answers may take with this tokenizer, the end mark included; 16 at least."""
        encode = self.processor.encode_chunk
        return max(PLAN_TOKENS, 1 + max(len(encode(f"{speed}, {path}\n")) for speed in SPEEDS for path in PATHS))


def _together(batch: Sequence[_Seen]) -> SennaImageFeatures:
    """The features of a batch: tokens (B, V, T, d) and CLS scores (B, V, T)."""
    if len(batch) == 1:
        return batch[0].features
    scores = [one.features.cls_scores for one in batch]
    known = [score for score in scores if score is not None]
    return SennaImageFeatures(
        torch.cat([one.features.tokens for one in batch]), torch.cat(known) if len(known) == len(batch) else None
    )


def _shared(milliseconds: float | None, size: int) -> float | None:
    return None if milliseconds is None else milliseconds / size
