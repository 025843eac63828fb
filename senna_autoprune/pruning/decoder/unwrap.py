"""The model whose ``forward`` runs, through any depth of wrapping: PEFT, torch.compile, data-parallel, or a user's own module or object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder.models import find_decoder
from senna_autoprune.pruning.multimodal.families import FAMILIES

DEPTH = 4  # of plain objects that hold objects that hold a model


def running_model(model: Any) -> Any:
    """The innermost model that generates and knows its images; what wraps it may or may not be called, it always is.

    Args:
        model: a model of transformers, a module around one, or an object with one among its attributes.

    Raises:
        SennaPruneError: several models are wrapped, none has a decoder, or the wrapper copies or shards the model.
    """
    if isinstance(model, nn.Module):
        _refuse_copies(model)
    outer = list(_outermost(model))
    if not outer:
        return model
    if len(outer) > 1:
        names = ", ".join(type(one).__name__ for one in outer)
        raise SennaPruneError(f"{type(model).__name__} wraps several models ({names}); give the policy the one that generates")
    try:
        decoder = find_decoder(outer[0])
    except SennaPruneError:  # a wrapper that is itself a model, and says nothing of a decoder
        inner = [one for child in outer[0].children() for one in _outermost(child)]
        if len(inner) != 1:
            raise
        return running_model(inner[0])
    around = [one for one in outer[0].modules() if isinstance(one, PreTrainedModel) and one is not decoder and _holds(one, decoder)]
    generating = [one for one in around if isinstance(one, GenerationMixin)]
    knowing = [one for one in generating if _knows_images(one)]
    return (knowing or generating or around or [decoder])[-1]


def compiled(model: Any) -> bool:
    """Whether ``torch.compile`` has been at any part of the model: a compiled forward may not call hooks that came later."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    return any(
        getattr(one, "_compiled_call_impl", None) is not None
        or type(one).__name__ == "OptimizedModule"
        or hasattr(vars(one).get("forward"), "_torchdynamo_orig_callable")
        for one in modules
    )


def _outermost(model: Any, depth: int = DEPTH) -> Iterator[PreTrainedModel]:
    """Models of transformers inside ``model`` that lie in no other one; the search does not enter tensors or containers of data."""
    seen: set[int] = set()

    def walk(one: Any, left: int) -> Iterator[PreTrainedModel]:
        if id(one) in seen:
            return
        seen.add(id(one))
        if isinstance(one, PreTrainedModel):
            yield one
        elif isinstance(one, nn.Module):
            for child in one.children():
                yield from walk(child, left)
        elif left and hasattr(one, "__dict__"):
            for value in list(vars(one).values()):
                if isinstance(value, nn.Module) or type(value).__module__ not in ("builtins", "torch"):
                    yield from walk(value, left - 1)

    yield from walk(model, depth)


def _refuse_copies(model: nn.Module) -> None:
    for one in model.modules():
        if isinstance(one, nn.DataParallel) and len(one.device_ids) > 1:
            raise SennaPruneError("DataParallel copies the model for every device at each call; prune on one device")
        if type(one).__name__ == "FullyShardedDataParallel":
            raise SennaPruneError("FullyShardedDataParallel hides the weights between calls; prune the model before it is sharded")


def _holds(model: nn.Module, part: nn.Module) -> bool:
    return any(one is part for one in model.modules())


def _knows_images(model: Any) -> bool:
    config = model.config
    return (
        hasattr(model, "visual_context")
        or getattr(config, "image_token_id", None) is not None
        or getattr(config, "model_type", "") in FAMILIES
    )
