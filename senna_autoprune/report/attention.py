"""The paper's Fig. 1 for one question: where its text looks, layer by layer, and how much that moves on the way down.

A layer's attention is the mean over heads and over the text tokens after the last view of the unpruned model's softmax
attention to each visual token: the very numbers by which AutoPrune ranks tokens. Divided by their sum they are a
distribution p over the visual tokens of all views. How far it moves from layer to layer (``Movement``) is measured on p,
not on the picture: Senna's tokens are mixtures of patches, so what is drawn is each token's share, spread over the patches
of its view by its attribution (replay/attribution.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.adapters.model import until_end
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import asked_of
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.files.yaml_files import build
from senna_autoprune.nuscenes import view_order
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.decoder.models import find_decoder
from senna_autoprune.pruning.parts.selection import top_tokens
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.replay.attribution import Through, kept_attribution, normalised, token_attribution
from senna_autoprune.replay.frames import seen_patches, seen_places, shown_shot
from senna_autoprune.replay.heat import over_image, palette
from senna_autoprune.replay.places import Place, stacked
from senna_autoprune.replay.setup import embedded_parts
from senna_autoprune.replay.sources import Shot, open_tables, scene_source, views_of
from senna_autoprune.report.drawing import save, sign, style
from senna_autoprune.senna.images import content_patches, open_image

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna

STRONGEST = 0.25  # share of the visual tokens whose staying is counted: the default retention
MAX_NEW_TOKENS = 32
PANEL = (320, 180)  # pixels of a view


@dataclass(frozen=True)
class Movement:
    """How far attention moved between two layers with the distributions p and q over the same visual tokens.

    total_variation: sum |p - q| / 2, the share of the attention that lies elsewhere (Levin & Peres, "Markov Chains and
        Mixing Times", 4.1). 0: nothing moved; 1: no token in common.
    jensen_shannon: divergence in bits, 0 to 1 (Lin, "Divergence measures based on the Shannon entropy", 1991).
    staying: share of the strongest quarter of the tokens that is in the strongest quarter of both: of what a pruner at
        25 % would keep by the upper layer, how much it would keep by the lower one.
    """

    total_variation: float
    jensen_shannon: float
    staying: float


@dataclass(frozen=True)
class LayerAttention:
    """One layer's attention of T tokens in each of V views with P patches.

    on_views: share of the text's attention that goes to visual tokens at all.
    tokens: (V, T) p, sums to 1. heat: (V, P) the same over the patches, sums to 1, nothing on padding.
    moved: from the layer drawn above, None for the first.
    """

    layer: int
    on_views: float
    tokens: np.ndarray
    heat: np.ndarray
    moved: Movement | None = None

    @property
    def views(self) -> np.ndarray:
        """(V,) share of each view."""
        return self.tokens.sum(-1)


@dataclass(frozen=True)
class QuestionAttention:
    """What ``look`` found. images: paths that can be opened, in the prompt's order; views: what they show, "" where nobody knows.

    patches: (V, P) bool, False at padding. places: where the cells of each view lie; None: Senna's padded square.
    """

    model: str
    question: QuestionRow
    images: tuple[Path, ...]
    answer: str
    layers: list[LayerAttention]
    patches: np.ndarray
    through: Through
    views: tuple[str, ...] = ()
    places: tuple[Place, ...] | None = None


@dataclass(frozen=True)
class Choice:
    """A question and the model that shall answer it.

    root: folder of the image paths. views: what each image shows. name: for a file. label: what must be said of a picture.
    said: what was chosen in the user's place.
    """

    model: str
    question: QuestionRow
    root: Path
    views: tuple[str, ...]
    name: str
    label: str | None
    said: list[str]


@dataclass(kw_only=True)
class Watch(Policy):
    """Prunes nothing, and notes the mean attention to the visual tokens, (V,), in some layers."""

    layers: tuple[int, ...]
    retention: float | None = 1.0
    seen: dict[int, Tensor] = field(default_factory=dict)

    def probes(self, layers: int) -> tuple[int, ...]:
        """The watched layers."""
        return self.layers

    def measure(self, context: PromptContext, layer: int) -> None:
        """Note the layer's attention."""
        assert context.attention is not None
        self.seen[layer] = context.attention.mean_to_visual()

    def allocate(self, context: PromptContext) -> Allocation:
        """Everything, everywhere."""
        return Allocation((context.visual,) * context.layers)


def movement(before: np.ndarray, after: np.ndarray) -> Movement:
    """Between two distributions over the same visual tokens, any shape. Equal tokens rank by their index."""
    from scipy.spatial.distance import jensenshannon

    p, q = (np.asarray(values, dtype=np.float64).ravel() for values in (before, after))
    count = max(1, round(STRONGEST * len(p)))
    strongest = [set(top_tokens(torch.from_numpy(values), count).tolist()) for values in (p, q)]
    return Movement(
        total_variation=float(np.abs(p - q).sum() / 2),
        jensen_shannon=float(jensenshannon(p, q, base=2) ** 2),
        staying=len(strongest[0] & strongest[1]) / count,
    )


def choose(
    model: str | None = None,
    questions: str | None = None,
    question: int | None = None,
    images: str | None = None,
    scene: str | None = None,
    keyframe: int | None = None,
    dataroot: str | None = None,
    version: str | None = None,
) -> Choice:
    """A question of a file, or the planning question at a keyframe of a scene; what is not given comes from the embedded data.

    Args:
        question: its place in the file, from 0, as runs number it; None: the first.
        scene: name, token, or a sample's token; None: the scene with most images. keyframe: from 0, of those with images.
    Raises:
        SennaPruneError: both ways at once, no such question, scene or keyframe, or nothing embedded to stand in.
    """
    from senna_autoprune.demo import embedded

    if (questions or images or question is not None) and (scene or dataroot or version or keyframe is not None):
        raise SennaPruneError("give a question of a file (--questions, --question) or a keyframe of a scene (--scene, --keyframe)")
    by_scene = bool(scene or dataroot or version) or keyframe is not None
    found = embedded()
    missing = [name for name, given in (("model", model), ("scenes" if by_scene else "questions", dataroot or questions)) if not given]
    if missing and found is None:
        raise SennaPruneError("no embedded data to stand in: give --model DIR, and --questions FILE or --dataroot DIR")
    said = [f"using the embedded {' and '.join(missing)} (none given)"] if missing else []
    model = model or str(found.model_dir)  # type: ignore[union-attr]
    if by_scene:
        dataroot = dataroot or str(found.dataroot)  # type: ignore[union-attr]
        source = scene_source(open_tables(dataroot, version), scene)
        if not 0 <= (keyframe or 0) < len(source.shots):
            raise SennaPruneError(f"--keyframe {keyframe}: {source.title} has keyframes 0 to {len(source.shots) - 1} with images")
        shot = source.shots[keyframe or 0]
        name = f"{source.title}-{keyframe or 0}"
        return Choice(model, shot.question, Path(), shot.views, name, embedded_parts(model, dataroot), said)
    questions = questions or str(found.questions_file)  # type: ignore[union-attr]
    rows, root = load_questions(build(AskConfig, {"questions": questions, "images": images, "types": "all"}, "the command line"))
    row = rows[0] if question is None else next((one for one in rows if one.question == question), None)
    if row is None:
        raise SennaPruneError(f"--question {question}: {questions} has questions {rows[0].question} to {rows[-1].question}")
    return Choice(model, row, root, views_of(row.images), f"{row.scene}-question-{row.question}", embedded_parts(model, root), said)


def default_layers(depth: int) -> tuple[int, ...]:
    """The first two layers, the ends of the first and the second quarter, the last: 0, 1, 4, 8, 15 of 16."""
    return tuple(sorted({0, min(1, depth - 1), depth // 4, depth // 2, depth - 1}))


def look(
    model: DrivingModel | Senna,
    question: QuestionRow,
    root: Path = Path(),
    layers: Sequence[int] | None = None,
    prompt_template: str = "eval",
    through: Through = "projector",
) -> QuestionAttention:
    """Ask one question unpruned and watch its attention.

    Args:
        root: folder of the question's image paths.
        layers: drawn ones, 0 to L - 1; None: ``default_layers``. They are sorted, and each counts once.
        through: attribution goes back through projector and adapter, or through the adapter alone.
    Raises:
        SennaPruneError: no such layer, a broken image or prompt, weights that are not finite, or a family of which it is not known
            where a token is.
    """
    driving = driving_model(model, prompt_template)
    depth = find_decoder(driving.model).config.num_hidden_layers
    wanted = default_layers(depth) if layers is None else tuple(sorted(set(layers)))
    wrong = [layer for layer in wanted if not 0 <= layer < depth]
    if wrong or not wanted:
        raise SennaPruneError(f"--layers {', '.join(map(str, wrong)) or 'is empty'}: the model has layers 0 to {depth - 1}")
    asked, watch = asked_of(question, root), Watch(layers=wanted)
    with torch.inference_mode(), seen_patches(driving.model) as patches:
        prepared = driving.prepare(asked, driving.see(asked))
        with watch(driving.model) as trace:
            ids = driving.generate([prepared], MAX_NEW_TOKENS).ids
    answer = driving.answer(until_end(ids[0], driving.model.generation_config))
    images = tuple(Path(str(picture.source)) for picture in prepared.pictures)
    sizes = [open_image(image).size for image in images]
    places = None
    if "projected" in patches:
        grid = driving.processor.image_processor.image_size // driving.processor.image_processor.patch_size
        content = np.stack([content_patches(*size, grid).ravel() for size in sizes])  # (V, P)
        features = patches["features"] if through == "projector" else None
        attribution = token_attribution(driving.model, patches["projected"], features, torch.from_numpy(content))  # (V, T, P)
        counts = tuple(trace[0].view_sizes)
        if len(set(counts)) != 1:
            raise SennaPruneError(f"the views have {', '.join(map(str, counts))} tokens: only views of one size can be drawn")
    else:
        places, covers, counts = seen_places(driving, sizes, trace[0].visual_tokens, asked.where)
        attribution = stacked(covers)
        content = (attribution.sum(1) > 0).numpy()
    found = [_layer(layer, watch.seen[layer].cpu(), normalised(attribution), counts) for layer in wanted]
    there = np.arange(attribution.shape[1]) < np.array(counts)[:, None]  # (V, T)
    checkpoint = driving.provenance.get("checkpoint", "")
    views = shown_shot(Shot(question, ("",) * len(question.images)), prepared.pictures).views
    views = views if any(views) else views_of([str(image) for image in images])
    return QuestionAttention(checkpoint, question, images, answer, _moved(found, there), content, through, views, places)


def _layer(layer: int, attention: Tensor, attribution: Tensor, counts: Sequence[int]) -> LayerAttention:
    """attention (sum of counts,) as the layer gave it; attribution (V, T, P), each token's shares of its patches."""
    total = float(attention.sum())
    if not 0 < total < float("inf"):
        raise SennaPruneError(f"the attention of layer {layer} to the views sums to {total}: broken weights, or a dtype too small")
    parts = (attention / total).split(list(counts))
    tokens = torch.stack([torch.nn.functional.pad(part, (0, attribution.shape[1] - len(part))) for part in parts])  # (V, T)
    return LayerAttention(layer, total, tokens.numpy(), kept_attribution(attribution, tokens).numpy())


def _moved(layers: Sequence[LayerAttention], there: np.ndarray) -> list[LayerAttention]:
    """``there``: (V, T), False where a view has fewer tokens than the largest."""
    pairs = zip(layers, layers[1:], strict=False)
    return [*layers[:1], *(replace(after, moved=movement(before.tokens[there], after.tokens[there])) for before, after in pairs)]


# --- drawing ----------------------------------------------------------------------------------------------------------


def save_attention(found: QuestionAttention, views: Sequence[str], out: Path, label: str | None = None) -> None:
    """Draw it to a file (.png, .svg or .pdf). SennaPruneError if it cannot be written.

    Args:
        views: what each image shows, "" where nobody knows. label: what must be said of model and images.
    """
    with style():
        figure = draw_attention(found, views, label)
        save(figure, out)


def draw_attention(found: QuestionAttention, views: Sequence[str], label: str | None = None) -> Any:
    """The images, and below them a row a layer: heat over the images, one colour scale a row, shares of the views."""
    from matplotlib import pyplot
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    places = view_order.places(views, view_order.PANORAMA)
    order = sorted(range(len(views)), key=places.__getitem__)
    pictures = [open_image(image) for image in found.images]
    thumbs = [np.asarray(picture.resize(PANEL)) for picture in pictures]
    colours = ListedColormap(palette() / 255)
    rows, columns = 1 + len(found.layers), len(order)
    lines = _header(found, 35 * columns, label)
    width, top = 1.1 + 2.0 * columns + 1.6, 0.19 * len(lines) + 0.35  # inches
    height = top + 1.3 * rows
    figure = pyplot.figure(figsize=(width, height))
    for number, (text, weight) in enumerate(lines):
        figure.text(0.1 / width, 1 - (0.05 + 0.19 * number) / height, text, va="top", fontsize=9, fontweight=weight, parse_math=False)
    edges = {"left": 1.1 / width, "right": 1 - 1.5 / width, "top": 1 - top / height, "bottom": 0.02}
    grid = figure.add_gridspec(rows, columns + 1, **edges, wspace=0.04, hspace=0.22, width_ratios=[1] * columns + [0.05])
    for place, view in enumerate(order):
        axis = _panel(figure.add_subplot(grid[0, place]), thumbs[view])
        axis.set_title(views[view] or f"view {view + 1}", fontsize=9, parse_math=False)
    for down, one in enumerate(found.layers, start=1):
        times_even = one.heat * found.patches.sum()  # an even share of all content is 1
        content = times_even[found.patches]
        scale = Normalize(float(content.min()), max(float(content.max()), float(content.min()) + 1e-6))
        for place, view in enumerate(order):
            axis = _panel(figure.add_subplot(grid[down, place]), thumbs[view])
            cells = None if found.places is None else found.places[view]
            heat = over_image(times_even[view], pictures[view].size, PANEL, cells)
            axis.imshow(heat, cmap=colours, norm=scale, interpolation="nearest")
            axis.set_title(f"{one.views[view]:.0%}", fontsize=8, pad=2)
            if place == 0:
                axis.set_ylabel(f"layer {one.layer}\n{one.on_views:.0%} on views", rotation=0, ha="right", va="center", fontsize=9)
        bar = figure.add_subplot(grid[down, columns])
        figure.colorbar(ScalarMappable(scale, colours), cax=bar)
        bar.tick_params(labelsize=7)
        if down == 1:
            bar.set_title("times an\neven share", fontsize=7, loc="left")
        if one.moved is not None:
            bar.text(4.5, 0.5, _moved_words(one.moved, found.layers[down - 2].layer), transform=bar.transAxes, va="center", fontsize=8)
    sign(figure, label)
    return figure


def _panel(axis: Any, thumb: np.ndarray) -> Any:
    axis.imshow(thumb)
    axis.grid(False)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    return axis


def _moved_words(moved: Movement, before: int) -> str:
    return (
        f"since layer {before}:\n{moved.total_variation:.0%} moved (TV)\nJS {moved.jensen_shannon:.3f} bit\n"
        f"{moved.staying:.0%} of the strongest\n{STRONGEST:.0%} stay (chance: {STRONGEST:.0%})"
    )


def _header(found: QuestionAttention, width: int, label: str | None) -> list[tuple[str, str]]:
    """Lines of at most about ``width`` characters with their weights: answer, question, model, what is drawn."""
    question = found.question
    asked = " ".join(question.text.rsplit("<image>", 1)[-1].split())  # without the views' names before it
    answer = f"answer: {found.answer.strip() or '(no text)'}     label: {question.label.strip() or '(none)'}"
    model = "" if label is not None and label.startswith("embedded model") else f"Model: {found.model}. "
    through = "the projector and the adapter" if found.through == "projector" else "the adapter"
    spread = f"spread over the patches of its view by attribution through {through}" if found.places is None else "drawn where its patch is"
    drawn = (
        f"{model}Text-to-image attention, unpruned: mean over heads and over the text after the views; a token's share is {spread}. "
        "Above each view: its share."
    )
    lines = [(line, "bold") for line in wrap(answer, width)[:2]]
    lines += [(line, "normal") for text in (asked, drawn) for line in wrap(text, width)[:3]]
    return [("".join(sign if sign.isprintable() else " " for sign in line), weight) for line, weight in lines]
