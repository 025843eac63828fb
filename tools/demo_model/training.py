"""The two stages of senna-mini's training: the tower learns what each patch shows, then everything learns to answer.

The schedule is counted in steps, and every random draw depends on (seed, stage, step, process) only: a run that was
killed and goes on from its last checkpoint ends in the same weights as one that was not.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from demo_model.keyframes import KeyframeData, normalise
from demo_model.mini import EXTRA_QUESTIONS, VISION_WIDTH, extra_answer, kept_patches, plan_question
from demo_model.packing import EXTRAS, VIEW_TOKENS, Packing, decoder_pass, tower_patches
from demo_world.facts import RELATIONS
from demo_world.meshes import CLASS_ID, CLASSES
from senna_autoprune.senna.modeling import SennaForConditionalGeneration

log = logging.getLogger("senna-mini")
VIEWS = 6
TOWN, ROAD = ("signal", "walker", "brake_lights", "ahead"), ("ahead", "left", "right")
CLASS_WEIGHTS = (0.3, 0.3, 0.3, 0.7, 0.5, 1.0, 1.5, 0.7, 2.0, 2.0, 2.5, 2.0, 2.0, 2.5)  # per class of CLASSES
RELATION_WEIGHTS = (0.15, 2.0, 1.0, 2.0, 2.0, 2.5, 0.7)
VALIDATION = 300  # last keyframes of the last part, never trained on
TOWER, DECODER = 1, 2  # stages, as they enter the seeds
SAVE_EVERY = 50  # steps


class Team:
    """Processes of one thread each that train the same weights on different keyframes and average their gradients.

    On a shared machine this is much faster than threads: these meet once a step, threads at every operation.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def average(self, parameters: list[nn.Parameter]) -> None:
        """Gradients become their mean over the team."""
        if self.size == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([g.flatten() for g in grads])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)

    def mean(self, value: float) -> float:
        if self.size == 1:
            return value
        number = torch.tensor([value], dtype=torch.float64)
        torch.distributed.all_reduce(number)
        return float(number) / self.size


def patch_heads() -> nn.ModuleList:
    """Class and relation of a patch from its features."""
    return nn.ModuleList([nn.Linear(VISION_WIDTH, len(CLASSES)), nn.Linear(VISION_WIDTH, len(RELATIONS))])


