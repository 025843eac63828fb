"""Train senna-mini, the embedded model, from nothing: training scenes, tokenizer, vision tower, decoder, export.

    python tools/train_senna_mini.py --out RUN
    (again: it goes on from the last checkpoint in RUN, and ends in the same weights)

Stages. (0) Training keyframes are rendered (two processes; 6 GB). (1) The tower learns what each patch shows (labels from the
renderer). (2) Tower and decoder learn questions of all six types and short ones about the same scene, packed into one sequence
with a block mask: eight layers first, then all 32; a part of the visual tokens first, then all 768. (3) Export to RUN/model:
fp16 weights in our save_pretrained layout. The adapter hands the picture's 128 whole patches on unchanged
(``demo_model.mini.initialise``) and is not trained.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from demo_model.keyframes import KeyframeData
from demo_model.mini import build_config, initialise, train_tokenizer
from demo_model.team import Team
from demo_model.training import DecoderTrainer, Schedule, TowerTrainer, patch_heads
from demo_world.make_training_data import whole
from senna_autoprune.files.lock import RunLock
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.tokenization import load_sentencepiece

log = logging.getLogger("senna-mini")
FIRST_SEED, SEEDS_A_PART, KEYFRAMES_A_PART = 1_000_000, 10_000, 1000


def render(folder: Path, parts: int, processes: int) -> None:
    """Training keyframes in parts, each written by a process of its own, ``processes`` at once; whole parts are left alone."""
    script = Path(__file__).parents[1] / "make_training_data.py"

    def one(part: int) -> int:
        words = ("--out", folder, "--part", part, "--keyframes", KEYFRAMES_A_PART, "--first-seed", FIRST_SEED + part * SEEDS_A_PART)
        return subprocess.run([sys.executable, str(script), *map(str, words)]).returncode

    todo = [part for part in range(parts) if not whole(folder / f"part{part:03d}", KEYFRAMES_A_PART)]
    with ThreadPoolExecutor(processes) as pool:
        if any(pool.map(one, todo)):
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
    parser.add_argument("--parts", type=int, default=12, help=f"of {KEYFRAMES_A_PART} training keyframes each")
    parser.add_argument("--tower-steps", type=int, default=400)
    parser.add_argument("--decoder-steps", type=int, default=1650)
    parser.add_argument("--batch", type=int, default=16, help="keyframes a step, over all processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    options = parser.parse_args()
    options.data = options.data or options.out / "data"
    options.out.mkdir(parents=True, exist_ok=True)
    with RunLock(options.out):  # two trainings in one folder would share its checkpoints
        (options.out / "meeting").unlink(missing_ok=True)
        render(options.data, options.parts, options.processes)
        torch.multiprocessing.spawn(worker, (options,), options.processes)


def worker(rank: int, options: argparse.Namespace) -> None:
    """One process of the team; one thread each."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # sent when the parent dies; a shell's background job inherits it as ignored
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
    data = KeyframeData(options.data, options.parts)
    model, heads = SennaForConditionalGeneration(build_config(len(tokenizer))), patch_heads()
    initialise(model)
    TowerTrainer(model, heads, data, options.out, options.seed, team).run(options.tower_steps, options.batch)
    trainer = DecoderTrainer(model, heads, tokenizer, data, options.out, options.seed, team)
    trainer.run(Schedule(options.decoder_steps, options.batch))
    if rank == 0:
        export(model, tokenizer_file, options.out / "model")
        log.info("done in %.0f min since this call began; the model is in %s", (time.time() - start) / 60, options.out / "model")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
