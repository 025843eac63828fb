"""What a method may look at, and what it may give back: a prompt's visual tokens, one prompt's state while the decoder runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation, Budget
from senna_autoprune.pruning.cost import LayerCost


@dataclass(frozen=True)
class VisualContext:
    """Where the visual tokens of a batch are, and what the vision tower says of them.

    mask: (B, N) bool over the decoder's input positions.
    view_sizes: visual tokens of each view, in order, the same in all prompts or one tuple a prompt; None: every contiguous run is a view.
    cls_scores: (B, V), or (V,) a prompt: attention of the vision tower's CLS token to each visual token, or None.
    keys: (B, V, c), or (V, c) a prompt: what the vision tower tells visual tokens apart by (its attention keys), or None.
    notes: what the user must know about the above; every prompt's trace repeats it.
    missing: "cls_scores" or "keys" -> why the model offers none, for the error of a method that cannot do without.
    """

    mask: Tensor
    view_sizes: tuple[int, ...] | Sequence[tuple[int, ...]] | None = None
    cls_scores: Tensor | Sequence[Tensor] | None = None
    keys: Tensor | Sequence[Tensor] | None = None
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def repeated(self, times: int) -> VisualContext:
        """Every prompt ``times`` times, one after the other."""

        def rows(values: Any) -> Any:
            if isinstance(values, Tensor):
                return values.repeat_interleave(times, dim=0)
            return [value for value in values for _ in range(times)] if values is not None else None

        sizes = self.view_sizes if not self.view_sizes or isinstance(self.view_sizes[0], int) else rows(self.view_sizes)
        return replace(self, mask=rows(self.mask), view_sizes=sizes, cls_scores=rows(self.cls_scores), keys=rows(self.keys))

    def views(self, prompt: int) -> tuple[int, ...] | None:
        """Visual tokens of each view of one prompt; None: nobody says."""
        sizes: Any = self.view_sizes
        return sizes[prompt] if sizes and not isinstance(sizes[0], int) else sizes


@dataclass
class PromptLayout:
    """Where one prompt's tokens are in the current, already pruned, sequence. All indices live on the model's device.

    text: (T,) slots of text tokens, ascending. visual: (v,) slots of visual tokens, ascending.
    ids: (v,) original visual index 0..V-1, or a negative name for a merged token (decoder/gather.py).
    origin: (M,) the original slot whose rotary position each token carries.
    asking: how many text tokens follow the last visual token (only they see every view under the causal mask).
    host_text: ``text`` of a prompt before its first cut, on the host.
    """

    text: Tensor
    visual: Tensor
    ids: Tensor
    origin: Tensor
    asking: int
    host_text: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        """v, without looking at a tensor."""
        return len(self.visual)

    @property
    def length(self) -> int:
        return len(self.text) + self.tokens

    @property
    def text_rows(self) -> Tensor:
        """(T,) slots of the text tokens after the last visual token."""
        return self.text[len(self.text) - self.asking :]


class ShortLayout(PromptLayout):
    """What is left of a layout after a cut that keeps its slots ``source`` ((M',) ascending, all text among them).

    A prefill that ranks by slots (decoder/ranked.py) reads none of it, so it is worked out when somebody asks: as a rule the trace, later.
    """

    def __init__(self, before: PromptLayout, source: Tensor, tokens: int, padding: int = 0) -> None:
        """tokens: visual tokens that are left. padding: slots that a batch puts before what is left."""
        self.before, self.source, self._tokens, self.asking, self.padding = before, source, tokens, before.asking, padding

    @property
    def tokens(self) -> int:
        return self._tokens

    @property
    def length(self) -> int:
        return len(self.source)

    @cached_property
    def text(self) -> Tensor:  # type: ignore[override]
        return torch.searchsorted(self.source, self.before.text) + self.padding

    @cached_property
    def visual(self) -> Tensor:  # type: ignore[override]
        flags = torch.zeros(len(self.source), dtype=torch.long, device=self.source.device).index_fill_(0, self.text - self.padding, 1)
        return torch.sort(flags, stable=True).indices[: self.tokens] + self.padding

    @cached_property
    def ids(self) -> Tensor:  # type: ignore[override]
        kept = torch.searchsorted(self.before.visual, self.source.index_select(0, self.visual - self.padding))
        return self.before.ids.index_select(0, kept)

    @cached_property
    def origin(self) -> Tensor:  # type: ignore[override]
        origin = self.before.origin.index_select(0, self.source)
        return torch.cat([origin[:1].expand(self.padding), origin]) if self.padding else origin


def initial_layouts(mask: Tensor, valid: Tensor | None) -> list[PromptLayout]:
    """Layouts of an unpruned batch. One transfer to the host, before the decoder has queued any work.

    Args:
        mask: (B, N) bool, True at visual tokens. valid: (B, N) bool, False at padding, or None.

    Raises:
        SennaPruneError: if a prompt has visual tokens and no text after them.
    """
    device, layouts = mask.device, []
    host, there = mask.cpu().numpy(), None if valid is None else valid.cpu().numpy()
    for sample, row in enumerate(host):
        real = True if there is None else there[sample]
        visual, text = (row & real).nonzero()[0], (~row & real).nonzero()[0]
        asking = int((text > visual[-1]).sum()) if len(visual) else len(text)
        if not asking:
            raise SennaPruneError(f"sample {sample}: no text token after the last visual token, so nothing asks about the views")
        origin = torch.arange(len(row), device=device)
        ids, slots = origin[: len(visual)], torch.from_numpy(visual).to(device)
        layouts.append(PromptLayout(torch.from_numpy(text).to(device), slots, ids, origin, asking, text))
    return layouts


def runs_of(visual_slots: Tensor) -> tuple[int, ...]:
    """Sizes of the contiguous runs of visual slots: the views, when nobody says otherwise. Host only: (V,) -> sizes."""
    if not len(visual_slots):
        return ()
    breaks = (np.diff(visual_slots.numpy()) > 1).nonzero()[0] + 1
    edges = [0, *breaks.tolist(), len(visual_slots)]
    return tuple(stop - start for start, stop in zip(edges[:-1], edges[1:], strict=True))


@dataclass(frozen=True)
class AttentionRows:
    """Softmax attention of some query rows of one layer, over the whole causal row.

    weights: (H, T, M); layout: of its columns, the first of which is slot ``start``: there is none for the padding before it.
    """

    weights: Tensor
    layout: PromptLayout
    start: int = 0

    @property
    def visual(self) -> Tensor:
        """(v,) columns of the visual tokens."""
        return self.layout.visual - self.start if self.start else self.layout.visual

    def to_visual(self) -> Tensor:
        """(H, T, v) attention to the visual tokens, not renormalised."""
        return self._at_visual(self.weights)

    def mean_heads_to_visual(self) -> Tensor:
        """(1, T, v) mean over heads, kept as an axis of one."""
        return self._at_visual(self.weights.mean(dim=0, keepdim=True))

    def _at_visual(self, rows: Tensor) -> Tensor:
        """(..., T, v) of (..., T, M). On a CPU ``gather`` is three times as fast as ``index_select`` along the last axis."""
        return rows.gather(-1, self.visual.expand(*rows.shape[:-1], -1))

    def mean_to_visual(self) -> Tensor:
        """(v,) mean over heads and rows."""
        rows = self.weights.flatten(0, 1)  # (H T, M)
        # a product with a constant row: reductions over leading axes are several times slower on a CPU
        share = torch.full((1, rows.shape[0]), 1 / rows.shape[0], dtype=rows.dtype, device=rows.device)
        return (share @ rows)[0].index_select(0, self.visual)


@dataclass
class PromptContext:
    """One prompt while the decoder runs. A method reads it; only ``scratch`` and ``notes`` are its to write.

    Fixed: layers L, visual V, text (all text tokens), view_sizes, budget, cost, cls_scores (V,) or None, keys (V, c) or None,
    generator (CPU, seeded), decoder (the stock decoder module),
    compact (positions are renumbered after each cut), missing (why cls_scores or keys are None).
    Moving: boundary (the layer about to run), hidden (M, d) its input, tables (its cosines and sines (B or 1, N, h) of the original
    positions; ``rotary`` is this sample's, in ``row``) and tables_below (those of the layer below), layout, attention (rows of the layer
    below, if asked for),
    measured (numbers on the host), allocation, view_counts (tokens left per view, where known on the host), ranked (scores so far).
    """

    layers: int
    visual: int
    text: int
    view_sizes: tuple[int, ...]
    budget: Budget
    cost: LayerCost
    layout: PromptLayout
    generator: torch.Generator
    decoder: Any = None
    cls_scores: Tensor | None = None
    keys: Tensor | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    compact: bool = False
    boundary: int = 0
    hidden: Tensor | None = None
    row: int = 0
    tables: tuple[Tensor, Tensor] | None = None
    tables_below: tuple[Tensor, Tensor] | None = None
    attention: AttentionRows | None = None
    measured: list[float] = field(default_factory=list)
    allocation: Allocation | None = None
    view_counts: list[int] | None = None
    ranked: list[Tensor] = field(default_factory=list)
    scratch: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def rotary(self) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines (N, h) of the original positions, of the layer about to run."""
        return _row_of(self.tables, self.row)

    @property
    def rotary_below(self) -> tuple[Tensor, Tensor] | None:
        """Those of the layer below."""
        return _row_of(self.tables_below, self.row)

    @property
    def visual_hidden(self) -> Tensor:
        """(v, d) hidden states of the visual tokens at the input of the layer about to run."""
        assert self.hidden is not None
        return self.hidden.index_select(0, self.layout.visual)

    @property
    def text_hidden(self) -> Tensor:
        """(T, d) hidden states of all text tokens at the input of the layer about to run."""
        assert self.hidden is not None
        return self.hidden.index_select(0, self.layout.text)

    def average_tokens(self) -> float:
        """The budget as visual tokens per layer (budget.py)."""
        return self.budget.average_tokens(self.visual, len(self.view_sizes) or None)

    @property
    def keeps_all(self) -> bool:
        """Whether the budget is every token."""
        budget = self.budget
        return not budget.own and (budget.flops == 1 if budget.flops is not None else self.average_tokens() >= self.visual)

    def note(self, text: str) -> None:
        """Something the user must know about this prompt's numbers; said once."""
        if text not in self.notes:
            self.notes.append(text)


def _row_of(tables: tuple[Tensor, Tensor] | None, row: int) -> tuple[Tensor, Tensor] | None:
    return None if tables is None else (tables[0][row % tables[0].shape[0]], tables[1][row % tables[1].shape[0]])


@dataclass(frozen=True)
class Revived:
    """New tokens in place of dropped ones.

    tokens: (C, d); centres: (C,) index among the current visual tokens whose rotary position each takes;
    behind: (C,) index among them behind whose place each is put (its own centre's, its view's last); None: behind the last visual token.
    """

    tokens: Tensor
    centres: Tensor
    behind: Tensor | None = None


@dataclass(frozen=True)
class Asked:
    """Rows of the output that a forward's caller asks for by their place in the whole prompt.

    labels: (B, N), row i - 1 predicts what is not -100 at i. shift_labels: (B, N), row i does.
    logits_to_keep: last rows (0: all), or (k,) rows.
    """

    labels: Tensor | None = None
    shift_labels: Tensor | None = None
    logits_to_keep: int | Tensor = 0

    @classmethod
    def of(cls, model: Any, call: Mapping[str, Any]) -> Asked:
        """From the keywords of ``model.forward``. Labels of unexpanded prompts are spread by the model's ``expand_labels``."""
        labels, keep = call.get("labels"), call.get("logits_to_keep")
        if labels is not None and call.get("input_ids") is not None and hasattr(model, "expand_labels"):
            labels = model.expand_labels(call["input_ids"], labels)
        return cls(labels, call.get("shift_labels"), 0 if keep is None else keep)


SampleContext = PromptContext  # the name in 0.1, for methods of other packages
