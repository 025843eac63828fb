"""Which adapter, and which loader: names of built-in families, YAML files, entry points -> a loaded ``DrivingModel``.

A folder is looked into for its ``model_type``; Senna's original layout says none of the stock ones and is Senna.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from senna_autoprune.adapters.model import DrivingModel
from senna_autoprune.adapters.schema import Adapter, adapter_of
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import read_json
from senna_autoprune.files.yaml_files import read_yaml, suggest

SENNA_TYPES = ("senna", "llava_llama")  # ours, and what the original's config.json calls itself
GROUP = "senna_prune.adapters"
FAMILIES = ("senna", "llava", "llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "internvl")


def built_in(name: str) -> Adapter:
    """The adapter of a family as it comes with the package. SennaPruneError: there is none of that name."""
    if name not in FAMILIES:
        raise SennaPruneError(f"no built-in adapter {name!r}{suggest(name, FAMILIES)}")
    text = files(__package__).joinpath("builtin", f"{name}.yaml").read_text(encoding="utf-8")
    return adapter_of(yaml.safe_load(text), f"the built-in adapter {name}")


def python_adapters() -> dict[str, Any]:
    """Entry points of the group ``senna_prune.adapters`` by name; none is imported here."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load_adapter(named: str) -> Adapter:
    """An adapter by its YAML file's path, or a built-in family's name.

    Raises:
        SennaPruneError: neither; or the file is no valid adapter (names file and key).
    """
    if named in FAMILIES:
        return built_in(named)
    path = Path(named)
    if path.is_file():
        return adapter_of({"name": path.stem, **read_yaml(path)}, str(path))
    known = [*FAMILIES, *python_adapters()]
    raise SennaPruneError(f"adapter {named!r} is neither a YAML file nor a known name{suggest(named, known)}")


def family_of(model: str) -> str | None:
    """The ``model_type`` of a checkpoint folder, "senna" for Senna's original layout; None where the folder does not say (or a hub id)."""
    folder = Path(model)
    if (folder / "adapter_config.json").is_file():
        from senna_autoprune.senna.lora import base_of

        folder = base_of(folder) or folder
    config = folder / "config.json"
    if not config.is_file():
        return None
    values = read_json(config)
    if not isinstance(values, dict):
        raise SennaPruneError(f"{config} is not a JSON object")
    kind = values.get("model_type")
    if "mm_vision_tower" in values or kind in SENNA_TYPES:
        return "senna"
    return kind if isinstance(kind, str) else None


def adapter_for(model: str | None, adapter: Adapter | str | None) -> Adapter | None:
    """The adapter of a checkpoint as far as it is known before it is loaded: of a YAML file, a built-in one, or what a Python adapter
    says in its attribute ``adapter``; None: nothing is known.

    Raises:
        SennaPruneError: as ``open_model``.
    """
    found = family_of(model) if model is not None else None
    if isinstance(adapter, str) and (python := _python(adapter)) is not None:
        own = getattr(_imported(adapter, python), "adapter", None)
        return own if isinstance(own, Adapter) else None
    if adapter is None and found is not None and found not in FAMILIES:
        raise SennaPruneError(
            f"{model} is of the family {found!r}, for which no adapter is built in (there are {', '.join(FAMILIES)}): "
            "write a YAML file of some lines and name it as the adapter"
        )
    chosen = load_adapter(adapter) if isinstance(adapter, str) else adapter
    if chosen is None:
        chosen = built_in(found if found in FAMILIES else "senna")
    wanted = chosen.family or found or "senna"
    if found is not None and wanted != found:
        raise SennaPruneError(f"the adapter {chosen.name} is for {wanted}, but {model} is of the family {found}")
    return chosen


def open_model(
    model: str,
    adapter: Adapter | str | None = None,
    *,
    vision_tower: str | None = None,
    dtype: str = "float32",
    device: str | None = "cpu",
    prompt_template: str = "eval",
    attn_implementation: str | None = None,
) -> DrivingModel:
    """Load a checkpoint with its adapter.

    Args:
        model: folder or hub id.
        adapter: an ``Adapter``, a YAML file, a built-in family's name, an entry point's name, or ``package.module:attribute`` of a
            Python adapter; None: by the checkpoint's
            ``model_type`` (a hub id that is in no local folder is Senna, as ever, unless an adapter says otherwise).
        vision_tower, prompt_template: Senna's alone.
    Raises:
        SennaPruneError: no such checkpoint, or a broken one; no adapter fits; an adapter for another family.
    """
    found = family_of(model)
    if isinstance(adapter, str) and (python := _python(adapter)) is not None:
        return _from_python(adapter, python, model, dtype=dtype, device=device)
    chosen = adapter_for(model, adapter)
    assert chosen is not None
    wanted = chosen.family or found or "senna"
    if wanted == "senna":
        from senna_autoprune.adapters.senna import SennaModel
        from senna_autoprune.senna import load_senna

        attention = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
        return SennaModel(load_senna(model, vision_tower, dtype, "cpu" if device is None else device, **attention), chosen, prompt_template)
    if vision_tower is not None:
        raise SennaPruneError(f"a vision tower of its own is Senna's: {model} ({wanted}) brings its tower along")
    if prompt_template != "eval":
        raise SennaPruneError(f"the prompt template {prompt_template!r} is Senna's: {model} ({wanted}) is asked by its chat template")
    from senna_autoprune.adapters.checkpoint import load_checkpoint
    from senna_autoprune.adapters.stock import StockModel

    return StockModel(load_checkpoint(model, None, dtype, device, attn_implementation), chosen)


def is_program(named: str) -> bool:
    """Whether an adapter is named by its place in Python, and by no installed package: what opens it imports it."""
    return _python(named) == named


def _python(named: str) -> str | None:
    """``package.module:attribute`` of a Python adapter; None: ``named`` is a file or a built-in family, or nothing of the kind."""
    if named in FAMILIES or Path(named).is_file():
        return None
    entry = python_adapters().get(named)
    if entry is not None:
        return str(entry.value)
    module, _, attribute = named.partition(":")
    return named if attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")) else None


def _imported(named: str, python: str) -> Any:
    """What ``package.module:attribute`` is. SennaPruneError: it cannot be imported."""
    module, _, attribute = python.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # code of somebody else: any fault of it is named as its own
        raise SennaPruneError(f"the adapter {named} ({python}) cannot be imported: {type(error).__name__}: {error}") from error


def _from_python(named: str, python: str, model: str, **place: Any) -> DrivingModel:
    """``attribute(model, dtype=..., device=...)``. SennaPruneError: it fails, or does not give a model."""
    load = _imported(named, python)
    try:
        made = load(model, **place)
    except SennaPruneError:
        raise
    except Exception as error:
        raise SennaPruneError(f"the adapter {named} ({python}) failed: {type(error).__name__}: {error}") from error
    needed = ("adapter", "model", "processor", "provenance", "vocabulary", "identity", "see", "prepare", "new_tokens", "generate", "answer")
    missing = [name for name in needed if not hasattr(made, name)]
    if missing:
        raise SennaPruneError(f"the adapter {named} ({python}) made {type(made).__name__}, which has no {missing[0]}")
    made.provenance["adapter"] = python  # its code is hashed, see ``adapters.code``
    return made  # type: ignore[no-any-return]
