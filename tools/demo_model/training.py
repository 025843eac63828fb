"""The two stages of senna-mini's training: the tower learns what each patch shows, then everything learns to answer.

The schedule is counted in steps, and every random draw depends on (seed, stage, step, process) only: a run that was
killed and goes on from its last checkpoint ends in the same weights as one that was not.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from demo_model.keyframes import KeyframeData, normalise
from demo_model.mini import EXTRA_QUESTIONS, SHALLOW, VISION_WIDTH, extra_answer, kept_patches
from demo_model.muon import Muon
from demo_model.packing import VIEW_TOKENS, Branch, Packing, decoder_pass, tower_patches
from demo_model.team import Team, mixed_precision, write_state
from demo_world.asks import Asked
from demo_world.facts import RELATIONS
from demo_world.meshes import CLASS_ID, CLASSES
from senna_autoprune.senna.modeling import SennaForConditionalGeneration

log = logging.getLogger("senna-mini")
VIEWS = 6
TOWN, ROAD = ("signal", "walker", "brake_lights", "ahead"), ("ahead", "left", "right")
CLASS_WEIGHTS = (0.3, 0.3, 0.3, 0.7, 0.5, 1.0, 1.5, 0.7, 2.0, 2.0, 2.5, 2.0, 2.0, 2.5, 2.5)  # per class of CLASSES
RELATION_WEIGHTS = (0.15, 2.0, 1.0, 2.0, 2.0, 2.5, 0.7)
VALIDATION = 300  # last keyframes of the last part, never trained on
TOWER, DECODER = 1, 2  # stages, as they enter the seeds
SAVE_EVERY = 12  # steps
LEVEL, FALLING = 900, 1150  # the decoder's steps from which its learning rate falls, and falls faster
EXTRAS = 2  # extra questions a keyframe and step
OTHERS = 2  # questions of other types than plan, a keyframe and step
OFTEN = {"vru": 0.3, "motion": 0.3, "light": 0.14, "description": 0.13, "explanation": 0.13}  # how often these
LINE, MOST_OBJECTS = "Object ", 6  # of a motion question
WEIGHTS = {"plan": 1.0, "vru": 1.0, "motion": 1.0, "light": 0.4, "description": 0.6, "explanation": 0.4, "extra": 0.7}
KINDS = tuple(WEIGHTS)


def patch_heads() -> nn.ModuleList:
    """Class and relation of a patch from its features."""
    return nn.ModuleList([nn.Linear(VISION_WIDTH, len(CLASSES)), nn.Linear(VISION_WIDTH, len(RELATIONS))])


def optimizers_for(
    parameters: list[nn.Parameter], matrices: list[nn.Parameter], lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for the rest."""
    inner = {id(p) for p in matrices}
    muon = Muon(matrices, lr=lr, weight_decay=0.01, momentum=0.95)
    rest = [p for p in parameters if id(p) not in inner]
    return [muon, torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))]


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
        with mixed_precision():
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
    with mixed_precision():
        said, related = heads[0](patches).float(), heads[1](patches).float()
    loss = F.cross_entropy(said.flatten(0, -2), classes.flatten(), torch.tensor(CLASS_WEIGHTS))
    return said, loss + F.cross_entropy(related.flatten(0, -2), relations.flatten(), torch.tensor(RELATION_WEIGHTS))


@dataclass
class Batch:
    """Keyframes and their questions. pixels (6 B, 3, 224, 224), kept (B, K); ids, labels and owners (B, M) of the branches."""

    template: str
    pixels: Tensor
    kept: Tensor
    branches: list[list[Branch]]
    ids: Tensor
    labels: Tensor
    owner: Tensor

    def kinds(self) -> Tensor:
        """(B, M) the kind of each token's question, index into ``KINDS``; -1 for padding."""
        table = torch.full((len(self.branches), 1 + max(map(len, self.branches))), -1)
        for row, branches in enumerate(self.branches):
            table[row, 1 : 1 + len(branches)] = torch.tensor([KINDS.index(b.kind) for b in branches])
        return table.gather(1, self.owner)


def _means(history: list[dict[str, float]]) -> str:
    names = sorted({name for row in history for name in row})
    return ", ".join(f"{name} {np.mean([row[name] for row in history if name in row]):.3f}" for name in names)


