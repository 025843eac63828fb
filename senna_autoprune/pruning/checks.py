"""What a method gives back is looked at before it is believed: one line that names the method, instead of other answers.

Counts are integers on the host and cost nothing to check. Looking into tensors waits for the device: scores are looked at once, after a
prefill's last layer, and the indices of a method's own ``select`` only if it is not one of ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext, Revived
from senna_autoprune.pruning.method import Method

OURS = "senna_autoprune.pruning.methods."


def check_numbers(method: Method, numbers: Any) -> None:
    """Raise SennaPruneError unless ``measure`` gave None or a 1-d tensor."""
    if numbers is not None and not (isinstance(numbers, Tensor) and numbers.dim() == 1):
        raise _fault(method, "measure", f"returned {_said(numbers)}; return None or a 1-d tensor")


def check_allocation(method: Method, context: PromptContext, allocation: Any, entered: list[int], last: bool) -> None:
    """Raise SennaPruneError unless this is an allocation that the decoder can follow and the budget allows.

    Args:
        entered: visual tokens that entered the layers already run. last: ``allocate`` will not be asked again, so the budget must hold.
    """
    if not isinstance(allocation, Allocation):
        raise _fault(method, "allocate", f"returned {_said(allocation)}; return Allocation((n_0, ..., n_L-1))")
    layers, visual, counts = context.layers, context.visual, tuple(allocation.entering)
    chosen = counts if allocation.selected is None else tuple(allocation.selected)
    for name, numbers in (("entering", counts), ("selected", chosen)):
        if len(numbers) not in (layers, layers + 1) or len(numbers) != len(counts):
            raise _fault(method, "allocate", f"{name} has {len(numbers)} counts for {layers} layers")
        wrong = [number for number in numbers if not _is_count(number)]
        if wrong:
            raise _fault(method, "allocate", f"{name} holds {wrong[0]!r}; counts are whole numbers >= 0")
    for layer, (before, now) in enumerate(pairwise((visual, *counts))):
        if now > before:
            raise _fault(method, "allocate", f"{now} visual tokens enter layer {layer}, but only {before} are there")
        if chosen[layer] > now:
            raise _fault(method, "allocate", f"selects {chosen[layer]} of the {now} tokens that enter layer {layer}")
    if list(counts[: len(entered)]) != entered:
        raise _fault(method, "allocate", f"changed the counts of layers already run: {list(counts[: len(entered)])}, not {entered}")
    if last:
        _check_budget(method, context, counts)


def _is_count(number: Any) -> bool:
    whole = type(number) is int or (isinstance(number, Integral) and not isinstance(number, bool))  # most are ints, known at once
    return whole and number >= 0


def _check_budget(method: Method, context: PromptContext, counts: tuple[int, ...]) -> None:
    """Rounding each layer's count may add half a token to it, no more; a share of FLOPs is never exceeded."""
    if method.own_budget or method.spends == "released":
        return
    layers, text, flops = context.layers, context.text, context.budget.flops
    counted = counts[-layers:] if method.spends == "leaving" and len(counts) > layers else counts[:layers]
    if flops is not None:
        spent = context.cost.prefill(count + text for count in counts[:layers]) / context.cost.prefill([context.visual + text] * layers)
        if spent > flops * (1 + 1e-9):
            raise _fault(method, "allocate", f"spends {spent:.4f} of the full prefill's FLOPs; the budget is {flops:g}")
        return
    average = context.average_tokens()
    allowed = average * layers + layers / 2 + (context.visual if method.spends == "leaving" else 0)
    if sum(counted) > allowed + 1e-9:
        visual = context.visual
        raise _fault(
            method,
            "allocate",
            f"spends {sum(counted) / layers / visual:.4f} of the visual tokens ({sum(counted) / layers:.1f} a layer of {visual}); "
            f"the budget is {average / visual:.4f} ({average:.1f} a layer)",
        )


def check_selection(method: Method, kept: Any, current: int, count: int, layer: int) -> None:
    """Raise SennaPruneError unless ``kept`` are ``count`` ascending indices below ``current``; values only if the method is not ours."""
    if not isinstance(kept, Tensor) or kept.shape != (count,) or kept.dtype != torch.int64:
        raise _fault(method, "select", f"returned {_said(kept)} at layer {layer}; return a ({count},) int64 tensor of ascending indices")
    if type(method).select is Method.select or type(method).__module__.startswith(OURS):
        return
    rising = bool((kept.diff() > 0).all()) and (not count or (int(kept[0]) >= 0 and int(kept[-1]) < current))
    if not rising:
        raise _fault(method, "select", f"returned indices at layer {layer} that are not ascending within 0..{current - 1}")


def check_revived(method: Method, revived: Any, count: int, layer: int) -> None:
    """Raise SennaPruneError unless ``count`` tokens were made."""
    if not isinstance(revived, Revived):
        raise _fault(method, "revive", f"returned {_said(revived)} at layer {layer}; return Revived(tokens, centres)")
    if len(revived.tokens) != count or len(revived.centres) != count:
        raise _fault(method, "revive", f"made {len(revived.tokens)} tokens at layer {layer} where {count} were asked")


def check_scores(method: Method, scores: Iterable[Tensor]) -> None:
    """Raise SennaPruneError if a score that ranked tokens is NaN. Waits for the device once."""
    asked = [one.detach().flatten() for one in scores]
    if asked and math.isnan(torch.cat(asked).amax()):  # NaN wins in amax
        raise _fault(method, "score", "gave NaN, which ranks nothing (a fault of the method, or the model's attention is not finite)")


def _fault(method: Method, part: str, what: str) -> SennaPruneError:
    return SennaPruneError(f"{type(method).__name__}.{part}: {what}")


def _said(value: Any) -> str:
    return f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__} {value!r:.60}"
