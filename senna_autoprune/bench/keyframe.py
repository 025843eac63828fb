"""N questions of one keyframe against N single ones: what it saves that pictures are opened and looked at once.

Both go through the evaluator's own way of asking (``Answerer``), from JPEG files to the last token of an answer, on a Senna with random
weights behind a tokenizer of numbered words, so that a prompt is as long as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch

from senna_autoprune.bench.memory import Need, check_fits, needed
from senna_autoprune.bench.passes import UNPRUNED, Timing
from senna_autoprune.bench.shapes import TOKENS_PER_VIEW, BenchShape, build_filled, decoder_config
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import Answerer
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.senna import Senna
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.images import SennaImageProcessor
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.processing import SennaProcessor

PIXELS = (1600, 900)  # of a camera of nuScenes
STAGES = ("images", "vision", "prefill", "decode")
SPECIAL = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class QuestionsRow:
    """One setting. In seconds: ``shared`` of all questions of one keyframe, ``single`` of one question of a keyframe of its own;
    ``ratio``: median over rounds of shared / (questions x single). ``shared_ms``, ``single_ms``: medians by stage.
    """

    setting: str
    questions: int
    shared: Timing
    single: Timing
    ratio: float
    shared_ms: dict[str, float]
    single_ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the timings are named for what they are."""
        found = asdict(self)
        found["shared_s"], found["single_s"] = found.pop("shared"), found.pop("single")
        return found


def build_senna(shape: BenchShape, vision: SennaConfig, dtype: torch.dtype, device: str, seed: int = 0) -> Senna:
    """A Senna with a decoder of that shape behind the tower of ``vision``, all weights random. No id ends its answers."""
    config = _config(shape, vision)
    model: Any = build_filled(lambda: SennaForConditionalGeneration(config), dtype, device, seed)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, None
    images = SennaImageProcessor(image_size=config.vision_config.image_size, patch_size=config.vision_config.patch_size)  # type: ignore[union-attr]
    limit = shape.tokens + len(SPECIAL)
    return Senna(model, SennaProcessor(images, _words(shape.vocabulary), TOKENS_PER_VIEW, max(limit, config.prompt_max_length)))


def _config(shape: BenchShape, vision: SennaConfig) -> SennaConfig:
    return SennaConfig(text_config=decoder_config(shape), vision_config=vision.vision_config, num_visual_tokens=TOKENS_PER_VIEW)


