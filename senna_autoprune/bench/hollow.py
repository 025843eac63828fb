"""A decoder without its weight matrices: everything else that a prefill does, at full depth, in little memory and time.

Each matrix is replaced by a recording of its own output, so that a pruner finds queries, keys, hidden states and cache of the right sizes
in every layer: what it costs can be measured at the depth of a 7B decoder whose weights are not there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from senna_autoprune.device import Marks

RECORDED = 2  # layers whose outputs are kept; the layers above play them again in turn
_MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp")


class Recording(nn.Module):
    """Takes a module's place in a layer and plays its output (1, N, c) back: for M tokens the first M rows, without looking at them.

    A method that asks the module itself (PyramidDrop looks ahead through q and k, with (M, d) states) gets, and waits for, the real one.
    """

    def __init__(self, real: nn.Module, rows: Tensor) -> None:
        super().__init__()
        self.real, self.rows = real, rows

    def forward(self, hidden: Tensor) -> Tensor:
        return self.rows[:, : hidden.shape[1]] if hidden.dim() == 3 else self.real(hidden)


def hollow_decoder(model: Any, layers: int, embeds: Tensor) -> Any:
    """``model`` with ``layers`` layers whose matrices are recordings of its first layers on ``embeds`` (1, N, d).

    Layer 0's queries and keys are the real ones, so an allocation that probes there comes out as in the whole decoder. Embedding, norms
    and head are the model's own modules.
    """
    from transformers import LlamaForCausalLM

    recorded = model.model.layers[:RECORDED]
    played = _record(model, recorded, embeds)
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    with torch.device("meta"):
        hollow = LlamaForCausalLM(config).eval()
    hollow.lm_head = model.lm_head
    for name in ("embed_tokens", "norm", "rotary_emb"):
        setattr(hollow.model, name, getattr(model.model, name))
    for index, layer in enumerate(hollow.model.layers):
        source = recorded[index % len(recorded)]
        layer.input_layernorm, layer.post_attention_layernorm = source.input_layernorm, source.post_attention_layernorm
        for name in _MATRICES:
            layer.set_submodule(name, Recording(source.get_submodule(name), played[index % len(recorded)][name]))
    return hollow


def _record(model: Any, layers: Sequence[nn.Module], embeds: Tensor) -> list[dict[str, Tensor]]:
    """What each matrix of ``layers`` returns in a prefill of ``embeds``."""
    played: list[dict[str, Tensor]] = [{} for _ in layers]
    with ExitStack() as stack, torch.inference_mode():
        for rows, layer in zip(played, layers, strict=True):
            for name in _MATRICES:

                def keep(module: nn.Module, args: Any, output: Tensor, rows: dict[str, Tensor] = rows, name: str = name) -> None:
                    rows[name] = output

                stack.callback(layer.get_submodule(name).register_forward_hook(keep).remove)
        bare_pass(model, embeds, [embeds.shape[1]] * len(layers))
    return played


def bare_pass(
    model: Any,
    embeds: Tensor,
    lengths: Sequence[int],
    steps: int = 0,
    head: bool = True,
    clock: Callable[[], float] = perf_counter,
) -> tuple[float, float]:
    """A prefill whose layer l runs on the first ``lengths[l]`` tokens, and ``steps`` decode steps after it, without any hook.

    Args:
        model: a LlamaForCausalLM; its first ``len(lengths)`` layers are run (none: only the head is timed). embeds: (1, N, d).
        lengths: non-increasing, at most N. head: with embedding lookup, last norm and vocabulary, or the layers alone.

    Returns:
        milliseconds of the prefill, and of one decode step (0 without any).
    """
    from transformers import DynamicCache

    from senna_autoprune.pruning.decoder.models import CACHE

    decoder, cache = model.model, DynamicCache()
    layers = decoder.layers[: len(lengths)]
    device, total = embeds.device, embeds.shape[1]
    token = torch.zeros(1, 1, dtype=torch.long, device=device)

    def run(hidden: Tensor, start: int) -> None:
        positions = torch.arange(start, start + hidden.shape[1], device=device)[None]
        cos, sin = decoder.rotary_emb(hidden, position_ids=positions)
        for layer, length in zip(layers, lengths, strict=True):
            hidden = hidden[:, :length]
            rotary = cos[:, : hidden.shape[1]], sin[:, : hidden.shape[1]]
            hidden = layer(hidden, position_embeddings=rotary, **{CACHE: cache}, use_cache=True)
        if head:
            model.lm_head(decoder.norm(hidden[:, -1:])).argmax(-1)

    with torch.inference_mode():
        marks = Marks(device, clock)
        begun = marks.mark()
        run(embeds, 0)
        filled = marks.mark()
        for step in range(steps):
            run(decoder.embed_tokens(token) if head else embeds[:, -1:], total + step)
        ended = marks.mark()
        return marks.ms(begun, filled), marks.ms(filled, ended) / max(steps, 1)
