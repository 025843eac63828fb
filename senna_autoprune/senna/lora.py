"""What LoRA training leaves that is no checkpoint: an adapter without its base, merged weights under the wrapper's names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from senna_autoprune.errors import SennaPruneError, one_line
from senna_autoprune.files.json_files import read_json

ADAPTER = "adapter_config.json"
WRAPPED = "base_model."  # what PEFT puts before every name
MERGE = "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(OUT)"


def refuse_adapter(directory: Path) -> None:
    """Raise SennaPruneError if the folder holds an adapter alone; it says of which base."""
    if not (directory / ADAPTER).is_file() or any(directory.glob("model*.safetensors")) or any(directory.glob("pytorch_model*.bin")):
        return
    values = read_json(directory / ADAPTER)
    base = values.get("base_model_name_or_path") if isinstance(values, dict) else None
    needs = f"its base {one_line(repr(base))}" if isinstance(base, str) and base else "its base, which it does not name"
    raise SennaPruneError(f"{directory} is a LoRA adapter alone and needs {needs}: merge them ({MERGE}) and give OUT")


def refuse_wrapped(directory: Path, names: Iterable[str]) -> None:
    """Raise SennaPruneError if weights carry the names of a PEFT wrapper."""
    wrapped = [name for name in names if name.startswith(WRAPPED)]
    if wrapped:
        raise SennaPruneError(
            f"unexpected weights in {directory}: {len(wrapped)} names begin with {WRAPPED!r}, the first is {one_line(wrapped[0])}: "
            "they were saved from a PEFT wrapper; save the model that merge_and_unload() returns"
        )
