"""Reading weight files: safetensors or ``pytorch_model*.bin``, single or sharded, one tensor at a time.

Files are data: pickles are read with ``weights_only=True``, and an index may only name files of its own directory.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files import json_files

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        SennaPruneError: the file is missing, truncated, or holds something else.
    """
    value = json_files.read_json(path)
    if not isinstance(value, dict):
        raise SennaPruneError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value


def find_weight_files(directory: Path) -> list[Path]:
    """The weight files of a model directory (safetensors before bin); empty when there are none.

    Raises:
        SennaPruneError: an index is broken, names a missing shard, or points outside the directory.
    """
    for index_name, single_name in zip(_INDEX, _SINGLE, strict=True):
        index = directory / index_name
        if index.is_file():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
                raise SennaPruneError(f"{index} holds no weight_map of file names")
            shards = sorted(set(weight_map.values()))
            for shard in shards:
                if Path(shard).name != shard:
                    raise SennaPruneError(f"{index} names {shard!r}, which is outside its directory")
                if not (directory / shard).is_file():
                    raise SennaPruneError(f"missing weight file: {directory / shard}, named in {index.name}")
            return [directory / shard for shard in shards]
        if (directory / single_name).is_file():
            return [directory / single_name]
    return []


def _load_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickle protocols: such a file is refused, or read all the same
            if zipfile.is_zipfile(path):
                _refuse_compressed(path)
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            else:  # files older than the zip format cannot be mapped
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle raises whatever its opcodes came upon
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SennaPruneError(f"broken or unsafe weight file: {path} ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise SennaPruneError(f"broken weight file: {path} must hold a dict of tensors")
    for name, value in state.items():
        if not _is_plain(value):
            raise SennaPruneError(f"broken weight file: {path}: {name} is no plain tensor with all its numbers")
    return state


def _refuse_compressed(path: Path) -> None:
    """torch stores weights as they are; a compressed member can be a thousand times what the file is."""
    with zipfile.ZipFile(path) as file:
        for member in file.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed")


def _is_plain(value: Tensor) -> bool:
    """Dense, in memory, and with as many numbers in its storage as its shape says."""
    if value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


class WeightStore:
    """The tensors of a model directory by name, read when asked for.

    Raises:
        SennaPruneError: there are no weight files, or one of them is broken.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._sources: dict[str, Any] = {}
        self.files = find_weight_files(directory)
        if not self.files:
            raise SennaPruneError(f"no weights in {directory}: expected model*.safetensors or pytorch_model*.bin")
        for path in self.files:
            if path.suffix == ".safetensors":
                try:
                    handle = safe_open(path, framework="pt", device="cpu")
                except (SafetensorError, OSError, MemoryError) as error:
                    raise SennaPruneError(f"broken weight file: {path} ({error})") from error
                self._sources.update(dict.fromkeys(handle.keys(), handle))
            else:
                self._sources.update(_load_pickle(path))

    def names(self) -> list[str]:
        """All tensor names."""
        return list(self._sources)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor, without reading it."""
        source = self._sources[name]
        return tuple(source.shape) if isinstance(source, Tensor) else tuple(source.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """One tensor, on the CPU. SennaPruneError if its type is unknown here."""
        source = self._sources[name]
        if isinstance(source, Tensor):
            return source
        try:
            return source.get_tensor(name)
        except Exception as error:  # a type that this torch does not have
            raise SennaPruneError(f"broken weight: {name} in {self.directory} cannot be read ({error})") from error
