"""A replay as one HTML file: no network, no server; images and numbers are inside.

Strings of a checkpoint or a question file never become markup: the template escapes, the data travel as JSON without
``<``, ``>`` and ``&``, the script sets text only, and a content security policy lets no other script run.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from senna_autoprune.errors import visible
from senna_autoprune.evaluation.measures.flips import HARMLESS, SEVERITIES
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.nuscenes.strings import strings
from senna_autoprune.replay.heat import extremes, image_crop, levels, multiples, palette
from senna_autoprune.replay.pages import OURS, base64_text, environment, jpeg_uri, page_file, page_style

if TYPE_CHECKING:
    from senna_autoprune.replay.frames import Frame, Replay, Sight

IMAGE_WIDTH = 800  # pixels of an embedded image, at most
JPEG_QUALITY = 80
THROUGH = {"projector": "projector and adapter", "adapter": "the adapter"}


def render_page(replay: Replay) -> str:
    """The whole page."""
    from markupsafe import Markup

    script = page_file(OURS, "replay.js")
    digest = base64_text(hashlib.sha256(script.encode()).digest())
    return (
        environment(OURS)
        .get_template("replay.html.j2")
        .render(
            replay=replay,
            through=THROUGH[replay.through],
            style=Markup(page_style(OURS, "replay.css")),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            data=Markup(script_json(page_data(replay))),
        )
    )


def script_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element or open another."""
    text = json.dumps(_visible(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _visible(value: Any) -> Any:
    """JSON-ready data whose texts neither turn the order of reading round (bidi) nor hold what is no character."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {key: _visible(one) for key, one in value.items()}
    return [_visible(one) for one in value] if isinstance(value, (list, tuple)) else value


def page_data(replay: Replay) -> dict[str, Any]:
    """What the script reads."""
    seen = [frame for frame in replay.frames if frame.sight is not None and frame.trace is not None]
    layers = max((len(frame.sight.set_of_layer) for frame in seen if frame.sight), default=1)
    times = [frame.shot.timestamp_us for frame in replay.frames if frame.shot.timestamp_us is not None]
    one_scene = len({frame.shot.question.scene for frame in replay.frames}) == 1
    start = min(times) if times and one_scene else None  # of several scenes there is no common clock
    return {
        "palette": base64_text(palette().tobytes()),
        "layers": layers,
        "start_layer": layers // 2,
        "heat_top": replay.heat_top,
        "tokens": seen[0].sight.kept.shape[2] if seen and seen[0].sight else 0,
        "grid": round(seen[0].sight.full.shape[1] ** 0.5) if seen and seen[0].sight else 1,
        "frames": [_frame_data(frame, start, replay.heat_top) for frame in replay.frames],
    }


def _frame_data(frame: Frame, start_us: int | None, top: float) -> dict[str, Any]:
    question, time = frame.shot.question, frame.shot.timestamp_us
    return {
        "number": question.question,
        "scene": question.scene,
        "token": question.token,
        "time_s": None if time is None or start_us is None else (time - start_us) / 1e6,
        "question": question.text.removeprefix(strings()["image_prompt"]).strip(),
        "label": question.label.strip(),
        "unpruned": _answer_data(frame, frame.unpruned),
        "pruned": _answer_data(frame, frame.pruned),
        "agrees": frame.agrees,
        "flip": _flip_data(frame.flip),
        "trace": _trace_data(frame),
        "images": _images_data(frame),
        "sight": None if frame.sight is None else _sight_data(frame.sight, top),
    }


def _answer_data(frame: Frame, row: AnswerRow) -> dict[str, Any]:
    right = None
    if frame.shot.question.type == "plan" and parse_plan(frame.shot.question.label).valid and row.answer is not None:
        right = parse_plan(row.answer) == parse_plan(frame.shot.question.label)
    return {"text": row.answer, "reason": row.reason, "right": right, "prefill_ms": row.prefill_ms}


def _flip_data(flip: str | None) -> dict[str, str] | None:
    if flip is None:
        return None
    kind = "repaired" if flip == "repaired" else "harmless" if flip in HARMLESS else "harmful"
    return {"name": flip, "kind": kind, "meaning": SEVERITIES[flip]}


def _trace_data(frame: Frame) -> dict[str, Any] | None:
    if frame.trace is None:
        return None
    names = ("mutual_information", "k", "x0", "visual_tokens", "tokens_per_layer", "average_tokens", "retention_tokens")
    trace = {name: getattr(frame.trace, name) for name in (*names, "flops_full", "flops_pruned")}
    return {**trace, "merged": frame.trace.merged_per_layer}


def _sight_data(sight: Sight, top: float) -> dict[str, Any]:
    share = sight.heat / np.maximum(sight.full, np.finfo(np.float32).tiny)  # (S, V, P)
    content = np.broadcast_to(sight.full > 0, sight.heat.shape)
    return {
        "set_of_layer": sight.set_of_layer,
        "width": sight.kept.shape[2],
        "patches": sight.full.shape[1],
        "kept": [base64_text(np.packbits(kept).tobytes()) for kept in sight.kept],
        "heat": [base64_text(_levels(heat)) for heat in levels(multiples(sight.heat, content), top)],
        "extremes": extremes(sight.heat, content).round(2).tolist(),
        "left": (sight.heat.sum(-1) / np.maximum(sight.full.sum(-1), np.finfo(np.float32).tiny)).round(4).tolist(),
        "share": [base64_text(_levels(part)) for part in share],
    }


def _images_data(frame: Frame) -> list[dict[str, Any]]:
    if frame.sight is None:
        return []
    sight, grid = frame.sight, round(frame.sight.full.shape[1] ** 0.5)
    pairs: Sequence[tuple[str, str]] = list(zip(frame.shot.question.images, frame.shot.views, strict=True))
    found = []
    for index, ((path, view), size) in enumerate(zip(pairs, frame.sizes, strict=True)):
        source, width, height = _embedded(path)
        place = sight.place(index)
        cells, crop = ([grid, grid], image_crop(*size, grid)) if place is None else ([place.columns, place.rows], place.crop)
        tokens = sight.kept.shape[2] if sight.tokens is None else sight.tokens[index]
        shown = {"view": view, "src": source, "width": width, "height": height}
        found.append({**shown, "crop": list(crop), "cells": cells, "tokens": tokens})
    return found


def _embedded(path: str) -> tuple[str, int, int]:
    """An image as a data URI, its width and height: JPEG files of at most 800 pixels as they are, others scaled."""
    with Image.open(path) as image:
        if image.format == "JPEG" and image.width <= IMAGE_WIDTH:
            with open(path, "rb") as raw:
                return jpeg_uri(raw.read()), *image.size
        scale = min(1.0, IMAGE_WIDTH / image.width)
        size = (round(image.width * scale), max(1, round(image.height * scale)))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=JPEG_QUALITY)
    return jpeg_uri(file.getvalue()), *size


def _levels(values: np.ndarray) -> bytes:
    return (values.clip(0, 1) * 255).round().astype(np.uint8).tobytes()
