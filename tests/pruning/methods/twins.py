"""Slow, obvious versions: the prompt is a Python list of tokens, layers run on what the list holds, and each method's rule is loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.pruning.parts.revival import split_for_merge
from tests.twins import MaskedDecoder


@dataclass
class Token:
    """hidden (d,); its original position; its name: original visual index, -1 for a merged token, None for text; its view."""

    hidden: Tensor
    position: int
    name: int | None = None
    view: int = 0

    @property
    def visual(self) -> bool:
        return self.name is not None


@dataclass
class Prompt:
    """A prompt on its way through the decoder. attention: (H, n, n) of the layer below; counts: visual tokens entering each layer."""

    decoder: MaskedDecoder
    tokens: list[Token]
    counts: list[int]
    compact: bool
    sizes: tuple[int, ...]
    scores: list[float]
    attention: Tensor | None = None
    raters: list[int] = field(default_factory=list)
    draw: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def places(self) -> list[int]:
        """Where the visual tokens stand in the list."""
        return [place for place, token in enumerate(self.tokens) if token.visual]

    def asking(self) -> list[int]:
        """Where the text after the last visual token stands."""
        return list(range(self.places()[-1] + 1, len(self.tokens)))

    def embeddings(self) -> list[Tensor]:
        return [self.tokens[place].hidden.double() for place in self.places()]

    def spans(self, by_view: bool) -> list[tuple[int, int]]:
        sizes = self.sizes if by_view else (sum(self.sizes),)
        return [(sum(sizes[:index]), sum(sizes[: index + 1])) for index in range(len(sizes))]

    def run_layer(self, index: int) -> Tensor:
        """Attention of layer ``index`` on the list as it is; the tokens' hidden states are replaced."""
        hidden, attention = self.look(index)
        for token, row in zip(self.tokens, hidden, strict=True):
            token.hidden = row
        return attention

    def look(self, index: int) -> tuple[Tensor, Tensor]:
        states = torch.stack([token.hidden for token in self.tokens])
        positions = torch.tensor([place if self.compact else token.position for place, token in enumerate(self.tokens)])
        return self.decoder.layer(index, states, torch.ones(len(states), dtype=torch.bool), positions)

    def keep(self, chosen: list[int]) -> None:
        """Drop all visual tokens but those with these indices among the visual ones."""
        places = self.places()
        gone = {place for index, place in enumerate(places) if index not in set(chosen)}
        self.tokens = [token for place, token in enumerate(self.tokens) if place not in gone]


Rule = Callable[[Prompt, int], None]


@torch.no_grad()
def slow_run(model, embeds, visual_mask, rule: Rule, **options) -> tuple[list[list[int]], Tensor]:
    """Names of the visual tokens that enter each layer, and the logits (vocab,) of the last token."""
    tokens, index, sizes = [], 0, options["sizes"]
    for place, (row, visual) in enumerate(zip(embeds, visual_mask.tolist(), strict=True)):
        view = next(v for v in range(len(sizes)) if index < sum(sizes[: v + 1])) if visual else 0
        tokens.append(Token(row, place, index if visual else None, view))
        index += visual
    prompt, entering = Prompt(MaskedDecoder(model), tokens, **options), []
    for layer in range(len(model.get_decoder().layers)):
        rule(prompt, layer)
        entering.append([prompt.tokens[place].name for place in prompt.places()])
        prompt.attention = prompt.run_layer(layer)
    last = prompt.tokens[-1].hidden
    return entering, model.lm_head(model.get_decoder().norm(last[None]))[0]


def best(scores: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])


def even(count: int, sizes) -> list[int]:
    """One token after the other to the view that has fewest and room left."""
    quota = [0] * len(sizes)
    for _ in range(count):
        view = min((v for v in range(len(sizes)) if quota[v] < sizes[v]), key=lambda v: (quota[v], v))
        quota[view] += 1
    return quota


# --- staged methods ---------------------------------------------------------------------------------------------------------------------


def mean_attention(attention: Tensor, rows: list[int], columns: list[int]) -> list[float]:
    heads = attention.double()
    return [sum(float(head[row, column]) for head in heads for row in rows) / (len(heads) * len(rows)) for column in columns]


