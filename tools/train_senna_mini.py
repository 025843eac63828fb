"""Train senna-mini, the embedded model, on the demo world: tokenizer, vision tower, features, decoder, export.

    for part in 0 1; do python tools/make_training_data.py --out DATA --part $part --first-seed $((1000000 + part * 1000000)) & done; wait
    python tools/train_senna_mini.py --data DATA --out RUN --minutes-tower 12 --minutes-decoder 70
    (again: it goes on from the last checkpoint in RUN)

Stages. (1) The tower learns what each patch shows (labels from the renderer). (2) Its features of all keyframes are
stored once. (3) The decoder learns the plan answer and short questions about the same scene, packed into one sequence
with a block mask, first on a part of the visual tokens (all that show something, and some that do not), then on all
768. (4) Export: fp16 weights in our save_pretrained layout. The adapter hands the picture's 128 whole patches on
unchanged (``senna_autoprune.demo.mini.initialise``).
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from senna_autoprune.demo.facts import RELATIONS
from senna_autoprune.demo.meshes import CLASSES
from senna_autoprune.demo.mini import VISION_WIDTH, build_config, initialise, kept_patches, train_tokenizer
from senna_autoprune.demo.training import CLASS_WEIGHTS, RELATION_WEIGHTS, DecoderTrainer, KeyframeData, Team, normalise, tower_patches
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.tokenization import load_sentencepiece

log = logging.getLogger("senna-mini")


def patch_heads() -> nn.ModuleList:
    """Class and relation of a patch from its features."""
    return nn.ModuleList([nn.Linear(VISION_WIDTH, len(CLASSES)), nn.Linear(VISION_WIDTH, len(RELATIONS))])


def train_tower(model: SennaForConditionalGeneration, data: KeyframeData, run: Path, minutes: float, seed: int) -> None:
    """Dense patch labels: class (14) and what the thing is to the ego's decision (7); about 64 views a step."""
    heads = patch_heads()
    tower = model.vision_tower
    parameters = [*tower.parameters(), *heads.parameters()]
    matrices = [p for p in tower.encoder.layers[:-1].parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    optimizers = [
        torch.optim.Muon(matrices, lr=2e-3, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([p for p in parameters if id(p) not in known], lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98)),
    ]
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    weights, relation_weights = torch.tensor(CLASS_WEIGHTS), torch.tensor(RELATION_WEIGHTS)
    start, state_file = time.time(), run / "tower_state.pt"
    step, spent = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        tower.load_state_dict(state["tower"])
        heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent = state["step"], state["spent"]
    running: list[float] = []
    while True:
        elapsed = spent + time.time() - start
        progress = elapsed / (minutes * 60)
        if progress >= 1:
            break
        for group in (g for optimizer in optimizers for g in optimizer.param_groups):
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * max(0.02, 1 - progress) ** 0.8
        rows = rng.choice(data.count(), 16, replace=False)
        views = np.stack([np.concatenate([[0], rng.choice(np.arange(1, 6), 2, replace=False)]) for _ in rows])
        pixels = normalise(np.concatenate([data.images(r)[v] for r, v in zip(rows, views, strict=True)]))
        classes = torch.from_numpy(np.concatenate([data.classes(r)[v] for r, v in zip(rows, views, strict=True)])).long()
        relations = torch.from_numpy(np.concatenate([data.relations(r)[v] for r, v in zip(rows, views, strict=True)])).long()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            patches = tower_patches(tower, pixels)[:, kept_patches()]
            said, related = heads[0](patches).float(), heads[1](patches).float()
        loss = F.cross_entropy(said.flatten(0, 1), classes.flatten(), weights)
        loss = loss + F.cross_entropy(related.flatten(0, 1), relations.flatten(), relation_weights)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        running.append(loss.item())
        if step % 50 == 0:
            seen = classes >= 5
            right = (said.argmax(-1) == classes)[seen].float().mean()
            related_right = (related.argmax(-1) == relations)[relations > 0].float().mean()
            log.info(
                "tower step %d %.1f min loss %.3f objects %.3f relations %.3f",
                step,
                elapsed / 60,
                np.mean(running[-50:]),
                right,
                related_right,
            )
        if step % 200 == 0:
            spent_now = spent + time.time() - start
            torch.save(
                {
                    "tower": tower.state_dict(),
                    "heads": heads.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "step": step,
                    "spent": spent_now,
                },
                state_file,
            )
    torch.save({"tower": tower.state_dict(), "heads": heads.state_dict()}, run / "tower.pt")


def export(model: SennaForConditionalGeneration, tokenizer: Path, out: Path) -> None:
    """Weights in fp16 and everything ``load_senna`` needs."""
    from senna_autoprune.senna.images import SennaImageProcessor
    from senna_autoprune.senna.processing import SennaProcessor

    processor = SennaProcessor(
        SennaImageProcessor(model.config.vision_config.image_size, model.config.vision_config.patch_size), load_sentencepiece(tokenizer)
    )
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    model.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes-tower", type=float, default=12.0)
    parser.add_argument("--minutes-decoder", type=float, default=70.0)
    parser.add_argument("--short-share", type=float, default=0.35, help="share of the decoder's time on a part of the visual tokens")
    parser.add_argument("--batch", type=int, default=16, help="keyframes a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="one thread each; for the decoder")
    parser.add_argument("--only-tower", action="store_true")
    parser.add_argument("--export", type=Path, help="only write the model of the last checkpoint here")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "meeting").unlink(missing_ok=True)
    if options.export or options.only_tower:
        options.processes = 1
    if options.processes == 1:
        worker(0, options)
    else:
        torch.multiprocessing.spawn(worker, (options,), options.processes)


def train(options: argparse.Namespace, team: Team) -> None:
    """All stages; the tower is trained by the first process alone, the decoder by the whole team."""
    torch.manual_seed(options.seed)
    tokenizer_file = options.out / "tokenizer.model"
    if not tokenizer_file.exists():
        train_tokenizer(tokenizer_file)
    tokenizer = load_sentencepiece(tokenizer_file)
    model = SennaForConditionalGeneration(build_config(len(tokenizer)))
    initialise(model)
    data = KeyframeData(options.data)
    if not (options.out / "tower.pt").exists():
        if team.size > 1:
            raise SystemExit("train the tower first: --only-tower")
        train_tower(model, data, options.out, options.minutes_tower, options.seed)
    if options.only_tower:
        return
    state = torch.load(options.out / "tower.pt", weights_only=True)
    model.vision_tower.load_state_dict(state["tower"])
    heads = patch_heads()
    heads.load_state_dict(state["heads"])
    trainer = DecoderTrainer(model, tokenizer, data, options.out, options.seed, team, heads)
    if options.export:
        trainer.resume()
        export(model, tokenizer_file, options.export)
        return
    trainer.run(options.minutes_decoder, options.short_share, options.batch)
    if team.rank == 0:
        export(model, tokenizer_file, options.out / "model")


def worker(rank: int, options: argparse.Namespace) -> None:
    """One process of the team; one thread each."""
    torch.set_num_threads(1)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(options.out / "train.log")],
    )
    if options.processes > 1:
        meeting = options.out / "meeting"
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=options.processes)
    train(options, Team(rank, options.processes))


if __name__ == "__main__":
    main()
