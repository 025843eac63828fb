"""``senna_prune_llava``: a stock LLaVA, LLaVA-NeXT or Qwen2.5-VL under any registered pruning method, as a model of lmms-eval.

What lmms-eval measures of the answers is lmms-eval's; this class answers, and adds what each answer cost: to the results'
``throughput`` the averages over the questions (``avg_visual_tokens``, ``avg_flops_share``, ...), and with ``--log_samples`` to each
question's ``token_counts`` its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lmms_eval import utils
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from PIL import Image
from tqdm import tqdm

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.provenance import versions
from senna_autoprune.evaluation.answering.settings import question_seed
from senna_autoprune.evaluation.answering.stopwatch import SaneLogits
from senna_autoprune.files.kept import KeptAnswers
from senna_autoprune.lmms.answers import Answer, Cost, keep, kept_answer, key_of, mean_cost, stamp
from senna_autoprune.lmms.stock import StockModel, blank, load_stock
from senna_autoprune.pruning.methods.registry import build_policy

MAX_NEW_TOKENS = 1024  # of tasks that name no limit, as in lmms-eval's own llava_hf
NO_METHOD = "none"


@dataclass
class PrunedTokenCounts(TokenCounts):
    """lmms-eval's token counts of a question, and what pruning made of its visual tokens."""

    cost: Cost | None = None

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = super().to_dict()
        if self.cost is not None:
            found["visual_tokens"] = self.cost.visual_tokens
            found["average_visual_tokens"] = self.cost.average_visual_tokens
            found["flops_share"] = self.cost.flops_share
        return found


@dataclass
class _Question:
    """A request of lmms-eval, resolved: what is asked, under which key its answer is kept, and its seed. Images load on use, so that
    questions whose answers are kept cost nothing.
    """

    text: str
    key: str
    seed: int
    load: Callable[[], tuple[Image.Image, ...]]

    @cached_property
    def images(self) -> tuple[Image.Image, ...]:
        return self.load()