@dataclass(frozen=True)
class Schedule:
    """The decoder's ``steps``, of ``batch`` keyframes each over the whole team.

    Before step ``shallow``: every ``SHALLOW``-th layer, on ``few`` of the visual tokens, the tower stands still; a third of the price.
    Before ``short``: all layers and the tower, on ``few`` tokens, which teach what matters. Then on ``some`` of them,
    and from ``whole`` on all: that teaches to find it. The tower learns at its full rate for ``joined`` steps, then at a third.
    """

    steps: int = 1650
    batch: int = 16
    shallow: int = 900
    short: int = 1200
    whole: int = 1500
    few: int = 112
    some: int = 256
    joined: int = 72

    def keep(self, step: int) -> int:
        """Visual tokens in a step."""
        if step < self.short:
            return self.few
        return self.some if step < self.whole else VIEWS * VIEW_TOKENS

    def rate(self, step: int) -> float:
        """Of the learning rate: warmed up in 100 steps, level for 800, then down, at last faster."""
        steps, rates = np.minimum((0, 99, LEVEL, FALLING, self.steps), self.steps), (0.01, 1.0, 1.0, 0.8, 0.02)
        return float(np.interp(step, steps, rates))

    def tower_rate(self, step: int) -> float:
        """Of the tower's learning rate: at the full one it goes on forgetting what the decoder reads of it."""
        return self.rate(step) * (1.0 if step < self.shallow + self.joined else 0.3)


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

    def _branches(self, packing: Packing, row: int) -> list[Branch]:
        """Questions of this step about a keyframe: its plan, some of other types, and some extra ones."""
        known, asked = self.data.rows[row], self.data.asked(row)
        by_kind: dict[str, list[Asked]] = {}
        for each in asked:
            if each.answer.count(LINE) <= MOST_OBJECTS:
                by_kind.setdefault(each.kind, []).append(each)
        others = [kind for kind in OFTEN if kind in by_kind]
        often = np.array([OFTEN[kind] for kind in others])
        chosen = []
        for kind in ["plan", *self.rng.choice(others, min(OTHERS, len(others)), replace=False, p=often / often.sum())]:
            pool = by_kind.get(kind, [])
            ahead = [a for a in pool if a.view == "front"]
            pool = ahead if ahead and self.rng.random() < 0.6 else pool
            chosen += [pool[int(self.rng.integers(len(pool)))]] if pool else []
        branches = [packing.branch(a.kind, a.question, a.answer) for a in chosen]
        about = list(ROAD if known["family"] == "fast road" else TOWN)
        if self.rng.random() < 0.2:
            about[int(self.rng.integers(len(about)))] = str(self.rng.choice(["night", "rain"]))
        for name in self.rng.permutation(about)[:EXTRAS]:
            branches.append(packing.branch("extra", EXTRA_QUESTIONS[name], extra_answer(name, known)))
        return branches

    def batch(self, rows: np.ndarray, keep: int, template: str) -> Batch:
        """Keyframes with their questions; ``keep`` of their visual tokens."""
        packing = self.packings[template]
        branches = [self._branches(packing, r) for r in rows]
        kept = np.tile(np.arange(VIEWS * VIEW_TOKENS), (len(rows), 1))
        if keep < VIEWS * VIEW_TOKENS:
            kept = np.stack([self._choose(r, keep) for r in rows])
        pixels = normalise(np.concatenate([self.data.images(r) for r in rows]))
        return Batch(template, pixels, torch.from_numpy(kept), branches, *packing.batch(branches))

    def _choose(self, row: int, keep: int) -> np.ndarray:
        """(keep,) visual tokens in order: those that show a thing first, then others at random."""
        shown = self.data.classes(row).reshape(-1)
        important = (shown >= CLASS_ID["car"]).astype(np.float32) + 0.3 * (shown == CLASS_ID["rail"])
        score = important + self.rng.random(len(shown)) * 0.99
        return np.sort(np.argpartition(-score, keep)[:keep])

    def forward(self, batch: Batch, shallow: bool = False) -> tuple[Tensor, Tensor]:
        """Logits of the branches (B, M, vocabulary), and the patch features (B, 768, c); ``shallow``: without gradients of the tower."""
        packing, model, kept = self.packings[batch.template], self.model, batch.kept
        order, positions, mask = packing.layout(kept, batch.owner)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not shallow):
            patches = tower_patches(model.vision_tower, batch.pixels)[:, kept_patches()].reshape(len(kept), VIEWS * VIEW_TOKENS, -1)
        shown = patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[-1]))  # (B, K, c)
        visual = model.mm_projector(shown)
        embed = model.get_decoder().embed_tokens
        text = embed(packing.text).expand(len(kept), -1, -1)
        prefix = torch.cat([text, visual.to(text.dtype)], 1)  # (B, P, d)
        prefix = prefix.gather(1, order[..., None].expand(-1, -1, prefix.shape[-1]))
        x = torch.cat([prefix, embed(batch.ids)], 1)
        hidden = decoder_pass(model.get_decoder(), x.to(visual.dtype), positions, mask, SHALLOW if shallow else 1)
        return model.lm_head(hidden[:, prefix.shape[1] :]), patches

    def losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Mean answer loss by kind of question."""
        flat = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=-100, reduction="none")
        flat = flat.view(len(batch.labels), -1)
        counted = batch.labels[:, 1:] != -100
        kind = batch.kinds()[:, 1:]
        found = {}
        for number, name in enumerate(KINDS):
            mine = counted & (kind == number)
            if mine.any():
                found[name] = flat[mine].mean()
        return found

    def _rows(self, batch: int) -> np.ndarray:
        """Keyframes of this step: one permutation of the training keyframes after another."""
        n = self.data.count() - VALIDATION
        epoch, at = divmod(self.step * batch, n - n % batch)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, DECODER, epoch)).permutation(n))
        return self._order[1][at : at + batch]

    def run(self, schedule: Schedule) -> None:
        """Train until the schedule's steps are done in all."""
        self.resume()
        history: list[dict[str, float]] = []
        start, first, team, steps = time.time(), self.step, self.team, schedule.steps
        while self.step < steps:
            keep = schedule.keep(self.step)
            rates = (schedule.rate(self.step), schedule.tower_rate(self.step))  # two optimizers each
            for place, (optimizer, lr) in enumerate(zip(self.optimizers, self.base_lr, strict=True)):
                for group in optimizer.param_groups:
                    group["lr"] = lr * rates[place // 2]
            history.append(self._learn(self._rows(schedule.batch), keep, self.step < schedule.shallow))
            self.step += 1
            if self.step % 25 == 0 and team.rank == 0:
                seconds = (time.time() - start) / (self.step - first)
                log.info("decoder step %d of %d, %.2f s a step, keep %d: %s", self.step, steps, seconds, keep, _means(history[-25:]))
            if (self.step % SAVE_EVERY == 0 or self.step == steps) and team.rank == 0:
                self.save()
            if self.step % 200 == 0 or self.step == steps:
                exact = self.validate(VALIDATION if self.step == steps else 96)
                if team.rank == 0:
                    log.info("validation on held-out keyframes, all tokens, exact: %s", _means([exact]))

    def _learn(self, rows: np.ndarray, keep: int, shallow: bool) -> dict[str, float]:
        """One step on this process's share of the rows: losses by kind of question and of patches, exact shares by kind."""
        rows = rows[self.team.rank :: self.team.size]
        self.rng = np.random.default_rng((self.seed, DECODER, self.step, self.team.rank))
        batch = self.batch(rows, keep, "eval" if self.step % 7 else "train")
        classes = torch.from_numpy(np.stack([self.data.classes(r).reshape(-1) for r in rows])).long()
        relations = torch.from_numpy(np.stack([self.data.relations(r).reshape(-1) for r in rows])).long()
        with mixed_precision():
            logits, patches = self.forward(batch, shallow)
        of_patches = patch_loss(self.heads, patches, classes, relations)[1]
        losses = self.losses(logits, batch)
        learning = [self.decoder] if shallow else [self.decoder, self.tower]
        optimizers = self.optimizers[: 2 * len(learning)]  # two each
        for optimizer in optimizers:
            optimizer.zero_grad()
        answers = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        (answers if shallow else answers + 0.5 * of_patches).backward()
        self.team.average([p for weights in learning for p in weights])
        for weights in learning:
            nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        exact = {f"{name} exact": float(np.mean(right)) for name, right in self.exact(logits, batch).items()}
        return {name: loss.item() for name, loss in losses.items()} | {"patches": of_patches.item()} | exact

    def exact(self, logits: Tensor, batch: Batch) -> dict[str, list[bool]]:
        """By kind: for each of its branches, is every token of the answer right (given the true ones before it)?"""
        right = (logits[:, :-1].argmax(-1) == batch.labels[:, 1:]) | (batch.labels[:, 1:] == -100)
        found: dict[str, list[bool]] = {}
        for row, branches in enumerate(batch.branches):
            for number, branch in enumerate(branches, 1):
                found.setdefault(branch.kind, []).append(bool(right[row][batch.owner[row, 1:] == number].all()))
        return found

    @torch.no_grad()
    def validate(self, count: int) -> dict[str, float]:
        """Share of exact answers by kind on held-out keyframes with all visual tokens, given the true tokens before each."""
        self.rng = np.random.default_rng((self.seed, self.team.rank))
        rows = np.arange(self.data.count() - VALIDATION, self.data.count())[:count][self.team.rank :: self.team.size]
        right: dict[str, list[bool]] = {name: [] for name in KINDS}
        for first in range(0, len(rows), 8):
            batch = self.batch(rows[first : first + 8], VIEWS * VIEW_TOKENS, "eval")
            with mixed_precision():
                for name, answers in self.exact(self.forward(batch)[0], batch).items():
                    right[name] += answers
        return {name: self.team.mean(sum(answers)) / max(1e-9, self.team.mean(len(answers))) for name, answers in right.items()}

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
