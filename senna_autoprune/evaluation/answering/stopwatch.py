"""What one ``generate`` call took, split at the end of the prefill, by two hooks on the model; and whether its logits
were sane.

The prefill is the model's first forward call: embedding the prompt, putting the (already computed) visual tokens in
place, the decoder with everything a pruning method does in it, the last position's logits. The vision tower is not in
it, because its features are given. What comes after, until ``generate`` returns, is decoding. On CUDA both ends are events.
"""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from transformers import LogitsProcessor

from senna_autoprune.device import Marks
from senna_autoprune.pruning.decoder.models import CACHE


class Stopwatch:
    """A context manager round one ``generate`` call. Enter it *before* a policy, so that the policy's hooks are timed.

    Afterwards: ``prefill_ms``, ``decode_ms``, and ``kv_bytes`` that the cache held after the prefill (None if no
    forward call was made).
    """

    prefill_ms: float | None = None
    decode_ms: float | None = None
    kv_bytes: int | None = None

    def __init__(self, model: Any) -> None:
        self._model = model
        self._marks = Marks(torch.device(model.device), perf_counter)
        self._hooks = ExitStack()
        self._begun: Any = None
        self._filled: Any = None

    def __enter__(self) -> Self:
        self._hooks.callback(self._model.register_forward_pre_hook(self._before).remove)
        self._hooks.callback(self._model.register_forward_hook(self._after).remove)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hooks.close()
        if kind is None and self._begun is not None and self._filled is not None:
            ended = self._marks.mark()
            self.decode_ms = self._marks.ms(self._filled, ended)
            self.prefill_ms = self._marks.ms(self._begun, self._filled)

    def _before(self, module: Any, args: Any) -> None:
        if self._begun is None:
            self._begun = self._marks.mark()

    def _after(self, module: Any, args: Any, output: Any) -> None:
        if self._filled is None:
            self._filled = self._marks.mark()
            cache = getattr(output, CACHE, None)
            if cache is not None:
                self.kv_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


class SaneLogits(LogitsProcessor):
    """Passes logits on and remembers in which rows the largest was no number, at any step: one is NaN or +inf, or all are
    -inf. The host is asked only when ``sane`` is read.
    """

    def __init__(self) -> None:
        self._broken: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        broken = ~torch.isfinite(scores.amax(dim=-1))  # (B,); NaN wins in amax
        self._broken = broken if self._broken is None else self._broken | broken
        return scores

    @property
    def sane(self) -> bool:
        return self._broken is None or not bool(self._broken.any())

    def sane_rows(self, rows: int) -> list[bool]:
        """``sane`` of each of the batch's ``rows``."""
        return [True] * rows if self._broken is None else [not broken for broken in self._broken.tolist()]