class SennaPruneLlava(lmms):
    """Model arguments (``--model_args name=value,...``).

    pretrained: checkpoint folder or hub id.
    method: a method of the registry (``senna-prune sweep --help``), or ``none`` for the stock model, unpruned.
    tokens, retention, flops, and any other name: the method's budget and options, e.g. ``method=fastv,tokens=64``.
    no_image: the control that sees nothing: every image is replaced by one of its size in CLIP's mean colour, so that the prompt
        has the same length and only the question's words can help. (A majority answer cannot be had here: lmms-eval shows a model
        the questions, never their labels.)
    answers: a file (SQLite) that keeps answers as they are computed; started again with it, only the rest is asked.
    revision, dtype ("auto": the checkpoint's), attn_implementation; device and batch_size are lmms-eval's own flags.

    Questions without an image are answered unpruned and are left out of the averages. Prompts follow the checkpoint's chat template.

    Raises:
        SennaPruneError: on any argument that cannot be; lmms-eval prints it as "Error during evaluation".
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "",
        method: str = "autoprune",
        no_image: bool = False,
        answers: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        attn_implementation: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        options.pop("max_batch_size", None)  # lmms-eval's, for automatic batch sizes
        if "trust_remote_code" in options:
            raise SennaPruneError("trust_remote_code is not an argument: no code of a checkpoint is ever run")
        if not pretrained:
            raise SennaPruneError("pretrained is missing: name a checkpoint folder or hub id")
        if not isinstance(no_image, bool):
            raise SennaPruneError(f"no_image={no_image!r}: write true or false")
        if not str(batch_size).isdecimal() or not int(batch_size):
            raise SennaPruneError(f"batch_size={batch_size!r}: give a number of questions, automatic sizes are not supported")
        if method == NO_METHOD and options:
            raise SennaPruneError(f"method=none prunes nothing and takes no {', '.join(sorted(options))}")
        self._log: KeptAnswers | None = None
        self.policy = build_policy(method, seed=seed, **options) if method != NO_METHOD else None
        self.no_image, self.seed, self.batch_size = no_image, seed, int(batch_size)
        self._stock: StockModel | None = load_stock(str(pretrained), revision, dtype, device, attn_implementation)
        if answers is not None:
            checkpoint = {"name": str(pretrained), "stamp": stamp(str(pretrained)), "commit": self._stock.commit, "dtype": dtype}
            asked = {"method": method, "options": options, "no_image": no_image, "seed": seed}
            self._log = KeptAnswers(
                _file_of_rank(str(answers)), {**checkpoint, **asked, **versions()}, "give another file with answers=FILE"
            )

    @property
    def device(self) -> torch.device:
        """Where lmms-eval gathers what several processes counted."""
        return self.stock.device

    @property
    def stock(self) -> StockModel:
        """The model. SennaPruneError after ``clean``."""
        if self._stock is None:
            raise SennaPruneError("the model has been cleaned away")
        return self._stock

    def clean(self) -> None:
        """Free the model's memory, once all is answered."""
        self._stock = None
        super().clean()

    # --- what lmms-eval calls ---------------------------------------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answers of ``requests``, in their order."""
        collator = utils.Collator([request.args for request in requests], lambda args: (-len(args[0]), args[0]), grouping=True)
        answers: list[Answer] = []
        started = perf_counter()
        with tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding") as bar:
            for chunk in collator.get_batched(n=self.batch_size):
                options = _generation(chunk[0][1])
                questions = [
                    self._question("generate", context, to_visual, doc, task, split, wanted)
                    for context, wanted, to_visual, doc, task, split in chunk
                ]
                answers += self._remembered(questions, options)
                bar.update(len(chunk))
        self._report([answer.cost for answer in answers], perf_counter() - started)
        return [GenerationResult(answer.text, _counts(answer.cost)) for answer in collator.get_original(answers)]

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """(mean negative log-likelihood of the continuation's tokens, whether greedy decoding would have said it) of each request.

        lmms-eval takes the *smallest* of the choices' numbers (its ``multiple_choice`` scoring), as its own models return losses. The
        pairs travel as the "text" of a GenerationResult, because lmms-eval 0.7.3 turns bare pairs into strings before it scores them.
        The continuation is forced token by token, after a prefill that is pruned without knowledge of it.
        """
        found, started = [], perf_counter()
        for request in tqdm(requests, disable=self.rank != 0, desc="Model Scoring"):
            if len(request.args) != 6:
                raise SennaPruneError("likelihoods without a question (acc_mutual_info) are not supported by senna_prune_llava")
            context, target, to_visual, doc, task, split = request.args
            continuation = (target if isinstance(target, str) else target(self.task_dict[task][split][doc])).strip()
            question = self._question("score", context, to_visual, doc, task, split, continuation)
            answer = kept_answer(self._log, question.key)
            if answer is None:
                answer = self._score(question, continuation)
                keep(self._log, question.key, answer)
            found.append(answer)
        self._report([answer.cost for answer in found], perf_counter() - started)
        pairs: list[Any] = [(answer.loss, answer.greedy) for answer in found]
        return [GenerationResult(pair, _counts(answer.cost)) for pair, answer in zip(pairs, found, strict=True)]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise SennaPruneError("tasks of several rounds are not supported by senna_prune_llava")

    # --- asking -----------------------------------------------------------------------------------------------------------------------

    def _question(self, kind: str, context: str, to_visual: Any, doc: Any, task: str, split: str, *asked: object) -> _Question:
        def load() -> tuple[Image.Image, ...]:
            visuals = to_visual(self.task_dict[task][split][doc]) or []
            for visual in visuals:
                if not isinstance(visual, Image.Image):
                    raise SennaPruneError(f"task {task}, document {doc}: {type(visual).__name__} is not an image; only images can be shown")
            return tuple(blank(visual) if self.no_image else visual.convert("RGB") for visual in visuals)

        return _Question(context, key_of(kind, task, split, doc, context, *asked), question_seed(self.seed, doc), load)

    def _remembered(self, questions: Sequence[_Question], options: Mapping[str, Any]) -> list[Answer]:
        """Answers, from the file where it has them. Sampled ones are never kept: asked again, they are to differ."""
        log = self._log if not options["do_sample"] else None
        found = {place: kept for place, q in enumerate(questions) if (kept := kept_answer(log, q.key)) is not None}
        for with_images in (True, False):
            rest = [place for place, q in enumerate(questions) if place not in found and bool(q.images) == with_images]
            answers = self._generate([questions[place] for place in rest], options) if rest else []
            for place, answer in zip(rest, answers, strict=True):
                found[place] = answer
                keep(log, questions[place].key, answer)
        return [found[place] for place in range(len(questions))]

    def _generate(self, questions: Sequence[_Question], options: Mapping[str, Any]) -> list[Answer]:
        """Answers of questions that all have images, or that all have none."""
        batch = self._encode(questions)
        output, costs = self._run(batch, questions, **{name: value for name, value in options.items() if name != "until"})
        new = output.sequences[:, batch["input_ids"].shape[1] :]
        texts = self.stock.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [Answer(_cut(text, options["until"]), cost) for text, cost in zip(texts, costs, strict=True)]

    def _score(self, question: _Question, continuation: str) -> Answer:
        ids = self.stock.processor.tokenizer(continuation, add_special_tokens=False)["input_ids"]
        if not ids:
            raise SennaPruneError(f"nothing to score: {continuation!r} has no tokens")
        batch = self._encode([question])
        width = batch["input_ids"].shape[1]
        output, costs = self._run(
            batch,
            [question],
            max_new_tokens=len(ids),
            do_sample=False,
            output_logits=True,
            prefix_allowed_tokens_fn=lambda _, so_far: [ids[len(so_far) - width]],
        )
        logits = torch.stack([step[0].float() for step in output.logits])  # (T, vocabulary)
        wanted = torch.tensor(ids[: len(logits)], device=logits.device)
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        return Answer(continuation, costs[0], loss=loss.item(), greedy=bool((logits.argmax(-1) == wanted).all()))

    def _encode(self, questions: Sequence[_Question]) -> Any:
        return self.stock.encode([(question.text, question.images) for question in questions])

    def _run(self, batch: Any, questions: Sequence[_Question], **options: Any) -> tuple[Any, list[Cost]]:
        """One ``generate`` call, pruned if the questions have images. Returns its output and each question's cost."""
        stock, logits = self.stock, SaneLogits()
        pruning: AbstractContextManager[Any] = nullcontext()
        if self.policy is not None and questions[0].images:
            pruning = self.policy(stock.model, seeds=[question.seed for question in questions])
        with torch.inference_mode(), pruning as trace:
            output = stock.model.generate(
                **batch,
                logits_processor=[logits],
                pad_token_id=stock.processor.tokenizer.pad_token_id,
                return_dict_in_generate=True,
                **options,
            )
        if not logits.sane:
            raise SennaPruneError("the model computed NaN or infinite logits; try dtype=float32 or bfloat16")
        return output, list(self._costs(batch, output, trace))

    def _costs(self, batch: Any, output: Any, trace: Any) -> Iterator[Cost]:
        width = batch["input_ids"].shape[1]
        prompts = batch["attention_mask"].sum(-1).tolist()
        visual = (batch["input_ids"] == self.stock.image_token_id).sum(-1).tolist()
        pad = self.stock.processor.tokenizer.pad_token_id
        new = (output.sequences[:, width:] != pad).sum(-1).tolist()
        for row, (prompt, count, made) in enumerate(zip(prompts, visual, new, strict=True)):
            if trace is None:
                yield Cost(prompt, made, count, float(count))
            else:
                sample = trace[row]
                yield Cost(prompt, made, sample.visual_tokens, sample.average_tokens, sample.flops_full, sample.flops_pruned)

    def _report(self, costs: Sequence[Cost], seconds: float) -> None:
        """To the results' ``throughput``, where lmms-eval puts ``avg_`` before each name."""
        made = sum(cost.new_tokens for cost in costs)
        log_metrics(seconds, made, made / seconds if seconds else 0.0, mean_cost(costs))


