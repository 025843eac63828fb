"""``load_senna``: a checkpoint directory (or hub id), in the original layout or ours, to a model and its processor.

Every weight is accounted for: a missing, unexpected, misshaped or non-finite one is an error naming it, and nothing is
ever initialised at random. Tensors are read one by one into a model without storage, so a 7B checkpoint needs its own
size and no more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna import original
from senna_autoprune.senna.configuration import SennaConfig, check_config
from senna_autoprune.senna.folder import check_folder
from senna_autoprune.senna.images import SennaImageProcessor
from senna_autoprune.senna.lora import base_of, merge, refuse_wrapped
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.processing import SennaProcessor
from senna_autoprune.senna.tokenization import load_sentencepiece
from senna_autoprune.senna.weights import WeightStore, read_json

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_FILES = (
    "*.json",
    "*.safetensors",
    "pytorch_model*.bin",
    "tokenizer.model",
)  # all that is ever read from a hub repository


Plan = tuple[SennaConfig, dict[str, tuple[WeightStore, str]], SennaProcessor, str]  # what to build, from which tensors


@dataclass
class Senna:
    """A loaded checkpoint.

    Attributes:
        model: ready for ``generate``, in eval mode.
        processor: makes its inputs and decodes its ids.
        provenance: where it came from: checkpoint, layout, vision_tower, dtype, device, attn_implementation.
    """

    model: SennaForConditionalGeneration
    processor: SennaProcessor
    provenance: dict[str, str] = field(default_factory=dict)


def _directory(path_or_hub_id: str | PathLike[str], what: str) -> Path:
    """A local directory; the hub is asked only for a name that is no directory and looks like ``owner/name``."""
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return path
    name = str(path_or_hub_id)
    if path.exists() or not original.is_hub_id(name):
        raise SennaPruneError(f"{what} not found: {name} is no directory")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # offline, unknown repository, no access: the client has an error type for each
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SennaPruneError(f"{what} not found: {name} is no directory, and the hub gave none ({reason})") from error


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _convert(tensor: Tensor, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    if not tensor.is_floating_point():
        raise SennaPruneError(f"broken weight: {name} holds {tensor.dtype}, not floating-point numbers")
    value = tensor.to(device=device, dtype=dtype)
    if not bool(torch.isfinite(value).all()):
        kind = "NaN or infinity" if not bool(torch.isfinite(tensor.double()).all()) else f"values beyond {dtype}"
        raise SennaPruneError(f"broken weight: {name} holds {kind}")
    return value


def _empty_model(config: SennaConfig, dtype: torch.dtype, attn_implementation: str) -> SennaForConditionalGeneration:
    """The model without storage for its weights and buffers."""
    try:
        with torch.device("meta"):
            return SennaForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation=attn_implementation)
    except (ImportError, ValueError) as error:
        raise SennaPruneError(f"attn_implementation {attn_implementation!r} cannot be used: {error}") from error
    except Exception as error:  # sizes that do not go together, an unknown activation: the layers have no common error
        raise SennaPruneError(f"config.json describes no model that can be built: {type(error).__name__}: {error}") from error


def _compute_buffers(model: SennaForConditionalGeneration) -> None:
    """Buffers that no checkpoint holds. Only once the weights' shapes are known to be those of the configuration."""
    decoder, embeddings = model.language_model, model.vision_tower.embeddings
    decoder.rotary_emb = type(decoder.rotary_emb)(config=decoder.config)
    embeddings.position_ids = torch.arange(embeddings.num_positions).unsqueeze(0)


def _check_depth(config: SennaConfig, names: Collection[str], checkpoint: Path) -> None:
    """A configuration can ask for a billion layers, which would be built before one weight is missed."""
    parts: list[tuple[str, Any]] = [("language_model.layers.", config.text_config), ("vision_tower.encoder.layers.", config.vision_config)]
    for prefix, part in parts:
        found = {name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)}
        if not 1 <= part.num_hidden_layers <= len(found):
            raise SennaPruneError(
                f"missing weights in {checkpoint}: config.json says {part.num_hidden_layers} layers {prefix}*, there are {len(found)}"
            )
    states = config.vision_config.num_hidden_layers + 1  # type: ignore[union-attr]
    if not -states <= config.vision_feature_layer < states:
        raise SennaPruneError(f"{checkpoint}: vision_feature_layer {config.vision_feature_layer} is none of the tower's {states} states")