def _words(count: int) -> Any:
    """A tokenizer of ``count`` words between spaces: w3, w4, ...; all others are unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {**{word: index for index, word in enumerate(SPECIAL)}, **{f"w{index}": index for index in range(len(SPECIAL), count)}}
    backend: Any = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    unknown, begin, end = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=unknown, bos_token=begin, eos_token=end, pad_token=unknown)


def keyframe(folder: Path, views: int, seed: int = 0) -> tuple[str, ...]:
    """Writes a JPEG a view, of the size of a nuScenes camera's: a smooth picture with some noise. Names within ``folder``."""
    from PIL import Image

    rng, (width, height) = np.random.default_rng(seed), PIXELS
    names = []
    for view in range(views):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)).resize(PIXELS, Image.Resampling.BICUBIC)
        noisy = np.asarray(coarse, dtype=np.int16) + rng.integers(-12, 13, (height, width, 1), dtype=np.int16)
        names.append(f"{view}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / names[-1], quality=90)
    return tuple(names)


def questions_of(senna: Senna, shape: BenchShape, images: Sequence[str], count: int, seed: int = 0) -> list[QuestionRow]:
    """``count`` different questions of one keyframe, each of ``shape.text_tokens`` text tokens, the conversation's own words included.

    Raises:
        SennaPruneError: the conversation alone has more.
    """
    rng = np.random.default_rng(seed)
    marks = "<image>\n" * len(images)
    own = len(senna.processor(text=marks)["input_ids"][0]) - len(images)
    if own >= shape.text_tokens:
        raise SennaPruneError(f"bench: the conversation alone takes {own} text tokens; give --text-tokens {own + 1} or more")
    rows = []
    for number in range(count):
        words = " ".join(f"w{index}" for index in rng.integers(len(SPECIAL), shape.vocabulary, shape.text_tokens - own))
        rows.append(QuestionRow(number, "keyframe", "other", marks + words, "", tuple(images), "scene", True, {}))
    return rows


def measure_questions(
    shape: BenchShape,
    vision: SennaConfig,
    settings: Sequence[Setting],
    *,
    questions: int,
    answer_tokens: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    rounds: int = 2,
    warmup: int = 1,
    seed: int = 0,
    clock: Callable[[], float] = perf_counter,
    on_step: Callable[[str, int, int | None], None] = lambda what, done, total: None,
) -> list[QuestionsRow]:
    """Every setting once a round, in turn: a keyframe with all its questions, and one question of a keyframe of its own.

    Args:
        settings: beside the unpruned one. answer_tokens: of each answer. clock: seconds; the stages are always by the wall clock.
    Raises:
        SennaPruneError: memory is short, a budget is impossible, or the text is too short.
    """
    check_fits(_need(shape, vision, dtype), device, "give fewer --layers or a narrower --dtype")
    on_step(f"building {shape.layers} layers", 0, None)
    senna = build_senna(shape, vision, dtype, device, seed)
    every = [Setting(UNPRUNED), *settings]
    shared: dict[str, list[Asked]] = {setting.name: [] for setting in every}
    single: dict[str, list[Asked]] = {setting.name: [] for setting in every}
    with TemporaryDirectory(prefix="senna-prune-bench-") as folder:
        asked = questions_of(senna, shape, keyframe(Path(folder), shape.views, seed), questions, seed)
        ways = {one.name: Answerer(senna, [one], Path(folder), seed, max_new_tokens=answer_tokens) for one in every}
        for done in range(warmup + rounds):
            for turn in range(len(every)):
                name = every[(turn + done) % len(every)].name
                alone = replace(asked[done % len(asked)], token="alone")
                if done < warmup:  # a question is enough to have met all shapes
                    _ask(ways[name], [alone], clock)
                    continue
                shared[name].append(_ask(ways[name], asked, clock))
                single[name].append(_ask(ways[name], [alone], clock))
            on_step("rounds of questions", done + 1, warmup + rounds)
    return [_row(setting.name, questions, shared[setting.name], single[setting.name]) for setting in every]


def _need(shape: BenchShape, vision: SennaConfig, dtype: torch.dtype) -> Need:
    with torch.device("meta"):
        whole = SennaForConditionalGeneration(_config(shape, vision))
    weights = sum(parameter.numel() for parameter in whole.parameters()) * dtype.itemsize
    return replace(needed(shape, dtype, shape.layers), weights=weights)


@dataclass(frozen=True)
class Asked:
    """Some questions of one keyframe, answered: seconds in all, milliseconds by stage."""

    seconds: float
    ms: dict[str, float]


def _ask(answerer: Answerer, questions: Sequence[QuestionRow], clock: Callable[[], float]) -> Asked:
    """SennaPruneError: a question could not be asked."""
    (setting,) = answerer.settings
    begun = clock()
    rows: list[AnswerRow] = list(answerer.answer(questions, {(question.question, setting.name) for question in questions}))
    seconds = clock() - begun
    failed = next((row for row in rows if row.prefill_ms is None), None)
    if failed is not None:
        raise SennaPruneError(f"bench: {setting.name} failed: {failed.reason}")
    first = rows[0]  # what a keyframe's questions share stands in each of them
    ms = {"images": first.images_ms or 0.0, "vision": first.vision_ms or 0.0}
    ms |= {stage: float(sum(getattr(row, f"{stage}_ms") for row in rows)) for stage in ("prefill", "decode")}
    return Asked(seconds, ms)


def _row(name: str, questions: int, shared: Sequence[Asked], single: Sequence[Asked]) -> QuestionsRow:
    def by_stage(asked: Sequence[Asked]) -> dict[str, float]:
        return {stage: float(np.median([one.ms[stage] for one in asked])) for stage in STAGES}

    ratios = [all_.seconds / (questions * alone.seconds) for all_, alone in zip(shared, single, strict=True)]
    many, one = (Timing.of([asked.seconds for asked in way]) for way in (shared, single))
    return QuestionsRow(name, questions, many, one, float(np.median(ratios)), by_stage(shared), by_stage(single))