def ranked_by(rows: str, coming: bool = False) -> Rule:
    """Keep what the asking text (or the last token) attends to, in the layer below or in the coming one."""

    def rule(prompt: Prompt, layer: int) -> None:
        places = prompt.places()
        if prompt.counts[layer] < len(places):
            attention = prompt.look(layer)[1] if coming else prompt.attention
            asking = prompt.asking() if rows == "text" else [len(prompt.tokens) - 1]
            prompt.keep(best(mean_attention(attention, asking, places), prompt.counts[layer]))

    return rule


def density_peaks(tokens: list[Tensor], clusters: int, noise: Tensor) -> tuple[list[Tensor], list[int]]:
    """Merged tokens and the index of each centre."""
    count, scale = len(tokens), math.sqrt(len(tokens[0]))
    distance = [[float((a.double() - b.double()).norm()) / scale for b in tokens] for a in tokens]
    largest = max(max(row) for row in distance)
    near = [math.exp(-sum(d * d for d in sorted(row)[:clusters]) / clusters) for row in distance]
    density = [np.float32(value) + np.float32(1e-6) * np.float32(noise[i]) for i, value in enumerate(near)]  # float32 can tie: it decides
    parent = [min([distance[i][j] for j in range(count) if density[j] > density[i]], default=largest) for i in range(count)]
    centres = sorted(range(count), key=lambda i: -np.float32(parent[i]) * density[i])[:clusters]
    nearest = [centres.index(i) if i in centres else min(range(clusters), key=lambda c: distance[centres[c]][i]) for i in range(count)]
    members = [[tokens[i] for i in range(count) if nearest[i] == cluster] for cluster in range(clusters)]
    return [sum(group) / (len(group) + 1e-6) for group in members], centres


def sparsevlm(prompt: Prompt, layer: int) -> None:
    places = prompt.places()
    if layer == 0:
        texts = [prompt.tokens[place].hidden.double() for place in prompt.asking()]
        given = [0.0] * len(texts)
        for visual in prompt.embeddings():
            weights = [float(visual @ text) for text in texts]
            top = max(weights)
            total = sum(math.exp(weight - top) for weight in weights)
            given = [so_far + math.exp(weight - top) / total for so_far, weight in zip(given, weights, strict=True)]
        prompt.raters = [index for index, value in enumerate(given) if value > sum(given) / len(given)]
        return
    if prompt.counts[layer] == len(places):
        return
    kept_count, merged_count = split_for_merge(len(places), prompt.counts[layer])
    rows = [prompt.asking()[index] for index in prompt.raters]
    scores = mean_attention(prompt.attention, rows, places)
    chosen = best(scores, kept_count)
    dropped = [index for index in range(len(places)) if index not in chosen]
    pool = sorted(dropped, key=lambda index: (-scores[index], index))[: int(0.3 * len(dropped)) + 1]
    noise = torch.rand(1, len(pool), generator=prompt.draw)[0]
    merged, centres = density_peaks([prompt.tokens[places[index]].hidden for index in pool], merged_count, noise)
    made = [Token(token, prompt.tokens[places[pool[centre]]].position, -1) for token, centre in zip(merged, centres, strict=True)]
    behind = len(prompt.tokens) - places[-1] - 1  # text tokens behind the last visual one
    prompt.keep(chosen)
    prompt.tokens[len(prompt.tokens) - behind : len(prompt.tokens) - behind] = made


# --- methods that act before the decoder ------------------------------------------------------------------------------------------------


def before(choose: Callable[[Prompt, int], None]) -> Rule:
    def rule(prompt: Prompt, layer: int) -> None:
        if layer == 0 and prompt.counts[0] < len(prompt.places()):
            choose(prompt, prompt.counts[0])

    return rule


@before
def random(prompt: Prompt, count: int) -> None:
    prompt.keep(best(torch.rand(sum(prompt.sizes), generator=prompt.draw).tolist(), count))


def random_lengths(prompt: Prompt, layer: int) -> None:
    """A fresh draw at every cut."""
    places = prompt.places()
    if prompt.counts[layer] < len(places):
        prompt.keep(best(torch.rand(len(places), generator=prompt.draw).tolist(), prompt.counts[layer]))


def dart_inside(prompt: Prompt, layer: int) -> None:
    """The same rule on the states that enter layer 2."""
    if layer == 2 and prompt.counts[2] < len(prompt.places()):
        least_duplicated(prompt, prompt.counts[2])


@before
def dart(prompt: Prompt, count: int) -> None:
    least_duplicated(prompt, count)