def _check_processor(processor: SennaProcessor, config: SennaConfig, directory: Path) -> None:
    """The processor must make what the model takes."""
    images, vision, path = processor.image_processor, config.vision_config, directory / "processor_config.json"
    fits = {
        "image_size": (images.image_size, vision.image_size),  # type: ignore[union-attr]
        "patch_size": (images.patch_size, vision.patch_size),  # type: ignore[union-attr]
        "num_visual_tokens": (processor.num_visual_tokens, config.num_visual_tokens),
    }
    for name, (here, there) in fits.items():
        if here != there:
            raise SennaPruneError(f"{path}: {name} is {here!r}, but the model has {there!r}")
    if not isinstance(processor.prompt_max_length, int) or processor.prompt_max_length < 1:
        raise SennaPruneError(f"{path}: prompt_max_length {processor.prompt_max_length!r} is no length")
    for name, low, high in (("image_mean", 0.0, 1.0), ("image_std", 1e-3, 10.0)):
        values = getattr(images, name)
        if len(values) != 3 or not all(isinstance(value, (int, float)) and low <= value <= high for value in values):
            raise SennaPruneError(f"{path}: {name} is {values!r:.80}, not three numbers from {low:g} to {high:g}")


def _check_ids(processor: SennaProcessor, config: SennaConfig, directory: Path) -> None:
    """Every id that the tokenizer or the configuration knows must have its row in the embeddings."""
    ids, text = processor.tokenizer.get_vocab().values(), config.get_text_config()
    vocabulary = text.vocab_size
    if len(ids) > vocabulary:
        raise SennaPruneError(f"{directory}: the tokenizer has {len(ids)} ids but the model only {vocabulary}")
    if max(ids, default=0) >= vocabulary:
        raise SennaPruneError(f"{directory}: the tokenizer has the id {max(ids)} but the model only {vocabulary}")
    if processor.tokenizer.bos_token_id is None:
        raise SennaPruneError(f"{directory}: the tokenizer has no token that begins a prompt (bos_token)")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(text, name)
        known = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(number, int) and 0 <= number < vocabulary for number in known):
            raise SennaPruneError(f"{directory / 'config.json'}: {name} {value!r:.80} is no id of {vocabulary}")


def _fill(
    model: SennaForConditionalGeneration,
    sources: dict[str, tuple[WeightStore, str]],
    dtype: torch.dtype,
    device: torch.device,
    checkpoint: Path,
) -> None:
    """Put every weight in its place; ``sources`` maps our names to where they are read."""
    targets = dict(model.named_parameters())
    if model.config.tie_word_embeddings:
        targets.pop("lm_head.weight", None)
        sources.pop("lm_head.weight", None)
    missing = sorted(set(targets) - set(sources))
    if missing:
        raise SennaPruneError(f"missing weights in {checkpoint}: {_some([original.original_name(name) for name in missing])}")
    unexpected = sorted(set(sources) - set(targets))
    if unexpected:
        raise SennaPruneError(f"unexpected weights in {checkpoint}: {_some([sources[name][1] for name in unexpected])}")
    misshaped = [
        f"{stored} is {list(store.shape(stored))}, expected {list(targets[name].shape)}"
        for name, (store, stored) in sorted(sources.items())
        if store.shape(stored) != tuple(targets[name].shape)
    ]
    if misshaped:
        raise SennaPruneError(f"misshaped weights in {checkpoint}: {_some(misshaped)}")
    _compute_buffers(model)
    for name, (store, stored) in sources.items():
        module_name, _, leaf = name.rpartition(".")
        value = _convert(store.tensor(stored), stored, dtype, device)
        setattr(model.get_submodule(module_name), leaf, nn.Parameter(value))
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.language_model.embed_tokens.weight
    left = [name for name, value in [*model.named_parameters(), *model.named_buffers()] if value.is_meta]
    if left:  # a newer transformers may add buffers this file does not know
        raise RuntimeError(f"not initialised: {left}")
    nn.Module.to(model, device)


def _greedy(config: SennaConfig) -> GenerationConfig:
    """Greedy decoding that stops at eos; vicuna's stored temperature and top_p are sampling values and are dropped."""
    text: Any = config.text_config
    return GenerationConfig(
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=0 if text.pad_token_id is None else text.pad_token_id,
        do_sample=False,
    )


def _image_processor(config: SennaConfig, tower: Path | None) -> SennaImageProcessor:
    """Sizes of the tower; mean and std of its preprocessor_config.json where it has one, else CLIP's."""
    vision: Any = config.vision_config
    sizes = {"image_size": vision.image_size, "patch_size": vision.patch_size}
    path = tower / "preprocessor_config.json" if tower is not None else None
    values = read_json(path) if path is not None and path.is_file() else {}
    return SennaImageProcessor(**sizes, **{key: values[key] for key in ("image_mean", "image_std") if values.get(key)})


