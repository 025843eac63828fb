"""Parts of the trainer of senna-mini: keyframes on disk, fast passes through tower and decoder, packed questions.

The passes repeat the stock modules' arithmetic on their own weights (tests/demo/test_training.py holds them equal),
without what training on a CPU does not need.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlamaModel, PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from senna_autoprune.demo.meshes import CLASS_ID
from senna_autoprune.demo.mini import EXTRA_QUESTIONS, IMAGE_SIZE, extra_answer, kept_patches, plan_question
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.prompts import build_prompt, split_at_images

log = logging.getLogger("senna-mini")
VIEWS, VIEW_TOKENS = 6, 128
EXTRAS = 3  # extra questions a keyframe and step
TOWN, ROAD = ("signal", "walker", "brake_lights", "ahead"), ("ahead", "left", "right")
CLASS_WEIGHTS = (0.3, 0.3, 0.3, 0.7, 0.5, 1.0, 1.5, 0.7, 2.0, 2.0, 2.5, 2.0, 2.0, 2.5)  # per class of CLASSES
RELATION_WEIGHTS = (0.15, 2.0, 1.0, 2.0, 2.0, 2.5, 0.7)
VALIDATION = 300  # last keyframes of the last part, never trained on


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


class KeyframeData:
    """The arrays that ``tools/make_training_data.py`` wrote, all parts as one list."""

    def __init__(self, folder: Path) -> None:
        self._parts = []
        self.rows: list[dict] = []
        for records in sorted(folder.glob("part*.jsonl")):
            lines = [line for line in records.read_text().split("\n") if line.endswith("}")]
            base = str(records.with_suffix(""))
            arrays = [np.load(f"{base}.{kind}.npy", mmap_mode="r") for kind in ("images", "classes", "relations")]
            self._parts.append((len(self.rows), arrays))
            self.rows += [json.loads(line) for line in lines]
        if not self.rows:
            raise FileNotFoundError(f"no part*.jsonl in {folder}: run tools/make_training_data.py first")

    def count(self) -> int:
        return len(self.rows)

    def _get(self, row: int, kind: int) -> np.ndarray:
        first, arrays = next(part for part in reversed(self._parts) if row >= part[0])
        return arrays[kind][row - first]

    def images(self, row: int) -> np.ndarray:
        """(6, 126, 224, 3) uint8 RGB in the prompt's order."""
        return self._get(row, 0)

    def classes(self, row: int) -> np.ndarray:
        """(6, 128) uint8, index into ``CLASSES``."""
        return self._get(row, 1)

    def relations(self, row: int) -> np.ndarray:
        """(6, 128) uint8, index into ``RELATIONS``."""
        return self._get(row, 2)