def least_duplicated(prompt: Prompt, count: int) -> None:
    """Every pivot looks at all that is left, one token after the other."""
    tokens = prompt.embeddings()
    texts = [token.hidden.double() for token in prompt.tokens if not token.visual]
    words = sorted(texts, key=lambda word: -float(word.float().abs().sum()))[:4]
    chosen = []
    for (start, stop), share in zip(prompt.spans(True), even(count, prompt.sizes), strict=True):
        pivots = sorted(range(start, stop), key=lambda i: (-float(tokens[i].float().abs().sum()), i))[: min(4, share)]
        sources, mine = [*(tokens[i] for i in pivots), *words], list(pivots)
        turns = even(share - len(pivots), [share] * len(sources))
        for source, turn in zip(sources, turns, strict=True):
            left = [i for i in range(start, stop) if i not in mine]
            mine += sorted(left, key=lambda i, source=source: (cosine(tokens[i], source), i))[:turn]
        chosen += mine
    prompt.keep(chosen)


@before
def uniform(prompt: Prompt, count: int) -> None:
    quota = even(count, prompt.sizes)
    spans = prompt.spans(True)
    parts = [(start, (stop - start) / share, j) for (start, stop), share in zip(spans, quota, strict=True) for j in range(share)]
    prompt.keep([start + math.floor((j + 0.5) * stride) for start, stride, j in parts])


@before
def fastervlm(prompt: Prompt, count: int) -> None:
    spans, quota = prompt.spans(True), even(count, prompt.sizes)
    prompt.keep([start + i for (start, stop), q in zip(spans, quota, strict=True) for i in best(prompt.scores[start:stop], q)])


@before
def vispruner(prompt: Prompt, count: int) -> None:
    """Round by round, every pair of the two halves compared by itself."""
    tokens, chosen = prompt.embeddings(), []
    for (start, stop), share in zip(prompt.spans(True), even(count, prompt.sizes), strict=True):
        ranked = sorted(range(start, stop), key=lambda i: (-prompt.scores[i], i))
        important = share // 2
        left = ranked[important:]
        while len(left) > share - important:
            first, second = [left[i] for i in range(0, len(left), 2)], [left[i] for i in range(1, len(left), 2)]
            alike = {i: max(cosine(tokens[i], tokens[j]) for j in second) for i in first}
            order = sorted(first, key=lambda i, alike=alike: -alike[i])
            left = order[min(8, len(left) - share + important, len(first)) :] + second
        chosen += ranked[:important] + left
    prompt.keep(chosen)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def farthest(tokens: list[Tensor], count: int) -> list[int]:
    """Max-min greedy, looking at all pairs again in every step."""
    everyone, chosen = range(len(tokens)), []
    for _ in range(count):
        seen = [i for i in everyone if i not in chosen]
        gap = {i: min((1 - cosine(tokens[i], tokens[j]) for j in (chosen or everyone) if j != i), default=math.inf) for i in seen}
        chosen.append(max(seen, key=lambda i: (gap[i], -i)))
    return chosen


@before
def divprune(prompt: Prompt, count: int) -> None:
    prompt.keep(farthest(prompt.embeddings(), count))


@before
def prune2drive(prompt: Prompt, count: int) -> None:
    spans, quota, tokens = prompt.spans(True), even(count, prompt.sizes), prompt.embeddings()
    prompt.keep([start + i for (start, stop), q in zip(spans, quota, strict=True) for i in farthest(tokens[start:stop], q)])


def largest_volume(kernel: Tensor, count: int) -> list[int]:
    """Greedy by the determinant of every candidate subset; beyond the kernel's rank all determinants are 0, and its diagonal decides."""
    chosen: list[int] = []
    rank = int(torch.linalg.matrix_rank(kernel))
    for _ in range(count):
        if len(chosen) >= rank:
            return best([math.inf if i in chosen else float(kernel[i, i]) for i in range(len(kernel))], count)
        rest = [i for i in range(len(kernel)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: (float(torch.linalg.slogdet(kernel[[*chosen, i]][:, [*chosen, i]])[1]), -i)))
    return chosen


