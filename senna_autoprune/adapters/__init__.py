"""Any driving model behind one interface: what is shown, how it is asked, how its answers are read and scored.

from senna_autoprune.adapters import Asked, open_model

model = open_model("my-qwen", "my-qwen.yaml")      # or a built-in family's name, or nothing
asked = Asked("<image>Is the road free?", "other", ("road.jpg",))
prepared = model.prepare(asked, model.see(asked))
print(model.answer(model.generate([prepared], max_new_tokens=32).ids[0]))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel, Generated, Prepared, Seen
    from senna_autoprune.adapters.open import load_adapter, open_model
    from senna_autoprune.adapters.schema import Adapter
    from senna_autoprune.adapters.views import Asked

_WHERE = {
    "Adapter": "schema",
    "Asked": "views",
    "DrivingModel": "model",
    "Generated": "model",
    "Prepared": "model",
    "Seen": "model",
    "load_adapter": "open",
    "open_model": "open",
}

__all__ = ["Adapter", "Asked", "DrivingModel", "Generated", "Prepared", "Seen", "load_adapter", "open_model"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