def _load_original(directory: Path, tower_argument: Path | None) -> Plan:
    values = read_json(directory / "config.json")
    store = WeightStore(directory)
    refuse_wrapped(directory, store.names())
    tower = original.choose_tower(values, store, tower_argument)
    config = original.convert_config(values, store, tower.config)
    sources = {
        original.own_name(name): (store, name)
        for name in store.names()
        if not original.is_buffer(name) and not name.startswith(original.TOWER_PREFIX)
    }
    sources.update({name: (tower.store, stored) for name, stored in tower.names.items()})
    tokenizer = load_sentencepiece(directory / "tokenizer.model", config.prompt_max_length)
    image_processor = _image_processor(config, tower.directory)
    processor = SennaProcessor(image_processor, tokenizer, config.num_visual_tokens, config.prompt_max_length)
    return config, sources, processor, tower.origin


def _load_own(directory: Path, tower_argument: Path | None) -> Plan:
    try:
        config = SennaConfig.from_pretrained(directory, local_files_only=True)
        processor = SennaProcessor.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises many types on broken files
        reason = str(error).strip().replace("\n", " ")
        raise SennaPruneError(f"broken checkpoint: {directory} ({reason})") from error
    check_config(config, directory / "config.json")
    store = WeightStore(directory)
    refuse_wrapped(directory, store.names())
    sources = {name: (store, name) for name in store.names() if not original.is_buffer(name)}
    origin = f"checkpoint's own weights: {directory}"
    if tower_argument is not None:
        config.vision_config = original.read_tower_config(tower_argument)
        tower = WeightStore(tower_argument)
        sources = {name: source for name, source in sources.items() if not name.startswith("vision_tower.")}
        sources.update({name: (tower, stored) for name, stored in original.tower_weights(tower).items()})
        origin = f"vision_tower argument: {tower_argument.resolve()}"
    return config, sources, processor, origin


def load_senna(
    path_or_hub_id: str | PathLike[str],
    vision_tower: str | PathLike[str] | None = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    attn_implementation: str = "sdpa",
) -> Senna:
    """Load a Senna checkpoint with its processor.

    Args:
        path_or_hub_id: a directory in the original layout (``config.json`` with ``mm_*`` keys) or in ours
            (``save_pretrained``), or a hub id, the only case in which the network is used; or a LoRA adapter whose
            ``base_model_name_or_path`` is such a directory, with which it is merged.
        vision_tower: a CLIP directory (or hub id) to use in place of the one the checkpoint means. Otherwise, in this
            order: the checkpoint's own weights if it has ``unfreeze_mm_vision_tower``; ``config.mm_vision_tower`` if
            that path, or that id in the local cache, is here; else the checkpoint's own weights. The choice is logged
            and kept in ``provenance``.
        dtype: "float32", "float16" or "bfloat16".
        device: any torch device.
        attn_implementation: of the decoder and the tower, e.g. "sdpa" or "eager".

    Raises:
        SennaPruneError: not a Senna checkpoint; a missing, unexpected, misshaped or non-finite weight; a missing tower
            or tokenizer.
    """
    directory = _directory(path_or_hub_id, "checkpoint")
    check_folder(directory)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise SennaPruneError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        dtype = DTYPES[dtype]
    device = usable_device(device)
    base = base_of(directory)
    if base is not None:
        found = load_senna(base, vision_tower, dtype, device, attn_implementation)
        found.provenance |= {"checkpoint": str(path_or_hub_id), "base": str(base), **merge(found.model, directory)}
        return found
    tower = None if vision_tower is None else _directory(vision_tower, "vision tower")
    if tower is not None:
        check_folder(tower)
    values = read_json(directory / "config.json")
    own_layout = values.get("model_type") == SennaConfig.model_type
    if not own_layout and not (values.get("model_type") == original.MODEL_TYPE or "mm_vision_tower" in values):
        raise SennaPruneError(f"not a Senna checkpoint: {directory / 'config.json'} has model_type {values.get('model_type')!r}")
    config, sources, processor, origin = (_load_own if own_layout else _load_original)(directory, tower)
    _check_depth(config, sources, directory)
    _check_processor(processor, config, directory)
    _check_ids(processor, config, directory)
    model = _empty_model(config, dtype, attn_implementation)
    _fill(model, sources, dtype, device, directory)
    model.generation_config = _greedy(config)
    model.eval()
    logger.info(f"vision tower: {origin}")
    provenance = {
        "checkpoint": str(path_or_hub_id),
        "layout": "senna-prune" if own_layout else "original",
        "vision_tower": origin,
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(device),
        "attn_implementation": attn_implementation,
    }
    return Senna(model, processor, provenance)


def usable_device(device: str | torch.device) -> torch.device:
    """The torch device of that name. SennaPruneError: there is none here, or it holds no numbers (meta)."""
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
        if chosen.type == "meta":
            raise RuntimeError("it holds no numbers")
    except Exception as error:  # each kind of device has its own way of not being there
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SennaPruneError(f"device {device!s} cannot be used: {reason}") from error
    return chosen
