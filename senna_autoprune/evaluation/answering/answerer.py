"""One model that answers the questions of some samples at a time, under every setting: the unit of work of every engine.

It knows models by the interface of ``adapters.model`` alone. A sample's images are decoded once (and Senna's vision features
computed once) for all its questions, of whatever type, and all settings. The settings of a question run one after the other in an
order that turns from question to question, so that a slow drift of the machine favours none of them. In a batch the questions of
several samples run together under one setting; pruned, they may keep different numbers of tokens, and each answers as it would alone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from senna_autoprune.adapters.model import ended, until_end
from senna_autoprune.adapters.reading import text_of
from senna_autoprune.adapters.views import Asked, camera_of
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.blind import BlindAnswers
from senna_autoprune.evaluation.answering.faults import LONGEST_ANSWER, NoRoom, answer_fault, reason_of, room
from senna_autoprune.evaluation.answering.lengths import longest_answer
from senna_autoprune.evaluation.answering.look_ahead import LookAhead
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.questions import samples_of
from senna_autoprune.evaluation.answering.settings import Setting, question_seed
from senna_autoprune.evaluation.answering.stopwatch import SaneLogits, Stopwatch
from senna_autoprune.evaluation.runs.rows import CUT, UNREACHABLE, AnswerRow, QuestionRow
from senna_autoprune.pruning.decoder.whole_batch import one_prompt_at_a_time

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel, Prepared, Seen
    from senna_autoprune.senna import Senna

logger = logging.getLogger(__name__)

Ready = tuple[QuestionRow, "Prepared", "float | None"]  # the last: milliseconds that its pictures were waited for


def asked_of(question: QuestionRow, root: Path) -> Asked:
    """A question as an adapter sees it. ``root``: folder of relative image paths."""
    earlier = {key: str(root / path) for key, path in question.earlier.items()}
    images = tuple(str(root / image) for image in question.images)
    return Asked(question.text, question.type, images, f"question {question.question}", question.facts, earlier)


class Answerer:
    """Asks one model.

    Args:
        model: any family's, or a loaded ``Senna``.
        root: folder of relative image paths.
        prompt_template: of a ``Senna``; others bring theirs.
        batch_size: questions that go through the model together; halved for good when the device has no room for them.
    """

    def __init__(
        self,
        model: DrivingModel | Senna,
        settings: Sequence[Setting],
        root: Path,
        seed: int = 0,
        prompt_template: str = "eval",
        max_new_tokens: int | None = None,
        batch_size: int = 1,
    ) -> None:
        self.driving = driving_model(model, prompt_template)
        self.model: Any = self.driving.model
        self.settings = list(settings)
        self.root = root
        self.seed = seed
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.unreachable: dict[str, str] | None = None
        self._proven: set[str] = set()
        self._needs: frozenset[str] = frozenset().union(*(p.needs for s in settings if (p := s.policy(seed)) is not None))
        self._said = False  # that batches do not fit
        self._opens: Any = getattr(self.driving, "open", None)
        self._ahead: LookAhead | None = None
        self._blind = BlindAnswers(self.driving)

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
        ready: list[Ready] = []
        for alike in self._keyframes(questions, todo):
            asked = [asked_of(question, self.root) for question in alike]
            try:
                with room():
                    seen, images_ms = self._see(asked[0])
            except (SennaPruneError, NoRoom) as error:
                for question in alike:
                    yield from self._failed(question, todo, reason_of(error))
                continue
            for question, one in zip(alike, asked, strict=True):
                try:
                    ready.append((question, self.driving.prepare(one, seen), images_ms))
                except SennaPruneError as error:
                    yield from self._failed(question, todo, reason_of(error))
        for batch in self._batches(ready):
            for setting in self._in_turn(batch[0][0].question):
                yield from self._ask([one for one in batch if (one[0].question, setting.name) in todo], setting)

    @contextmanager
    def looking_ahead(self, coming: Iterable[tuple[Sequence[QuestionRow], Collection[tuple[int, str]]]]) -> Iterator[None]:
        """Within it a thread opens pictures of the next keyframes (look_ahead.py), where the model lets it.

        Args:
            coming: what ``answer`` will be asked, in order; gone through as it is due.
        """
        if self._opens is None:
            yield
            return
        keyframes = (asked_of(alike[0], self.root) for questions, todo in coming for alike in self._keyframes(questions, todo))
        with LookAhead(self._opens, keyframes) as ahead:
            self._ahead = ahead
            try:
                yield
            finally:
                self._ahead = None

    def _keyframes(self, questions: Sequence[QuestionRow], todo: Collection[tuple[int, str]]) -> Iterator[list[QuestionRow]]:
        """Questions with something to do, by the pictures they show."""
        wanted = [question for question in questions if any((question.question, s.name) in todo for s in self.settings)]
        for sample in samples_of(wanted):
            yield from self._seen_alike(sample)

    def _see(self, asked: Asked) -> tuple[Seen, float | None]:
        """The pictures of a question, and how long they were waited for; None where the model opens them as it looks."""
        if self._opens is None:
            return self.driving.see(asked, self._needs), None
        begun = perf_counter()
        opened = self._opens(asked) if self._ahead is None else self._ahead.take(asked)
        waited = (perf_counter() - begun) * 1e3
        return self.driving.see(asked, self._needs, opened), waited

    def _seen_alike(self, sample: Sequence[QuestionRow]) -> list[list[QuestionRow]]:
        """A sample's questions by the pictures they show: all of them, unless an adapter picks cameras and the questions' words
        name them differently.
        """
        if self.driving.adapter.views.cameras is None:
            return [list(sample)]
        groups: dict[Any, list[QuestionRow]] = {}
        for question in sample:
            pieces = asked_of(question, self.root).pieces()
            cameras = tuple(camera_of(image, words) for image, words in zip(question.images, pieces, strict=False))
            groups.setdefault(cameras, []).append(question)
        return list(groups.values())

    def _batches(self, ready: Sequence[Ready]) -> Iterator[list[Ready]]:
        """Questions that may run together: the model says which, and their answers have the same greatest length."""
        groups: dict[Any, list[Ready]] = {}
        for one in ready:
            groups.setdefault((self._new_tokens(one[0].type), one[1].group), []).append(one)
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    def _in_turn(self, question: int) -> list[Setting]:
        start = question % len(self.settings)
        return self.settings[start:] + self.settings[:start]

    def _failed(self, question: QuestionRow, todo: Collection[tuple[int, str]], reason: str) -> Iterator[AnswerRow]:
        for setting in self.settings:
            if (question.question, setting.name) in todo:
                yield AnswerRow(question.question, setting.name, "failed", reason=reason)

    # --- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, batch: Sequence[Ready], setting: Setting) -> Iterator[AnswerRow]:
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
            yield from (AnswerRow(question.question, setting.name, UNREACHABLE, reason=reason) for question, *_ in batch)
            return
        if not setting.words_alone:
            yield from self._ask_anew(batch, setting)
            return
        limit = self._new_tokens(batch[0][0].type)  # the same for all of a batch
        fresh, again = self._blind.apart(batch, limit)
        yield from self._ask_anew(fresh, setting)
        for one in again:
            row = self._blind.repeat(one, limit)
            yield from [row] if row is not None else self._ask_anew([one], setting)  # the call of its like failed

    def _ask_anew(self, batch: Sequence[Ready], setting: Setting) -> Iterator[AnswerRow]:
        """The rows of a batch, through the model."""
        if not batch:
            return
        try:
            rows = self._generate(batch, setting)
        except (SennaPruneError, NoRoom) as error:
            if len(batch) == 1:
                yield self._fallen(batch[0][0], setting, error)
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

    def _generate(self, batch: Sequence[Ready], setting: Setting) -> list[AnswerRow]:
        """One ``generate`` call. Times and bytes of a batch are divided by its size."""
        size, questions, prepared = len(batch), [one[0] for one in batch], [one[1] for one in batch]
        seeds = [question_seed(self.seed, question.question) for question in questions]
        policy, logits = setting.policy(seeds[0]), SaneLogits()
        with ExitStack() as stack:
            stack.enter_context(room())
            watch = stack.enter_context(Stopwatch(self.model))
            trace = stack.enter_context(policy(self.model, seeds=seeds)) if policy is not None else None
            if policy is None and size > 1:
                stack.enter_context(one_prompt_at_a_time(self.model))
            limit = self._new_tokens(questions[0].type)
            made = self.driving.generate(prepared, limit, setting.blind, [logits])
        self._proven.add(setting.name)
        rows, sane = [], logits.sane_rows(size)
        for index, (question, one, images_ms) in enumerate(batch):
            given = until_end(made.ids[index], self.model.generation_config)
            answer = self.driving.answer(given)
            fault = answer_fault(answer, sane[index], given[given >= self.driving.vocabulary].tolist())
            cut = len(given) >= limit and not ended(given, self.model.generation_config)
            reason = f"{CUT} {limit} tokens" if fault is None and cut else fault
            own = getattr(self.driving, "parse", None)  # of a Python adapter
            rows.append(
                AnswerRow(
                    question.question,
                    setting.name,
                    status="ok" if fault is None else "failed",
                    answer=answer[:LONGEST_ANSWER] if sane[index] else "",
                    reason=reason,
                    vision_ms=one.vision_ms if made.vision_ms is None else _shared(made.vision_ms, size),
                    prefill_ms=_shared(watch.prefill_ms, size),
                    decode_ms=_shared(watch.decode_ms, size),
                    new_tokens=len(given),
                    kv_bytes=None if watch.kv_bytes is None else watch.kv_bytes // size,
                    trace=trace[index].to_dict() if trace else None,
                    said=None if own is None else text_of(own(answer, question.type, question.text)),
                    sent=one.text,
                    missing_frames=one.missing_frames,
                    images_ms=images_ms,
                )
            )
            if setting.words_alone:
                self._blind.keep(one, rows[-1], answer, limit)
        return rows

    def _new_tokens(self, kind: str) -> int:
        return self.max_new_tokens if self.max_new_tokens is not None else longest_answer(self.driving, kind)


def _shared(milliseconds: float | None, size: int) -> float | None:
    return None if milliseconds is None else milliseconds / size
