"""Keys and values that somebody takes out of a pruned cache by hand: whatever is made of them still says that tokens are missing.

A row of such a tensor is no position: later tokens counted from its length stand at wrong ones. Inside their cache that is known
(cache.py). Outside, copies, pieces, rows and stacks of them are ``PrunedStates`` too, and what would make a prompt of them is refused:
new tokens behind them, a preallocated cache, attention. What is only measured of them is a plain tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError

JOINING = frozenset(("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"))
MEASURING = frozenset(("mean", "sum", "std", "var", "max", "min", "amax", "amin", "argmax", "argmin", "topk", "softmax", "einsum"))
MEASURED = ("norm", "matmul", "similarity", "cdist", "quantile", "median")  # in the names of functions that make no states of states


class PrunedStates(Tensor):
    """Keys or values (..., M, h) of a pruned cache, outside of it. ``as_subclass(torch.Tensor)`` for who knows better.

    Raises:
        SennaPruneError: if they are joined with other tensors, written into one, or attended to.
    """

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        first: Any = args[0] if args else next(iter(kwargs.values()), ())
        writes = (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"
        alone = all(isinstance(part, cls) or not part.numel() for part in first) if name in JOINING else isinstance(first, cls)
        if name == "scaled_dot_product_attention" or ((writes or name in JOINING) and not alone):
            refuse()
        result = super().__torch_function__(function, types, args, kwargs)
        measures = name in MEASURING or any(part in name for part in MEASURED)
        return _plain(result) if measures else result

    def __deepcopy__(self, memo: dict[int, Any]) -> PrunedStates:
        memo[id(self)] = copy = self.as_subclass(Tensor).detach().clone().as_subclass(PrunedStates)
        return copy


torch.serialization.add_safe_globals([PrunedStates])  # saved by torch.save, it is read as data, and as what it is


def refuse() -> None:
    """Raise SennaPruneError: a cache was made by hand."""
    raise SennaPruneError(
        "this cache was put together from tensors of a pruned one, so its positions are lost; copy the cache as a whole "
        "(copy.deepcopy), and use its own crop, reorder_cache, batch_select_indices and batch_repeat_interleave"
    )


def _plain(result: Any) -> Any:
    if isinstance(result, PrunedStates):
        return result.as_subclass(Tensor)
    return type(result)(map(_plain, result)) if type(result) in (tuple, list) else result
