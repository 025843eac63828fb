"""What a run was made of: hashes of what was really loaded, versions, machine."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna

PACKAGES = ("senna_autoprune", "torch", "transformers")


def versions() -> dict[str, str]:
    """Versions of the packages that answers may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def model_fingerprint(senna: DrivingModel | Senna) -> dict[str, str]:
    """SHA-256 of the weights *as loaded* (names, shapes, dtypes and bytes, the vision tower's included), of the configuration, the
    tokenizer, the processor (image sizes, means, lengths) and the generation's settings: two checkpoints with equal fingerprints
    answer alike, wherever their files came from.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(senna.model.state_dict().items()):
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        weights.update(_bytes_of(tensor))
    config = senna.model.config.to_dict()
    for key in ("_name_or_path", "transformers_version"):
        config.pop(key, None)
    tokenizer = senna.processor.tokenizer
    vocabulary = tokenizer.backend_tokenizer.to_str() if hasattr(tokenizer, "backend_tokenizer") else repr(tokenizer)
    return {
        "weights_sha256": weights.hexdigest(),
        "config_sha256": _sha256(json.dumps(config, sort_keys=True, default=str)),
        "tokenizer_sha256": _sha256(vocabulary),
        "processor_sha256": _sha256(_plain(senna.processor)),
        "generation_config_sha256": _sha256(_plain(senna.model.generation_config)),
    }


_SAID_ONLY = ("name_or_path", "processor_class", "image_processor_type", "transformers_version", "auto_map", "tokenizer")


def _plain(settings: Any) -> str:
    """What a processor or a generation config decides, as text: without names, paths and versions. Empty for one that tells nothing
    (a Python adapter's own).
    """

    def told(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: told(one) for key, one in value.items() if not str(key).startswith("_") and key not in _SAID_ONLY}
        return [told(one) for one in value] if isinstance(value, list | tuple) else value

    plain = getattr(settings, "to_dict", None)
    return json.dumps(told(plain()), sort_keys=True, default=str) if plain is not None else ""


def _bytes_of(tensor: torch.Tensor) -> Any:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def machine(device: str) -> dict[str, Any]:
    """Where the times were measured. Not compared when a run continues."""
    import torch

    found: dict[str, Any] = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if device.startswith("cuda") and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
