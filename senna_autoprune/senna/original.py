"""The original on-disk layout (hustvl/Senna): its config, its key names, and which vision tower it means (spec/senna.md
items 2-3)."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import CLIPVisionConfig, LlamaConfig

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.configuration import SennaConfig, check_config
from senna_autoprune.senna.weights import WeightStore, find_weight_files, read_json

logger = logging.getLogger(__name__)

MODEL_TYPE = "llava_llama"
TOWER_PREFIX = "model.vision_tower.vision_tower."
_BUFFERS = ("rotary_emb.inv_freq", "position_ids")  # written by older versions of transformers; recomputed here
_NOT_VISION = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")  # rest of a full CLIPModel
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FIXED = {  # settings under which the original code computes what this package computes
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "image_aspect_ratio": "pad",
    "mm_patch_merge_type": "flat",
}


def is_buffer(name: str) -> bool:
    """A buffer some versions stored that carries nothing: to be ignored."""
    return name.endswith(_BUFFERS)


def is_hub_id(name: str) -> bool:
    """Looks like ``owner/name`` rather than a path."""
    return _HUB_ID.fullmatch(name) is not None


def own_name(name: str) -> str:
    """Our name of an original weight, e.g. ``model.layers.0...`` -> ``language_model.layers.0...``."""
    if name.startswith(TOWER_PREFIX):
        return "vision_tower." + name.removeprefix(TOWER_PREFIX).removeprefix("vision_model.")
    if name.startswith(("model.mm_projector.", "model.img_adapter.")):
        return name.removeprefix("model.")
    if name.startswith("model."):
        return "language_model." + name.removeprefix("model.")
    return name if name.startswith("lm_head.") else "unknown." + name  # never one of our names by accident


def original_name(name: str) -> str:
    """The inverse of :func:`own_name`, for messages in the words of the file at hand."""
    if name.startswith("vision_tower."):
        return TOWER_PREFIX + "vision_model." + name.removeprefix("vision_tower.")
    if name.startswith(("mm_projector.", "img_adapter.")):
        return "model." + name
    if name.startswith("language_model."):
        return "model." + name.removeprefix("language_model.")
    return name


def tower_weights(store: WeightStore, prefix: str = "") -> dict[str, str]:
    """CLIP vision weights of a store: our name (``vision_tower.*``) -> name in the store."""
    names = {}
    for name in store.names():
        if name.startswith(prefix) and not is_buffer(name):
            local = name.removeprefix(prefix)
            if not local.startswith(_NOT_VISION):
                names["vision_tower." + local.removeprefix("vision_model.")] = name
    return names


@dataclass
class VisionTower:
    """Where the tower's weights come from.

    Attributes:
        store: the weight files that hold them.
        names: our name -> name in ``store``.
        config: the tower's architecture.
        origin: one line for log and provenance.
        directory: the tower's own directory, or None when it is inside the checkpoint.
    """

    store: WeightStore
    names: dict[str, str]
    config: CLIPVisionConfig
    origin: str
    directory: Path | None


def _known(config_class: type, values: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(config_class)}
    return {key: value for key, value in values.items() if key in known and value is not None}


def read_tower_config(directory: Path) -> CLIPVisionConfig:
    """``CLIPVisionConfig`` of a CLIP directory, which may describe the vision model alone or with its text model.

    Raises:
        SennaPruneError: the config is missing, broken, or no CLIP's.
    """
    path = directory / "config.json"
    values = read_json(path)
    kind = values.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise SennaPruneError(f"{path} is no CLIP config (model_type {kind!r})")
    if kind == "clip":
        values = values.get("vision_config") or {}
        if not isinstance(values, dict):
            raise SennaPruneError(f"{path} holds no vision_config object")
    return _build(CLIPVisionConfig, _known(CLIPVisionConfig, values), path)


def _build(config_class: type, values: dict[str, Any], path: Path) -> Any:
    try:
        return config_class(**values)
    except Exception as error:  # the library validates with several error types of its own
        reason = str(error).strip().replace("\n", " ")
        raise SennaPruneError(f"{path} describes no valid {config_class.__name__}: {reason}") from error


def infer_tower_config(store: WeightStore, names: dict[str, str], decoder_heads: Any) -> CLIPVisionConfig:
    """Architecture of a tower from its weights' shapes.

    All but the number of heads follows from the shapes. Every published CLIP has heads of width 64; where the width is
    no multiple of 64 the decoder's number of heads is assumed, with a warning.

    Raises:
        SennaPruneError: the shapes are not those of a CLIP vision model.
    """
    try:
        width, _, patch, _ = store.shape(names["vision_tower.embeddings.patch_embedding.weight"])
        positions = store.shape(names["vision_tower.embeddings.position_embedding.weight"])[0]
        inner = store.shape(names["vision_tower.encoder.layers.0.mlp.fc1.weight"])[0]
    except (KeyError, ValueError, IndexError) as error:
        raise SennaPruneError(f"the vision tower inside {store.directory} is incomplete: give its directory with vision_tower=") from error
    indices = [int(match[1]) for name in names if (match := re.match(r"vision_tower\.encoder\.layers\.(\d+)\.", name))]
    if not (indices and width and patch and positions > 1):
        raise SennaPruneError(f"the vision tower inside {store.directory} is incomplete: give its directory with vision_tower=")
    heads = width // 64
    if width % 64:
        heads = decoder_heads if isinstance(decoder_heads, int) else 0
        logger.warning(
            f"the vision tower inside {store.directory} has no config, and its width {width} is no multiple of 64: "
            f"{heads} heads are assumed; give its directory with vision_tower= to be sure"
        )
    if heads == 0 or width % heads:
        raise SennaPruneError(
            f"cannot tell the number of heads of the vision tower inside {store.directory}: give its directory with vision_tower="
        )
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=max(indices) + 1,
        num_attention_heads=heads,
        image_size=math.isqrt(positions - 1) * patch,
        patch_size=patch,
    )


def _is_clip_directory(directory: Path) -> bool:
    return (directory / "config.json").is_file() and bool(find_weight_files(directory))


def _resolve_configured(name: str, checkpoint: Path) -> Path | None:
    """A CLIP directory for ``config.mm_vision_tower``, or None; never reaches the network.

    A relative name is looked for below the working directory, beside the checkpoint, in it, and in the hub's cache.
    """
    if not name:
        return None
    candidates = [Path(name).expanduser()]
    if not candidates[0].is_absolute():
        candidates += [checkpoint.parent / name, checkpoint / name]
    for candidate in candidates:
        if _is_clip_directory(candidate):
            return candidate.resolve()
    if is_hub_id(name):
        from huggingface_hub import snapshot_download

        try:
            cached = Path(snapshot_download(name, local_files_only=True))
        except Exception:  # not in the cache, in whatever way the client says so
            return None
        if _is_clip_directory(cached):
            return cached
    return None


def _tower_in_directory(directory: Path, rule: str) -> VisionTower:
    config = read_tower_config(directory)
    store = WeightStore(directory)
    return VisionTower(store, tower_weights(store), config, f"{rule}: {directory.resolve()}", directory)


def choose_tower(values: dict[str, Any], store: WeightStore, vision_tower: Path | None) -> VisionTower:
    """Which vision tower a checkpoint is run with, in the order of spec/senna.md item 3.

    Args:
        values: the original config.
        store: the checkpoint's own weights.
        vision_tower: the user's choice, an existing directory.

    Raises:
        SennaPruneError: there is none, or the chosen one is broken.
    """
    own = tower_weights(store, TOWER_PREFIX)
    configured = str(values.get("mm_vision_tower") or values.get("vision_tower") or "")
    found = _resolve_configured(configured, store.directory)

    def inside(rule: str) -> VisionTower:
        if found is not None:  # the tower it was fine-tuned from is here and says its architecture
            return VisionTower(store, own, read_tower_config(found), f"{rule}: {store.directory}", None)
        config = infer_tower_config(store, own, values.get("num_attention_heads"))
        origin = f"{rule}, {config.num_attention_heads} heads inferred from its shapes: {store.directory}"
        return VisionTower(store, own, config, origin, None)

    if vision_tower is not None:
        return _tower_in_directory(vision_tower, "vision_tower argument")
    if values.get("unfreeze_mm_vision_tower"):
        if not own:
            raise SennaPruneError(
                f"{store.directory} was trained with its own vision tower (unfreeze_mm_vision_tower) "
                "but holds no weights of it: give them with vision_tower="
            )
        return inside("checkpoint's own weights (unfreeze_mm_vision_tower)")
    if found is not None:
        return _tower_in_directory(found, "config's mm_vision_tower")
    if own:
        return inside(f"checkpoint's own weights (mm_vision_tower {configured!r} is not here)")
    raise SennaPruneError(
        f"no vision tower: {store.directory} holds none, and its mm_vision_tower {configured!r} is not here: give vision_tower=DIR"
    )


def convert_config(values: dict[str, Any], store: WeightStore, tower: CLIPVisionConfig) -> SennaConfig:
    """``SennaConfig`` of an original config.

    Raises:
        SennaPruneError: a setting this package does not implement, or no adapter among the weights.
    """
    path = store.directory / "config.json"
    for key, expected in _FIXED.items():
        if values.get(key, expected) != expected:
            raise SennaPruneError(f"{path}: {key} is {values[key]!r}, only {expected!r} is supported")
    first, last = (f"model.img_adapter.adapter.{index}.weight" for index in (0, 4))
    missing = [name for name in (first, last) if name not in store.names()]
    if missing:
        raise SennaPruneError(f"not a Senna checkpoint: {store.directory} lacks {', '.join(missing)}")
    misshaped = [f"{name} is {list(store.shape(name))}" for name in (first, last) if len(store.shape(name)) != 2]
    if misshaped:
        raise SennaPruneError(f"misshaped weights in {store.directory}: {misshaped[0]}, expected a matrix")
    text = _known(LlamaConfig, values)
    for key in ("architectures", "dtype", "transformers_version"):
        text.pop(key, None)
    for key in ("rope_theta", "rope_scaling"):  # the library turns both into rope_parameters
        if values.get(key) is not None:
            text[key] = values[key]
    llama = _build(LlamaConfig, text, path)
    tied = bool(values.get("tie_word_embeddings", False))
    own = {
        "text_config": llama,
        "vision_config": tower,
        "vision_feature_layer": values.get("mm_vision_select_layer", -2),
        "num_visual_tokens": store.shape(last)[0],
        "adapter_hidden_size": store.shape(first)[0],
        "prompt_max_length": values.get("tokenizer_model_max_length") or 2048,
        "tie_word_embeddings": tied,
        "architectures": ["SennaForConditionalGeneration"],  # as save_pretrained writes it: a converted copy is the same model
    }
    config = _build(SennaConfig, own, path)
    check_config(config, path)
    return config
