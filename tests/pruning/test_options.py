"""What forward and generate take beside a prompt, while it is pruned: situation x method x model, each against the full-length twin.

The twin is the same stock model over the whole prompt and answer, with dropped tokens hidden by masks (full_length.py, which
tests/pruning/decoder holds against a decoder written out by hand).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from senna_autoprune import build_policy
from senna_autoprune.pruning.decoder.full_length import full_length, hidden_tokens
from senna_autoprune.pruning.decoder.models import find_decoder, has_three_axes
from tests.models import six_blocks, tiny_llama
from tests.pruning.multimodal import tiny
from tests.senna.tiny import question, tiny_model, tiny_processor, views

METHODS = ("autoprune", "random", "divprune")  # cuts inside; before layer 0; before layer 0, renumbered
MODELS = ("llama", "llava", "qwen3", "senna")
MARKS = [58, 59, 60, 61]  # of pictures, which no answer may hold
STEPS = 4


@dataclass
class Scene:
    """inputs: of generate; given: of the policy; mask: (1, N) bool, the visual tokens; words: the prompt as processors read it."""

    model: Any
    inputs: dict[str, Any]
    given: dict[str, Any]
    mask: torch.Tensor
    words: list[int]

    def pruned(self, method):
        policy = build_policy(method, retention=0.4)
        self.compact = policy.positions == "compact" and not has_three_axes(find_decoder(self.model))
        return policy(self.model, **self.given)

    def generate(self, **options):
        plain = {"max_new_tokens": STEPS, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        return self.model.generate(**{**self.inputs, **plain, "suppress_tokens": MARKS, **options})

    def longer(self, answer):
        """The inputs with ``answer`` (n,) behind the prompt."""
        inputs = {"input_ids": self.inputs.get("input_ids"), **self.inputs}
        if "inputs_embeds" in inputs:
            more = self.model.get_input_embeddings()(answer[None])
            return {**inputs, "input_ids": None, "inputs_embeds": torch.cat([inputs["inputs_embeds"], more], 1)}
        ones = torch.ones_like(answer[None])
        more = {"input_ids": answer[None], "attention_mask": ones, "mm_token_type_ids": 0 * ones}
        return {name: torch.cat([value, more[name].to(value)], 1) if name in more else value for name, value in inputs.items()}

    def twin(self, trace, answer=(), **options):
        """Output of the twin over prompt and ``answer``."""
        answer = torch.as_tensor(answer, dtype=torch.long)
        gone = hidden_tokens([trace], self.mask, self.mask.shape[1] + len(answer))
        with full_length(find_decoder(self.model), gone, self.compact):
            return self.model(**self.longer(answer), use_cache=False, **options)

    def rows(self, trace, layer):
        """Places in the prompt of the tokens that enter ``layer``, ascending."""
        stays = ~self.mask[0]
        stays[self.mask[0].nonzero().flatten()[trace.kept[layer]]] = True
        return stays.nonzero().flatten()


@lru_cache
def scene(name: str) -> Scene:
    if name == "llama":
        mask = six_blocks(size=8)[1]
        ids = torch.randint(2, 40, mask.shape, generator=torch.Generator().manual_seed(3))
        return Scene(tiny_llama(layers=4, attention="eager"), {"input_ids": ids}, {"visual_mask": mask}, mask, ids[0].tolist())
    if name == "senna":
        inputs = dict(tiny_processor()(text=[question(3)], images=[views(3)], return_tensors="pt"))
        model, ids = tiny_model(), inputs["input_ids"]
        model.set_attn_implementation("eager")
        return Scene(model, inputs, {}, model.visual_context(input_ids=ids).mask, [word if word >= 0 else 1 for word in ids[0].tolist()])
    inputs = tiny.prompt(name, [tiny.SQUARE, tiny.SQUARE])
    ids = inputs["input_ids"]
    return Scene(tiny.build(name, "eager"), inputs, {}, ids == tiny.IMAGE, ids[0].tolist())


def close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp_min(1)


def asked(scene):
    """(1, N) labels of the last three tokens; no visual one is before them."""
    labels = torch.full(scene.mask.shape, -100)
    labels[:, -3:] = torch.tensor([[11, 5, 23]])
    return labels


def gradients(scene):
    """Of the decoder's layers, which are then cleared."""
    found = {name: weight.grad for name, weight in find_decoder(scene.model).layers.named_parameters() if weight.grad is not None}
    scene.model.zero_grad(set_to_none=True)
    assert found
    return found


# --- situations: each gives what it compares itself -------------------------------------------------------------------------------------


def labels(scene, method):
    with scene.pruned(method) as trace:
        output = scene.model(**scene.inputs, labels=asked(scene))
        output.loss.backward()
    ours = gradients(scene)
    rows = scene.twin(trace[0]).logits[0]
    loss = cross_entropy(rows[-4:-1], asked(scene)[0, -3:])
    loss.backward()
    theirs = gradients(scene)
    close(output.loss.detach(), loss.detach())
    for name, gradient in theirs.items():
        close(ours[name], gradient, 1e-4)
    there = scene.rows(trace[0], -1)
    close(output.logits[0, there].detach(), rows[there].detach())
    assert output.logits[0].isnan().all(-1).sum() == scene.mask.shape[1] - len(there) > 0


def checkpointing(scene, method):
    found = []
    for on in (False, True):
        if on:
            scene.model.train()
            scene.model.gradient_checkpointing_enable({"use_reentrant": False})
        try:
            with scene.pruned(method):
                loss = scene.model(**scene.inputs, labels=asked(scene), use_cache=False).loss
            loss.backward()  # after the with, when the hooks are gone
        finally:
            scene.model.gradient_checkpointing_disable()
            scene.model.eval()
        found.append(gradients(scene))
    for name, gradient in found[0].items():
        close(found[1][name], gradient, 1e-4)


