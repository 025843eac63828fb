"""Write docs/models.md from the tables of the package: which models can be pruned, which not, and why.

python tools/maintain/models_note.py
"""

from __future__ import annotations

from pathlib import Path

from senna_autoprune.pruning.decoder.proven import LOOKAHEAD, PROVEN, REFUSED
from senna_autoprune.pruning.multimodal.families import FAMILIES

NOTE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
HEAD = """# Models: proven, refused

A decoder is pruned because it was proved. A tiny model of its type, pruned, equals a full-length run of the same stock model in which the
dropped tokens are hidden by masks, over prefill and decode steps; and the attention that scores read is the layers' own
(`tests/pruning/decoder/test_proven.py` tries every text model type of transformers). Others are refused by name. `allow_unproven=True`
(`policy(model, allow_unproven=True)`) compares the decoder with its full-length twin first, and refuses it if they differ.

On your own model, kernel and version of transformers:

```bash
senna-prune doctor --model DIR --method autoprune
```

compares a whole pruned answer with its twin, logit by logit, says which methods can act and why others cannot, and exits with 0 only if
nothing but rounding is left. In Python: `senna_autoprune.self_check(model, batch, policy)`. A method that merges tokens has no such twin;
there a probe's cuts are checked on the same model.

This note is made from the tables in the code by `python tools/maintain/models_note.py`, and tested against them.
"""


def note() -> str:
    """The whole note."""
    lines = [HEAD, "## Models that say themselves where their images are", ""]
    lines += ["By `config.model_type`: `senna`, " + ", ".join(f"`{name}`" for name in FAMILIES) + ".", ""]
    lines += ["Any other model with a proven decoder is pruned where its `image_token_id` stands, or where `visual_mask=` says.", ""]
    lines += ["## Proven decoders", "", "Ahead: PyramidDrop, which asks a layer before it runs, can act too.", ""]
    lines += ["| `model_type` of the decoder | ahead | what is special about it |", "|---|---|---|"]
    lines += [f"| `{kind}` | {'yes' if kind in LOOKAHEAD else 'no'} | {special} |" for kind, special in PROVEN.items()]
    lines += ["", "## Refused, whatever is allowed", "", "| `model_type` of the model or its decoder | why |", "|---|---|"]
    reasons: dict[str, list[str]] = {}
    for kind, why in REFUSED.items():
        reasons.setdefault(why, []).append(f"`{kind}`")
    lines += [f"| {', '.join(kinds)} | {why} |" for why, kinds in reasons.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    NOTE.write_text(note(), encoding="utf-8")