def _generation(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A task's generation arguments as ``generate``'s, and ``until``, a list of strings."""
    if wanted.get("num_beams", 1) != 1:
        raise SennaPruneError("num_beams: answers are pruned for one beam; run the task with --gen_kwargs num_beams=1")
    until = wanted.get("until") or []
    temperature = float(wanted.get("temperature") or 0)
    options: dict[str, Any] = {
        "max_new_tokens": int(wanted.get("max_new_tokens") or MAX_NEW_TOKENS),
        "until": [until] if isinstance(until, str) else list(until),
        "do_sample": bool(wanted.get("do_sample", temperature > 0)) and temperature > 0,
        "num_beams": 1,
    }
    if options["do_sample"]:
        options.update(temperature=temperature, top_p=wanted.get("top_p") or 1.0)
    return options


def _cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    return text[: min((at for stop in until if stop and (at := text.find(stop)) >= 0), default=len(text))]


def _counts(cost: Cost) -> PrunedTokenCounts:
    return PrunedTokenCounts(cost.prompt_tokens, cost.new_tokens, cost=cost)


def _file_of_rank(path: str) -> Path:
    """Each process of a data-parallel run keeps a file of its own."""
    rank = os.environ.get("RANK", "0") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
    return Path(path if rank is None else f"{path}.rank{rank}")