def normalise(images: np.ndarray) -> Tensor:
    """(B, 126, 224, 3) uint8 -> (B, 3, 224, 224): square padding and CLIP normalisation, as the processor does."""
    mean, std = np.array(OPENAI_CLIP_MEAN, np.float32), np.array(OPENAI_CLIP_STD, np.float32)
    square = np.empty((len(images), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    square[:] = (255 * mean).astype(np.uint8)
    top = (IMAGE_SIZE - images.shape[1]) // 2
    square[:, top : top + images.shape[1]] = images
    pixels = torch.from_numpy(square).permute(0, 3, 1, 2).float()
    return (pixels - torch.from_numpy(mean * 255)[:, None, None]) / torch.from_numpy(std * 255)[:, None, None]


def tower_patches(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """(B, 3, 224, 224) -> (B, 256, c): output of the last layer but one, without CLS."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, None)
    return hidden[:, 1:]


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def _layer_pass(layer: Any, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, heads: int, eps: float) -> Tensor:
    attention, mlp = layer.self_attn, layer.mlp
    half = cos.shape[-1] // 2
    batch, length, width = x.shape
    h = _rms(x, layer.input_layernorm.weight, eps)
    weights = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    q, k, v = F.linear(h, weights).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    q = q * cos + torch.cat([-q[..., half:], q[..., :half]], -1) * sin
    k = k * cos + torch.cat([-k[..., half:], k[..., :half]], -1) * sin
    a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    x = x + F.linear(a.transpose(1, 2).reshape(batch, length, width), attention.o_proj.weight)
    h = _rms(x, layer.post_attention_layernorm.weight, eps)
    gate, up = F.linear(h, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, mlp.down_proj.weight)


def decoder_pass(decoder: LlamaModel, x: Tensor, positions: Tensor, mask: Tensor, layer_pass=_layer_pass) -> Tensor:  # type: ignore[no-untyped-def]
    """Stock Llama arithmetic on (B, N, d) with rotary ``positions`` (B, N) or (1, N) and an additive ``mask`` (B or 1, 1, N, N)."""
    cos, sin = decoder.rotary_emb(x, positions)  # (B, N, head)
    cos, sin = cos.unsqueeze(1).to(x.dtype), sin.unsqueeze(1).to(x.dtype)
    for layer in decoder.layers:
        x = layer_pass(layer, x, cos, sin, mask, decoder.config.num_attention_heads, decoder.config.rms_norm_eps)
    return _rms(x, decoder.norm.weight, decoder.config.rms_norm_eps)


class Packing:
    """One sequence for several questions of a scene.

    A shared prefix (text and views), then a branch a question that sees only itself and the prefix.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, plan_length: int = 73, extra_length: int = 15) -> None:
        self.tokenizer = tokenizer
        self.template = template
        chunks = split_at_images(build_prompt(plan_question(0, "go straight"), template))
        self.prefix = [[tokenizer.bos_token_id, *self._ids(chunks[0])], *[self._ids(c) for c in chunks[1:-1]]]
        self.branches = [plan_length] + [extra_length] * EXTRAS
        self.text = torch.tensor([i for chunk in self.prefix for i in chunk])
        places: list[int] = []
        at, self.view_start = 0, []
        for chunk in self.prefix:
            places += range(at, at + len(chunk))
            at += len(chunk)
            self.view_start.append(at)
            at += VIEW_TOKENS
        self.text_positions, self.prefix_length = torch.tensor(places), at

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    def branch(self, question: str, answer: str, length: int) -> tuple[list[int], list[int]]:
        """Ids and labels of one question after the last view, padded to ``length`` (labels -100 outside the answer)."""
        asked = self._ids(split_at_images(build_prompt(plan_marks(question), self.template))[-1])
        said = [*self._ids(answer), self.tokenizer.eos_token_id]
        pad = length - len(asked) - len(said)
        if pad < 0:
            raise ValueError(f"a branch of {length} is too short for {len(asked) + len(said)} tokens: {question}")
        return asked + said + [0] * pad, [-100] * len(asked) + said + [-100] * pad

    def layout(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, N) and mask (1, 1, N, N) when each keyframe keeps (B, K) of its 768 visual tokens, in this order:
        prefix text and visual tokens sorted by position, then the branches."""
        starts = torch.tensor(self.view_start)
        visual = starts[kept // VIEW_TOKENS] + kept % VIEW_TOKENS  # (B, K)
        text = self.text_positions.expand(len(kept), -1)
        prefix = torch.cat([text, visual], 1)
        branches = torch.cat([torch.arange(n) for n in self.branches]) + self.prefix_length
        positions = torch.cat([prefix, branches.expand(len(kept), -1)], 1)
        owner = torch.cat([torch.zeros(prefix.shape[1], dtype=torch.long)] + [torch.full((n,), i + 1) for i, n in enumerate(self.branches)])
        same = (owner[:, None] == owner[None]) | (owner[None] == 0)
        # text and visual tokens are stored apart, so the causal order is that of the positions
        causal = positions[:, :, None] >= positions[:, None, :]
        return positions, (causal & same)[:, None]


def plan_marks(question: str) -> str:
    """A question with its six image marks, unless it has them."""
    from senna_autoprune.nuscenes.strings import strings

    return question if "<image>" in question else strings()["image_prompt"] + question


class DecoderTrainer:
    """Stage 2: tower, projector and decoder together; the tower goes on learning its patch labels beside the questions."""

    def __init__(
        self,
        model: SennaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        data: KeyframeData,
        run: Path,
        seed: int,
        team: Team,
        heads: nn.ModuleList,
    ) -> None:
        self.model, self.data, self.folder, self.team = model, data, run, team
        self.packings = {name: Packing(tokenizer, name) for name in ("eval", "train")}
        self.rng = np.random.default_rng((seed, 1))
        self.heads = heads
        self.step, self.spent, self.seen = 0, 0.0, 0
        self._branches: dict = {}
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
        inner = {id(p) for p in [*layers.parameters(), *seen_layers] if p.ndim == 2}  # Muon is for hidden matrices
        self.optimizers: list[torch.optim.Optimizer] = []
        self.base_lr: list[float] = []
        for group, lr in ((self.decoder, 2e-3), (self.tower, 1e-3)):
            muon = torch.optim.Muon(
                [p for p in group if id(p) in inner], lr=lr, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )
            adam = torch.optim.AdamW([p for p in group if id(p) not in inner], lr=lr, weight_decay=0.0, betas=(0.9, 0.98))
            self.optimizers += [muon, adam]
            self.base_lr += [lr, lr]

    # ---- batches

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

    # ---- one pass

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

    def patch_loss(self, patches: Tensor, rows: np.ndarray) -> Tensor:
        """Cross-entropy of class and relation of each patch."""
        classes = torch.from_numpy(np.stack([self.data.classes(r) for r in rows])).long().flatten()
        relations = torch.from_numpy(np.stack([self.data.relations(r) for r in rows])).long().flatten()
        said, related = self.heads[0](patches).float(), self.heads[1](patches).float()
        loss = F.cross_entropy(said.flatten(0, -2), classes, torch.tensor(CLASS_WEIGHTS))
        return loss + F.cross_entropy(related.flatten(0, -2), relations, torch.tensor(RELATION_WEIGHTS))

    def loss(self, logits: Tensor, labels: Tensor, template: str) -> tuple[Tensor, Tensor]:
        """Mean answer loss of plan and of extra questions."""
        plan = self.packings[template].branches[0]
        flat = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none")
        flat = flat.view(len(labels), -1)
        counts = labels[:, 1:] != -100
        of_plan, of_extra = flat[:, : plan - 1].sum() / counts[:, : plan - 1].sum(), flat[:, plan - 1 :].sum() / counts[:, plan - 1 :].sum()
        return of_plan, of_extra

    # ---- the loop

    def run(self, minutes: float, short_share: float, batch: int, short_keep: int = 112) -> None:
        """Train until ``minutes`` of wall clock are spent in all; ``batch`` keyframes a step over the whole team."""
        self.resume()
        start, before, team = time.time(), self.spent, self.team
        n = self.data.count() - VALIDATION
        order: list[int] = []
        history: list[tuple[float, ...]] = []
        while True:
            elapsed = team.mean(before + time.time() - start)
            progress = elapsed / (minutes * 60)
            if progress >= 1:
                break
            # few tokens are cheap and teach what matters; all of them teach to find it
            mixed = 384 if self.step % 2 and progress < 0.8 else VIEWS * VIEW_TOKENS
            keep = short_keep if progress < short_share else mixed
            warm = min(1.0, (self.step + 1) / 100)
            for optimizer, lr in zip(self.optimizers, self.base_lr, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = lr * warm * min(1.0, max(0.02, (1 - progress) / 0.5))
            if len(order) < batch:
                order = list(np.random.default_rng((self.step, 2)).permutation(n))  # the same in the whole team
            rows, order = np.array(order[team.rank : batch : team.size]), order[batch:]
            template = "eval" if self.step % 7 else "train"
            pixels, kept, ids, labels = self.batch(rows, keep, template)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits, patches = self.forward(pixels, kept, ids, template)
                of_patches = self.patch_loss(patches, rows)
            of_plan, of_extra = self.loss(logits, labels, template)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            (of_plan + of_extra + 0.5 * of_patches).backward()
            team.average([*self.decoder, *self.tower])
            for weights in (self.decoder, self.tower):
                nn.utils.clip_grad_norm_(weights, 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
            self.step += 1
            self.seen += batch
            history.append((of_plan.item(), of_extra.item(), of_patches.item(), self._exact(logits, labels, template)))
            if self.step % 25 == 0:
                means = np.mean(history[-25:], 0)
                if team.rank == 0:
                    log.info(
                        "decoder step %d keyframes %d %.1f min keep %d plan %.3f extra %.3f patches %.3f exact %.3f",
                        *(self.step, self.seen, elapsed / 60, keep, *means),
                    )
            if self.step % 200 == 0:
                self.spent = elapsed
                if team.rank == 0:
                    self.save()
                exact = self.validate(96)
                if team.rank == 0:
                    log.info("validation, all tokens: exact %.3f", exact)
        self.spent = elapsed
        if team.rank == 0:
            self.save()
        exact = self.validate(VALIDATION)
        if team.rank == 0:
            log.info("done: validation exact %.3f", exact)

    def _exact(self, logits: Tensor, labels: Tensor, template: str) -> float:
        """Share of plan answers whose every token is right (given the true ones before it)."""
        plan = self.packings[template].branches[0]
        said, meant = logits[:, : plan - 1].argmax(-1), labels[:, 1:plan]
        return float(((said == meant) | (meant == -100)).all(1).float().mean())

    @torch.no_grad()
    def validate(self, count: int) -> float:
        """Exact plan accuracy on held-out keyframes with all visual tokens."""
        rows = np.arange(self.data.count() - VALIDATION, self.data.count())[:count][self.team.rank :: self.team.size]
        right = []
        for first in range(0, len(rows), 8):
            pixels, kept, ids, labels = self.batch(rows[first : first + 8], VIEWS * VIEW_TOKENS, "eval")
            with torch.autocast("cpu", dtype=torch.bfloat16):
                right.append(self._exact(self.forward(pixels, kept, ids, "eval")[0], labels, "eval") * len(labels))
        return self.team.mean(sum(right) / len(rows))

    def save(self) -> None:
        state = {
            "decoder": self.model.get_decoder().state_dict(),
            "tower": self.model.vision_tower.state_dict(),
            "heads": self.heads.state_dict(),
            "projector": self.model.mm_projector.state_dict(),
            "lm_head": self.model.lm_head.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "spent": self.spent,
            "seen": self.seen,
        }
        torch.save(state, self.folder / "decoder_state.pt.new")
        (self.folder / "decoder_state.pt.new").replace(self.folder / "decoder_state.pt")

    def resume(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        file = self.folder / "decoder_state.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True)
        self.model.get_decoder().load_state_dict(state["decoder"])
        self.model.vision_tower.load_state_dict(state["tower"])
        self.heads.load_state_dict(state["heads"])
        self.model.mm_projector.load_state_dict(state["projector"])
        self.model.lm_head.load_state_dict(state["lm_head"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=bool(state["optimizers"])):
            optimizer.load_state_dict(saved)
        self.step, self.spent, self.seen = state["step"], state["spent"], state["seen"]
        self.rng = np.random.default_rng((self.step, self.team.rank))