def optimizers_for(
    parameters: list[nn.Parameter], matrices: list[nn.Parameter], lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for the rest."""
    inner = {id(p) for p in matrices}
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    rest = [p for p in parameters if id(p) not in inner]
    return [muon, torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))]


def write_state(state: dict[str, Any], file: Path) -> None:
    """At once (rename): a killed run leaves the checkpoint before."""
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


class TowerTrainer:
    """Stage 1: dense patch labels, class (14) and what the thing is to the ego's decision (7), on three views a keyframe."""

    def __init__(
        self, model: SennaForConditionalGeneration, heads: nn.ModuleList, data: KeyframeData, run: Path, seed: int, team: Team
    ) -> None:
        self.tower, self.heads, self.data, self.seed, self.team = model.vision_tower, heads, data, seed, team
        self.file = run / "tower_state.pt"
        self.parameters = [*self.tower.parameters(), *heads.parameters()]
        matrices = [p for p in self.tower.encoder.layers[:-1].parameters() if p.ndim == 2]  # type: ignore[union-attr]
        self.optimizers = optimizers_for(self.parameters, matrices, 2e-3, 0.01)
        self.step = 0

    def run(self, steps: int, batch: int) -> None:
        """Train until ``steps`` are done in all; ``batch`` keyframes a step over the whole team."""
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            self.tower.load_state_dict(state["tower"])
            self.heads.load_state_dict(state["heads"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step = state["step"]
        start, first = time.time(), self.step
        while self.step < steps:
            for group in (g for optimizer in self.optimizers for g in optimizer.param_groups):
                group["lr"] = 2e-3 * min(1.0, (self.step + 1) / 50) * max(0.02, 1 - self.step / steps) ** 0.8
            loss, objects = self._learn(batch)
            self.step += 1
            if self.step % 25 == 0 and self.team.rank == 0:
                seconds = (time.time() - start) / (self.step - first)
                log.info("tower step %d of %d, %.2f s a step, loss %.3f objects %.3f", self.step, steps, seconds, loss, objects)
            if (self.step % SAVE_EVERY == 0 or self.step == steps) and self.team.rank == 0:
                write_state(
                    {
                        "tower": self.tower.state_dict(),
                        "heads": self.heads.state_dict(),
                        "optimizers": [o.state_dict() for o in self.optimizers],
                        "step": self.step,
                    },
                    self.file,
                )

    def _learn(self, batch: int) -> tuple[float, float]:
        """One step: its loss, and the share of object patches named rightly."""
        rng = np.random.default_rng((self.seed, TOWER, self.step))  # the same draw in the whole team
        rows = rng.choice(self.data.count() - VALIDATION, batch, replace=False)
        views = np.stack([np.concatenate([[0], rng.choice(np.arange(1, VIEWS), 2, replace=False)]) for _ in rows])
        mine = list(zip(rows, views, strict=True))[self.team.rank :: self.team.size]
        pixels = normalise(np.concatenate([self.data.images(r)[v] for r, v in mine]))
        classes = torch.from_numpy(np.concatenate([self.data.classes(r)[v] for r, v in mine])).long()
        relations = torch.from_numpy(np.concatenate([self.data.relations(r)[v] for r, v in mine])).long()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            patches = tower_patches(self.tower, pixels)[:, kept_patches()]
        said, loss = patch_loss(self.heads, patches, classes, relations)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.team.average(self.parameters)
        nn.utils.clip_grad_norm_([p for p in self.parameters if p.grad is not None], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item(), float((said.argmax(-1) == classes)[classes >= CLASS_ID["car"]].float().mean())


def patch_loss(heads: nn.ModuleList, patches: Tensor, classes: Tensor, relations: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the class, and the cross-entropy of class and relation of each patch."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said, related = heads[0](patches).float(), heads[1](patches).float()
    loss = F.cross_entropy(said.flatten(0, -2), classes.flatten(), torch.tensor(CLASS_WEIGHTS))
    return said, loss + F.cross_entropy(related.flatten(0, -2), relations.flatten(), torch.tensor(RELATION_WEIGHTS))


class DecoderTrainer:
    """Stage 2: tower, projector and decoder together; the tower goes on learning its patch labels beside the questions."""

    def __init__(
        self,
        model: SennaForConditionalGeneration,
        heads: nn.ModuleList,
        tokenizer: PreTrainedTokenizerBase,
        data: KeyframeData,
        run: Path,
        seed: int,
        team: Team,
    ) -> None:
        self.model, self.heads, self.data, self.seed, self.team = model, heads, data, seed, team
        self.file = run / "decoder_state.pt"
        self.packings = {name: Packing(tokenizer, name) for name in ("eval", "train")}
        self.rng = np.random.default_rng(seed)
        self.step = 0
        self._branches: dict = {}
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))
        tower, layers = model.vision_tower, model.get_decoder().layers
        seen_layers: list[nn.Parameter] = [p for layer in tower.encoder.layers[:-1] for p in layer.parameters()]  # type: ignore[union-attr]
        before = [*tower.embeddings.parameters(), *tower.pre_layrnorm.parameters()]
        self.tower = [*seen_layers, *before, *heads.parameters()]
        self.decoder = [
            *layers.parameters(),
            *model.mm_projector.parameters(),
            model.get_decoder().embed_tokens.weight,
            model.get_decoder().norm.weight,
            model.lm_head.weight,
        ]
        self.base_lr = (2e-3, 2e-3, 1e-3, 1e-3)
        self.optimizers = [
            *optimizers_for(self.decoder, [p for p in layers.parameters() if p.ndim == 2], 2e-3, 0.0),
            *optimizers_for(self.tower, [p for p in seen_layers if p.ndim == 2], 1e-3, 0.0),
        ]

    def _branch(self, packing: Packing, question: str, answer: str, length: int) -> tuple[list[int], list[int]]:
        key = (packing.template, question, answer)
        if key not in self._branches:
            self._branches[key] = packing.branch(question, answer, length)
        return self._branches[key]

    def _questions(self, packing: Packing, row: dict) -> tuple[list[int], list[int]]:
        ids, labels = map(
            list, self._branch(packing, plan_question(row["speed"], row["command"]), row["answer"] + "\n", packing.branches[0])
        )
        about = list(ROAD if row["family"] == "fast road" else TOWN)
        if self.rng.random() < 0.2:
            about[int(self.rng.integers(len(about)))] = str(self.rng.choice(["night", "rain"]))
        for name in self.rng.permutation(about)[:EXTRAS]:
            more_ids, more_labels = self._branch(packing, EXTRA_QUESTIONS[name], extra_answer(name, row), packing.branches[1])
            ids += more_ids
            labels += more_labels
        return ids, labels

    def batch(self, rows: np.ndarray, keep: int, template: str) -> tuple[Tensor, ...]:
        """Pixels (6 B, 3, 224, 224), kept visual tokens (B, K), branch ids and labels (B, M)."""
        packing = self.packings[template]
        asked = [self._questions(packing, self.data.rows[r]) for r in rows]
        kept = np.tile(np.arange(VIEWS * VIEW_TOKENS), (len(rows), 1))
        if keep < VIEWS * VIEW_TOKENS:
            kept = np.stack([self._choose(r, keep) for r in rows])
        return (
            normalise(np.concatenate([self.data.images(r) for r in rows])),
            torch.from_numpy(kept),
            torch.tensor([ids for ids, _ in asked]),
            torch.tensor([labels for _, labels in asked]),
        )

    def _choose(self, row: int, keep: int) -> np.ndarray:
        """(keep,) visual tokens in order: those that show a thing first, then others at random."""
        shown = self.data.classes(row).reshape(-1)
        important = (shown >= CLASS_ID["car"]).astype(np.float32) + 0.3 * (shown == CLASS_ID["rail"])
        score = important + self.rng.random(len(shown)) * 0.99
        return np.sort(np.argpartition(-score, keep)[:keep])

    def forward(self, pixels: Tensor, kept: Tensor, ids: Tensor, template: str) -> tuple[Tensor, Tensor]:
        """Logits of the branches (B, M, vocabulary), and the patch features (B, 768, c)."""
        packing, model = self.packings[template], self.model
        positions, mask = packing.layout(kept)
        patches = tower_patches(model.vision_tower, pixels)[:, kept_patches()].reshape(len(kept), VIEWS * VIEW_TOKENS, -1)
        shown = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[-1]))  # (B, K, c)
        visual = model.mm_projector(shown)
        embed = model.get_decoder().embed_tokens
        text = embed(packing.text).expand(len(kept), -1, -1)
        x = torch.cat([text, visual.to(text.dtype), embed(ids)], 1)
        hidden = decoder_pass(model.get_decoder(), x.to(visual.dtype), positions, mask)
        return model.lm_head(hidden[:, -ids.shape[1] :]), patches

    def loss(self, logits: Tensor, labels: Tensor, template: str) -> tuple[Tensor, Tensor]:
        """Mean answer loss of plan and of extra questions."""
        plan = self.packings[template].branches[0]
        flat = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none")
        flat = flat.view(len(labels), -1)
        counts = labels[:, 1:] != -100
        of_plan, of_extra = flat[:, : plan - 1].sum() / counts[:, : plan - 1].sum(), flat[:, plan - 1 :].sum() / counts[:, plan - 1 :].sum()
        return of_plan, of_extra

    def _rows(self, batch: int) -> np.ndarray:
        """Keyframes of this step: one permutation of the training keyframes after another."""
        n = self.data.count() - VALIDATION
        epoch, at = divmod(self.step * batch, n - n % batch)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, DECODER, epoch)).permutation(n))
        return self._order[1][at : at + batch]

    def run(self, steps: int, batch: int, short_share: float, short_keep: int) -> None:
        """Train until ``steps`` are done in all; ``batch`` keyframes a step over the whole team.

        The first ``short_share`` of the steps sees ``short_keep`` of the visual tokens: few tokens are cheap and teach what
        matters; then 384 and all 768 in turn, and all of them at the end: that teaches to find it.
        """
        self.resume()
        history: list[tuple[float, ...]] = []
        start, first, team = time.time(), self.step, self.team
        while self.step < steps:
            progress = self.step / steps
            mixed = 384 if self.step % 2 and progress < 0.85 else VIEWS * VIEW_TOKENS
            keep = short_keep if progress < short_share else mixed
            warm = min(1.0, (self.step + 1) / 100)
            for optimizer, lr in zip(self.optimizers, self.base_lr, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = lr * warm * min(1.0, max(0.02, (1 - progress) / 0.5))
            history.append(self._learn(self._rows(batch), keep))
            self.step += 1
            if self.step % 25 == 0 and team.rank == 0:
                seconds = (time.time() - start) / (self.step - first)
                means = np.mean(history[-25:], 0)
                log.info(
                    "decoder step %d of %d, %.2f s a step, keep %d plan %.3f extra %.3f patches %.3f exact %.3f",
                    *(self.step, steps, seconds, keep, *means),
                )
            if (self.step % SAVE_EVERY == 0 or self.step == steps) and team.rank == 0:
                self.save()
            if self.step % 200 == 0 or self.step == steps:
                exact = self.validate(VALIDATION if self.step == steps else 96)
                if team.rank == 0:
                    log.info("validation on held-out keyframes, all tokens: exact %.3f", exact)

    def _learn(self, rows: np.ndarray, keep: int) -> tuple[float, ...]:
        """One step on this process's share of the rows: losses of plan, extras and patches, exact share."""
        rows = rows[self.team.rank :: self.team.size]
        self.rng = np.random.default_rng((self.seed, DECODER, self.step, self.team.rank))
        template = "eval" if self.step % 7 else "train"
        pixels, kept, ids, labels = self.batch(rows, keep, template)
        classes = torch.from_numpy(np.stack([self.data.classes(r).reshape(-1) for r in rows])).long()
        relations = torch.from_numpy(np.stack([self.data.relations(r).reshape(-1) for r in rows])).long()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, patches = self.forward(pixels, kept, ids, template)
        of_patches = patch_loss(self.heads, patches, classes, relations)[1]
        of_plan, of_extra = self.loss(logits, labels, template)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (of_plan + of_extra + 0.5 * of_patches).backward()
        self.team.average([*self.decoder, *self.tower])
        for weights in (self.decoder, self.tower):
            nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return of_plan.item(), of_extra.item(), of_patches.item(), self._exact(logits, labels, template)

    def _exact(self, logits: Tensor, labels: Tensor, template: str) -> float:
        """Share of plan answers whose every token is right (given the true ones before it)."""
        plan = self.packings[template].branches[0]
        said, meant = logits[:, : plan - 1].argmax(-1), labels[:, 1:plan]
        return float(((said == meant) | (meant == -100)).all(1).float().mean())

    @torch.no_grad()
    def validate(self, count: int) -> float:
        """Exact plan accuracy on held-out keyframes with all visual tokens, given the true tokens before each."""
        self.rng = np.random.default_rng(self.seed)
        rows = np.arange(self.data.count() - VALIDATION, self.data.count())[:count][self.team.rank :: self.team.size]
        right = []
        for first in range(0, len(rows), 8):
            pixels, kept, ids, labels = self.batch(rows[first : first + 8], VIEWS * VIEW_TOKENS, "eval")
            with torch.autocast("cpu", dtype=torch.bfloat16):
                right.append(self._exact(self.forward(pixels, kept, ids, "eval")[0], labels, "eval") * len(labels))
        return self.team.mean(sum(right) / len(rows))

    def _parts(self) -> dict[str, nn.Module]:
        model = self.model
        return {
            "decoder": model.get_decoder(),
            "tower": model.vision_tower,
            "heads": self.heads,
            "projector": model.mm_projector,
            "lm_head": model.lm_head,
        }

    def save(self) -> None:
        """A checkpoint: weights, optimizers, step."""
        weights = {name: part.state_dict() for name, part in self._parts().items()}
        write_state({**weights, "optimizers": [o.state_dict() for o in self.optimizers], "step": self.step}, self.file)

    def resume(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        if not self.file.exists():
            return
        state = torch.load(self.file, weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]