@before
def cdpruner(prompt: Prompt, count: int) -> None:
    tokens = prompt.embeddings()
    question = sum(prompt.tokens[place].hidden.double() for place in prompt.asking()) / len(prompt.asking())
    near = [cosine(token, question) for token in tokens]
    quality = [(value - min(near) + 1e-6) / (max(near) - min(near) + 1e-6) for value in near]
    chosen = []
    for (start, stop), share in zip(prompt.spans(True), even(count, prompt.sizes), strict=True):
        members = range(start, stop)
        rows = [[quality[i] * cosine(tokens[i], tokens[j]) * quality[j] for j in members] for i in members]
        kernel = torch.tensor(rows, dtype=torch.float64)
        chosen += [start + i for i in largest_volume(kernel, share)]
    prompt.keep(chosen)


@before
def visionzip(prompt: Prompt, count: int) -> None:
    shares = even(count, prompt.sizes)
    contextual = even(int(count * 10 / 64 + 0.5), shares)
    places, kept, made = prompt.places(), [], {}
    for view, (start, stop) in enumerate(prompt.spans(True)):
        dominant = [start + i for i in best(prompt.scores[start:stop], shares[view] - contextual[view])]
        kept += dominant
        rest = [prompt.tokens[places[index]] for index in range(start, stop) if index not in dominant]
        if contextual[view]:
            step = max(1, len(rest) // contextual[view])
            targets = rest[::step][: contextual[view]]
            joined: list[list[Tensor]] = [[] for _ in targets]
            for token in rest:
                if not any(token is target for target in targets):
                    likeness = [cosine(token.hidden.double(), target.hidden.double()) for target in targets]
                    joined[likeness.index(max(likeness))].append(token.hidden)
            means = [target.hidden + sum(group) / max(len(group), 1) for target, group in zip(targets, joined, strict=True)]
            made[stop - 1] = [Token(mean, target.position, -1, view) for mean, target in zip(means, targets, strict=True)]
    tokens = []
    for place, token in enumerate(prompt.tokens):
        index = places.index(place) if place in places else None
        tokens += [token] if index is None or index in kept else []
        tokens += made.get(index, []) if index is not None else []
    prompt.tokens = tokens


def merge_pairs(tokens: list[tuple[int, Tensor, int]], count: int, steps: int = 8) -> list[tuple[int, Tensor, int]]:
    """ToMe on (place, token, size) triples, pair by pair."""
    each = math.ceil((len(tokens) - count) / steps)
    while len(tokens) > count:
        merges = min(each, len(tokens) - count, len(tokens) // 2)
        pairs = []
        for a in range(0, len(tokens), 2):
            likeness = [(cosine(tokens[a][1].float(), tokens[b][1].float()), -b) for b in range(1, len(tokens), 2)]
            value, b = max(likeness)
            pairs.append((value, -a, a, -b))
        groups: dict[int, list[int]] = {}
        for _, _, a, b in sorted(pairs, reverse=True)[:merges]:
            groups.setdefault(b, [b]).append(a)
        gone = {a for members in groups.values() for a in members[1:]}
        merged = []
        for index, (place, token, size) in enumerate(tokens):
            if index in groups:
                size = sum(tokens[member][2] for member in groups[index])
                token = sum(tokens[member][1] * tokens[member][2] for member in groups[index]) / size
            if index not in gone:
                merged.append((place, token, size))
        tokens = merged
    return tokens


@before
def tome(prompt: Prompt, count: int) -> None:
    places, left = prompt.places(), {}
    for (start, stop), share in zip(prompt.spans(True), even(count, prompt.sizes), strict=True):
        triples = [(places[index], prompt.tokens[places[index]].hidden, 1) for index in range(start, stop)]
        left.update({place: (token, size) for place, token, size in merge_pairs(triples, share)})
    tokens = []
    for place, token in enumerate(prompt.tokens):
        if place in left:
            hidden, size = left[place]
            tokens.append(Token(hidden, token.position, token.name if size == 1 else -1))
        elif not token.visual:
            tokens.append(token)
    prompt.tokens = tokens


SLOW: dict[str, Rule] = {
    "autoprune": ranked_by("text"),
    "fastv": ranked_by("last"),
    "pyramiddrop": ranked_by("last", coming=True),
    "sparsevlm": sparsevlm,
    "fastervlm": fastervlm,
    "vispruner": vispruner,
    "visionzip": visionzip,
    "tome": tome,
    "divprune": divprune,
    "cdpruner": cdpruner,
    "prune2drive": prune2drive,
    "dart": dart,
    "random-lengths": random_lengths,
    "random": random,
    "uniform": uniform,
}