@torch.no_grad()
def hidden_states(scene, method):
    with scene.pruned(method) as trace:
        ours = scene.model(**scene.inputs, output_hidden_states=True).hidden_states
    theirs = scene.twin(trace[0], output_hidden_states=True).hidden_states
    close(ours[0][0], theirs[0][0, scene.rows(trace[0], 0)])
    for layer, states in enumerate(ours[1:]):  # what layer gives
        rows = scene.rows(trace[0], layer)
        close(states[0], theirs[layer + 1][0, rows])


@torch.no_grad()
def attentions(scene, method):
    with scene.pruned(method) as trace:
        ours = scene.model(**scene.inputs, output_attentions=True).attentions
    theirs = scene.twin(trace[0], output_attentions=True).attentions
    assert len(ours) == len(theirs) == len(trace[0].tokens_per_layer)
    for layer, (weights, whole) in enumerate(zip(ours, theirs, strict=True)):
        rows = scene.rows(trace[0], layer)
        close(weights[0], whole[0][:, rows][:, :, rows])


@torch.no_grad()
def rows_to_keep(scene, method):
    for keep in (1, 3, torch.tensor([0, scene.mask.shape[1] - 2])):
        with scene.pruned(method) as trace:
            logits = scene.model(**scene.inputs, logits_to_keep=keep).logits[0]
        rows = scene.twin(trace[0]).logits[0]
        close(logits, rows[keep] if isinstance(keep, torch.Tensor) else rows[-keep:])


@torch.no_grad()
def a_tuple(scene, method):
    with scene.pruned(method) as trace:
        logits = scene.model(**scene.inputs, return_dict=False, logits_to_keep=1)[0]
    close(logits[0], scene.twin(trace[0]).logits[0, -1:])


def answered(scene, method, **options):
    """Every returned row's answer, and the logits that it was chosen by, step by step."""
    with scene.pruned(method) as trace:
        output = scene.generate(**options)
    start = output.sequences.shape[1] - STEPS
    for row, answer in enumerate(output.sequences[:, start:]):
        with torch.no_grad():
            logits = scene.twin(trace[row], answer[:-1]).logits[0, -STEPS:]
        close(torch.stack([step[row] for step in output.logits]), logits)
    return output, trace


def sampled(scene, method):
    torch.manual_seed(0)
    _, trace = answered(scene, method, do_sample=True, num_return_sequences=3)
    assert len(trace) == 3 and len({tuple(sample.kept[-1].tolist()) for sample in trace}) == 1


def beams(scene, method):
    """The score of each returned beam is the sum of its words' logarithms in the twin."""
    with scene.pruned(method) as trace:
        output = scene.generate(num_beams=3, num_return_sequences=2, length_penalty=0.0, output_scores=True)
    assert len({tuple(sample.kept[-1].tolist()) for sample in trace}) == 1
    for answer, score in zip(output.sequences[:, -STEPS:], output.sequences_scores, strict=True):
        with torch.no_grad():
            rows = scene.twin(trace[0], answer[:-1]).logits[0, -STEPS:].log_softmax(-1)
        torch.testing.assert_close(score, rows.gather(1, answer[:, None]).sum(), rtol=1e-4, atol=1e-4)


def penalised(scene, method):
    """Chosen by the stock rules, by hand, over the twin's logits and the prompt's words."""
    output, _ = answered(scene, method, repetition_penalty=1.7, no_repeat_ngram_size=2)
    words = list(scene.words)
    for step, token in zip(output.logits, output.sequences[0, -STEPS:].tolist(), strict=True):
        row, seen = step[0].clone(), sorted(set(words))
        row[seen] = torch.where(row[seen] < 0, row[seen] * 1.7, row[seen] / 1.7)
        row[[after for before, after in zip(words[:-1], words[1:], strict=True) if before == words[-1]]] = float("-inf")
        row[MARKS] = float("-inf")
        assert int(row.argmax()) == token
        words.append(token)


class Watching(LogitsProcessor):
    """Sees the prompt, and forbids its words."""

    def __init__(self):
        self.seen = []

    def __call__(self, input_ids, scores):
        self.seen.append(input_ids[0].tolist())
        return scores.scatter(1, input_ids, float("-inf"))


def watched(scene, method):
    watching = Watching()
    output, _ = answered(scene, method, logits_processor=LogitsProcessorList([watching]))
    answer = output.sequences[0, -STEPS:].tolist()
    assert watching.seen == [scene.words + answer[:step] for step in range(STEPS)]
    assert not set(answer) & set(scene.words)


class Collecting(BaseStreamer):
    def __init__(self):
        self.words = []

    def put(self, value):
        self.words += value.flatten().tolist()

    def end(self):
        pass


def streamed(scene, method):
    streamer = Collecting()
    output, _ = answered(scene, method, streamer=streamer)
    assert streamer.words == [word for word in output.sequences[0].tolist() if word >= 0]


def from_embeddings(scene, method):
    """The prompt's embeddings, pictures in their places, without ids; where the pictures are is said."""
    layer, seen = find_decoder(scene.model).layers[0], []
    look = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        scene.model(**scene.inputs)
    look.remove()
    bare = Scene(scene.model, {"inputs_embeds": seen[0]}, {"visual_mask": scene.mask}, scene.mask, [])
    output, _ = answered(bare, method)
    assert output.sequences.shape[1] == STEPS


SITUATIONS = (
    labels,
    checkpointing,
    hidden_states,
    attentions,
    rows_to_keep,
    a_tuple,
    sampled,
    beams,
    penalised,
    watched,
    streamed,
    from_embeddings,
)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_equals_the_twin(situation, method, name):
    situation(scene(name), method)
