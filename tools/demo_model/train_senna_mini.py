"""Train senna-mini, the embedded model, from nothing: training scenes, tokenizer, vision tower, decoder, export.

    python tools/train_senna_mini.py --out RUN
    (again: it goes on from the last checkpoint in RUN, and ends in the same weights)

Stages. (0) Training keyframes are rendered (two processes; 13 GB). (1) The tower learns what each patch shows (labels
from the renderer). (2) Tower and decoder learn the plan answer and short questions about the same scene, packed into one
sequence with a block mask, first on a part of the visual tokens, then on all 768. (3) Export to RUN/model: fp16 weights in
our save_pretrained layout. The adapter hands the picture's 128 whole patches on unchanged
(``demo_model.mini.initialise``) and is not trained.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from pathlib import Path

import torch

from demo_model.keyframes import KeyframeData
from demo_model.mini import build_config, initialise, train_tokenizer
from demo_model.training import DecoderTrainer, Team, TowerTrainer, patch_heads
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.tokenization import load_sentencepiece

log = logging.getLogger("senna-mini")
PARTS, FIRST_SEED, SEEDS_A_PART = 2, 1_000_000, 1_000_000


def render(folder: Path, keyframes: int) -> None:
    """Training keyframes, one process a part; a part that is not whole is made anew."""
    script = Path(__file__).parents[1] / "make_training_data.py"
    running = []
    for part in range(PARTS):
        records = folder / f"part{part}.jsonl"
        if records.exists() and sum(1 for _ in records.open()) == keyframes:
            continue
        words = ("--out", folder, "--part", part, "--keyframes", keyframes, "--first-seed", FIRST_SEED + part * SEEDS_A_PART)
        running.append(subprocess.Popen([sys.executable, str(script), *map(str, words)]))
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit("rendering the training keyframes failed")


def export(model: SennaForConditionalGeneration, tokenizer: Path, out: Path) -> None:
    """Weights in fp16 and everything ``load_senna`` needs."""
    from senna_autoprune.senna.images import SennaImageProcessor
    from senna_autoprune.senna.processing import SennaProcessor

    vision = model.config.vision_config
    processor = SennaProcessor(SennaImageProcessor(vision.image_size, vision.patch_size), load_sentencepiece(tokenizer))
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    model.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, log and the finished model")
    parser.add_argument("--data", type=Path, help="training keyframes; RUN/data if not given, rendered if not there")
    parser.add_argument("--keyframes", type=int, default=13000, help="training keyframes a part (there are two)")
    parser.add_argument("--tower-steps", type=int, default=650)
    parser.add_argument("--decoder-steps", type=int, default=900)
    parser.add_argument("--short-share", type=float, default=0.5, help="share of the decoder's steps on a part of the visual tokens")
    parser.add_argument("--short-keep", type=int, default=112, help="visual tokens in those steps")
    parser.add_argument("--batch", type=int, default=16, help="keyframes a step, over all processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    options = parser.parse_args()
    options.data = options.data or options.out / "data"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "meeting").unlink(missing_ok=True)
    render(options.data, options.keyframes)
    torch.multiprocessing.spawn(worker, (options,), options.processes)


def worker(rank: int, options: argparse.Namespace) -> None:
    """One process of the team; one thread each."""
    torch.set_num_threads(1)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(options.out / "train.log")],
    )
    team = Team(rank, options.processes)
    meeting = options.out.resolve() / "meeting"
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=team.size)
    start = time.time()
    torch.manual_seed(options.seed)  # the same first weights in the whole team
    tokenizer_file = options.out / "tokenizer.model"
    if rank == 0 and not tokenizer_file.exists():
        train_tokenizer(tokenizer_file)
    torch.distributed.barrier()
    tokenizer = load_sentencepiece(tokenizer_file)
    model, heads, data = SennaForConditionalGeneration(build_config(len(tokenizer))), patch_heads(), KeyframeData(options.data)
    initialise(model)
    TowerTrainer(model, heads, data, options.out, options.seed, team).run(options.tower_steps, options.batch)
    trainer = DecoderTrainer(model, heads, tokenizer, data, options.out, options.seed, team)
    trainer.run(options.decoder_steps, options.batch, options.short_share, options.short_keep)
    if rank == 0:
        export(model, tokenizer_file, options.out / "model")
        log.info("done in %.0f min since this call began; the model is in %s", (time.time() - start) / 60, options.out / "model")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
