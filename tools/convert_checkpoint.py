"""Convert an original Senna checkpoint to our save_pretrained layout: one folder that needs no vision tower beside it.

    python tools/convert_checkpoint.py /models/Senna /models/senna-prune --vision-tower /models/clip-vit-large-patch14-336

What was written is loaded again and compared with the original, weight by weight, before OUT appears.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from senna_autoprune import SennaPruneError, load_senna
from senna_autoprune.evaluation.answering.provenance import model_fingerprint


def main(arguments: list[str] | None = None) -> None:
    """SennaPruneError: no Senna checkpoint, OUT is taken or cannot be written, or what was written is not what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder in the original layout (config.json with mm_* keys), or hub id")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--vision-tower", help="CLIP folder to put in; by default the one that load_senna chooses, and names")
    parser.add_argument(
        "--dtype",
        default="float32",
        help="of the copy: float32 (default) is exact for every checkpoint; bfloat16 or float16 halve it, exact if the original is so",
    )
    options = parser.parse_args(arguments)

    out, part = options.out, options.out.with_name(f".{options.out.name}.part")
    if out.exists():
        raise SennaPruneError(f"{out} exists: name a folder that does not")
    senna = load_senna(options.checkpoint, options.vision_tower, options.dtype)
    fingerprint = model_fingerprint(senna)
    print(f"vision tower: {senna.provenance['vision_tower']}")
    try:
        part.mkdir(parents=True)
        senna.model.save_pretrained(part)
        senna.processor.save_pretrained(part)
        del senna  # one copy in memory at a time
        if model_fingerprint(load_senna(part, dtype=options.dtype)) != fingerprint:
            raise SennaPruneError(f"the copy of {options.checkpoint} differs from it: please report this")
        part.rename(out)
    except OSError as error:
        raise SennaPruneError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{out}: weights {fingerprint['weights_sha256'][:16]}, read back identical ({options.dtype})")


if __name__ == "__main__":
    try:
        main()
    except SennaPruneError as error:
        sys.exit(f"error: {error}")
