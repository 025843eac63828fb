"""The model plug-in ``senna_prune_llava`` of lmms-eval (setup.cfg registers ``manifest`` under ``lmms_eval.models``).

    python -m lmms_eval --model senna_prune_llava --model_args pretrained=DIR,method=autoprune,tokens=64 --tasks mme

lmms-eval is an optional extra, ``[lmms]``; nothing else in this package imports it. Arguments: ``SennaPruneLlava`` in model.py.
"""

from __future__ import annotations

from typing import Any

MODEL_ID = "senna_prune_llava"


def manifest() -> Any:
    """What lmms-eval's registry asks of an entry point: a ``ModelManifest``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(MODEL_ID, simple_class_path="senna_autoprune.lmms.model.SennaPruneLlava")
