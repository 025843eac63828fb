"""Caches of pruned prompts, known again by what is in them: tensors that went through numpy or a file say no more whose they are.

For the last prefills of a decoder the key of the prompt's last token in the last layer is kept. In a cache of a whole prompt that token
stands elsewhere, or saw other tokens.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

REMEMBERED = 64  # prefills of a decoder

_SEEN: WeakKeyDictionary[nn.Module, deque[tuple[int, Tensor]]] = WeakKeyDictionary()


def remember(decoder: nn.Module, keys: Tensor) -> None:
    """A pruned prefill has left ``keys`` (B, G, M, h) in the last layer."""
    _SEEN.setdefault(decoder, deque(maxlen=REMEMBERED)).append((keys.shape[2], keys[:, :, -1].detach().clone()))


def recognised(decoder: nn.Module, keys: Any) -> bool:
    """Whether a row of ``keys`` (B, G, M, h), the last layer's of a cache that says nothing of itself, is a pruned prompt's."""
    if not isinstance(keys, Tensor) or keys.dim() != 4:
        return False
    for length, rows in _SEEN.get(decoder, ()):
        if keys.shape[2] < length or keys.shape[1::2] != rows.shape[1:]:
            continue
        found = keys[:, None, :, length - 1].float().cpu()  # (B, 1, G, h)
        difference = (found - rows.float().cpu()).abs().amax((-2, -1))  # (B, B')
        if bool((difference <= 1e-2 * rows.float().cpu().abs().amax((-2, -1)).clamp_min(torch.finfo(torch.float32).tiny)).any()):
            return True
    return False
