"""An unpruned batch on a CPU attends prompt by prompt, too (one_by_one.py): what is compared with it gets no head start.

A stock batch of prompts of different lengths is given a mask, and a CPU's kernel then computes the half above the diagonal, and the mask
anew in every layer: a third more time a question than one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder import attention, one_by_one
from senna_autoprune.pruning.decoder.models import cache_in, find_decoder, sliding_window
from senna_autoprune.pruning.decoder.proven import PROVEN
from senna_autoprune.pruning.decoder.unwrap import compiled, running_model


@contextmanager
def one_prompt_at_a_time(model: Any) -> Iterator[bool]:
    """Within it the layers of ``model`` attend prompt by prompt to a batch that is padded on the left, with the stock kernel.

    Yields:
        whether they will: of a proven decoder on a CPU, with causal SDPA and no sliding window; others run as they are.
    """
    try:
        decoder = find_decoder(running_model(model))
    except SennaPruneError:
        yield False
        return
    config, layers = decoder.config, list(decoder.layers)[: decoder.config.num_hidden_layers]
    windows = any(sliding_window(config, index) for index in range(len(layers)))
    device = next(decoder.parameters()).device.type
    if config._attn_implementation != "sdpa" or device != "cpu" or windows or config.model_type not in PROVEN or compiled(model):
        yield False
        return

    def withdraw() -> None:
        for layer in layers:
            attention.withdraw(layer.self_attn)

    def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        withdraw()  # of a forward that failed half-way
        cache = cache_in(kwargs)
        starts = _starts(kwargs.get("attention_mask")) if cache is None or not cache.get_seq_length() else None
        if starts is not None:
            for layer in layers:
                attention.separate(layer.self_attn, one_by_one.Padding(starts))

    with ExitStack() as stack:
        stack.callback(setattr, config, "_attn_implementation", config._attn_implementation)
        config._attn_implementation = attention.probing_name("sdpa")
        stack.callback(withdraw)
        stack.callback(decoder.register_forward_pre_hook(begin, with_kwargs=True).remove)
        yield True


def _starts(mask: Any) -> list[int] | None:
    """Slots of padding before each prompt; None where there is none, or elsewhere than on the left."""
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[0] == 1:
        return None
    there = mask.bool()
    starts = (mask.shape[1] - there.sum(1)).tolist()
    left = all(bool(row[start:].all()) for row, start in zip(there, starts, strict=True))
    return starts if any(starts) and left else None
