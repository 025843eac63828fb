"""A replay as an MP4 for slides: six views with their attribution, answers and the token curve, H.264 through PyAV."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.flips import HARMLESS, SEVERITIES
from senna_autoprune.nuscenes.view_order import TWO_ROWS, places
from senna_autoprune.replay.frames import Frame, Replay
from senna_autoprune.replay.heat import levels, multiples, over_image, palette

SIZE = (1280, 720)  # pixels
KEY_WIDTH = 128  # pixels of the scale
RATE = 10  # pictures a second
HOLD = 10  # pictures a frame: one second
TILE, TOP, GAP = (424, 239), 0, 4
GROUND, TEXT, FAINT, LINE, OTHER = (20, 23, 27), (230, 233, 237), (154, 165, 177), (108, 178, 255), (70, 78, 88)
BAD, ODD, GOOD = (255, 123, 127), (240, 179, 87), (95, 208, 138)


def encoder_fault() -> str | None:
    """What an MP4 lacks here, and the cure: PyAV (the extra ``video``) or its H.264 encoder; None if it can be written."""
    try:
        import av
    except ImportError:
        return "an MP4 needs PyAV: pip install 'senna_autoprune[video]'"
    if not {"libx264", "h264"} & av.codecs_available:
        return "this PyAV has no H.264 encoder: install its wheel"
    return None


def require_encoder() -> None:
    """SennaPruneError if PyAV or its H.264 encoder is missing."""
    fault = encoder_fault()
    if fault is not None:
        raise SennaPruneError(f"{fault}, or name an .html or .mcap file")


def write_video(replay: Replay, path: str | os.PathLike[str]) -> None:
    """Every frame for a second. OSError if the file cannot be written."""
    import av

    require_encoder()
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264" if "libx264" in av.codecs_available else "h264", rate=RATE)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"  # what players and slides can show
        stream.options = {"crf": "21", "preset": "medium"}
        for number in range(len(replay.frames)):
            picture: Any = av.VideoFrame.from_ndarray(draw_frame(replay, number), format="rgb24")
            for _ in range(HOLD):
                picture.pts = None
                container.mux(stream.encode(picture))
        container.mux(stream.encode())


def draw_frame(replay: Replay, number: int) -> np.ndarray:
    """One frame's picture, (720, 1280, 3) uint8 RGB."""
    frame = replay.frames[number]
    canvas = Image.new("RGB", SIZE, GROUND)
    draw = ImageDraw.Draw(canvas)
    for index, (left, top, size) in enumerate(_places(frame)):
        canvas.paste(_tile(frame, index, size, replay.heat_top), (left, top))
        _label(draw, (left, top), _caption(frame, index))
    _texts(draw, replay, number)
    _curve(draw, replay, frame)
    return np.asarray(canvas)


def _places(frame: Frame) -> list[tuple[int, int, tuple[int, int]]]:
    """Left, top and size of each image's tile: six known views on the ring, others in rows."""
    views = frame.shot.views
    columns = 3 if len(views) <= 6 else math.ceil(len(views) / 2)
    width = (SIZE[0] - (columns - 1) * GAP) // columns
    size = (width, TILE[1])
    return [(place % columns * (width + GAP), TOP + place // columns * (TILE[1] + GAP), size) for place in places(views, sum(TWO_ROWS, ()))]


def _tile(frame: Frame, index: int, size: tuple[int, int], top: float) -> Image.Image:
    """An image with the attribution of the kept tokens over it, mean over the layers."""
    tile = Image.new("RGB", size, (0, 0, 0))
    if frame.sight is None:
        return tile
    with Image.open(frame.shot.question.images[index]) as opened:
        image = opened.convert("RGB")
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shares = levels(multiples(frame.sight.mean_heat[index], frame.sight.full[index] > 0), top)
    heat = over_image(shares, frame.sizes[index], inner, frame.sight.place(index))
    colours = palette()[(heat * 255).round().astype(np.uint8)]  # (h, w, 4)
    overlay = Image.fromarray(colours, "RGBA")
    shown = Image.alpha_composite(image.resize(inner, Image.Resampling.LANCZOS).convert("RGBA"), overlay)
    tile.paste(shown.convert("RGB"), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return tile


def _caption(frame: Frame, index: int) -> str:
    name = frame.shot.views[index] or f"view {index + 1}"
    if frame.sight is None:
        return name
    kept = frame.sight.kept[frame.sight.set_of_layer, index]  # (L, T)
    tokens = kept.shape[1] if frame.sight.tokens is None else frame.sight.tokens[index]
    return f"{name}: {kept.sum(1).mean():.1f} of {tokens} tokens a layer"


def _texts(draw: ImageDraw.ImageDraw, replay: Replay, number: int) -> None:
    """What was answered, and what that means; the lower left."""
    frame = replay.frames[number]
    left, y, room = 24, 2 * (TILE[1] + GAP) + 14, 760
    shown = f"{frame.shot.question.scene} · question {frame.shot.question.question} · frame {number + 1} of {len(replay.frames)}"
    draw.text((left, y), _short(draw, shown, room, 22), fill=TEXT, font=_font(22, bold=True))
    draw.text((left, y + 29), _short(draw, f"{replay.method}, {replay.budget}", 330, 15), fill=FAINT, font=_font(15))
    _key(draw, (left + 345, y + 29), replay.heat_top)
    lines, size = _whole(draw, replay.description, room)
    for place, line in enumerate(lines):
        draw.text((left, y + 49 + place * (size + 3)), line, fill=FAINT, font=_font(size))
    y += 53 + len(lines) * (size + 3)
    said = (("label", frame.shot.question.label.strip() or "(none)"), *_answers(frame))
    for name, text in said:
        draw.text((left, y + 2), name, fill=FAINT, font=_font(18))
        draw.text((left + 120, y), _short(draw, text, room - 120), fill=TEXT, font=_font(21, bold=True))
        y += 30
    verdict, colour = _verdict(frame)
    draw.text((left, y + 8), _short(draw, verdict, room, 18), fill=colour, font=_font(18))


def _key(draw: ImageDraw.ImageDraw, corner: tuple[int, int], top: float) -> None:
    """The scale of the heat, one for all pictures of the replay: an even share is clear."""
    (x, y), font = corner, _font(13)
    draw.text((x, y + 1), "attribution over depth: even", fill=FAINT, font=font)
    left = x + round(draw.textlength("attribution over depth: even ", font))
    grey = np.array((154, 154, 154))
    for step, (*colour, alpha) in enumerate(palette()[:: 256 // KEY_WIDTH].tolist()):
        mixed = tuple((grey + (np.array(colour) - grey) * alpha / 255).round().astype(int).tolist())
        draw.line([(left + step, y + 3), (left + step, y + 14)], fill=mixed)
    draw.text((left + KEY_WIDTH + 6, y + 1), f"×{top:g} and more", fill=FAINT, font=font)


def _whole(draw: ImageDraw.ImageDraw, text: str, room: float) -> tuple[list[str], int]:
    """A text in at most two lines, in letters small enough; of one that is longer still the end is kept, where its disclaimer stands."""
    words = plain(text if len(text) <= 300 else f"… {text[-290:]}").split()
    for size in (15, 14, 13, 12):
        lines = _wrapped(draw, words, room, size)
        if len(lines) <= 2:
            return lines, size
    while len(_wrapped(draw, ["…", *words], room, 12)) > 2:
        words = words[1:]
    return _wrapped(draw, ["…", *words], room, 12), 12


def _wrapped(draw: ImageDraw.ImageDraw, words: list[str], room: float, size: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, _font(size)) <= room:
            lines[-1] = longer
        else:
            lines.append(_short(draw, word, room, size))
    return lines or [""]


def _answers(frame: Frame) -> list[tuple[str, str]]:
    rows = (("unpruned", frame.unpruned), ("pruned", frame.pruned))
    return [(name, row.answer if row.answer else f"({row.reason})") for name, row in rows]


def _verdict(frame: Frame) -> tuple[str, tuple[int, int, int]]:
    if frame.flip is not None:
        colour = GOOD if frame.flip == "repaired" else ODD if frame.flip in HARMLESS else BAD
        return f"flip, {frame.flip.replace('_', ' ')}: {SEVERITIES[frame.flip]}", colour
    return ("both answers agree" if frame.agrees else "no comparison"), FAINT


def _curve(draw: ImageDraw.ImageDraw, replay: Replay, frame: Frame) -> None:
    """Tokens over depth, this frame's among all; the lower right."""
    left, right, top, bottom = 850, SIZE[0] - 30, 2 * (TILE[1] + GAP) + 44, SIZE[1] - 40
    most = max((max(f.trace.tokens_per_layer) for f in replay.frames if f.trace), default=1)

    def points(counts: list[int]) -> list[tuple[float, float]]:
        step = (right - left) / max(1, len(counts) - 1)
        return [(left + step * layer, bottom - (bottom - top) * count / most) for layer, count in enumerate(counts)]

    draw.line([(left, top), (left, bottom), (right, bottom)], fill=OTHER, width=1)
    for other in replay.frames:
        if other.trace is not None and other is not frame:
            draw.line(points(other.trace.tokens_per_layer), fill=OTHER, width=1)
    draw.text((left - 8, top - 6), str(most), fill=FAINT, font=_font(13), anchor="ra")
    draw.text((left - 8, bottom - 8), "0", fill=FAINT, font=_font(13), anchor="ra")
    draw.text(((left + right) / 2, bottom + 8), "layer", fill=FAINT, font=_font(13), anchor="ma")
    if frame.trace is not None:
        draw.line(points(frame.trace.tokens_per_layer), fill=LINE, width=3, joint="curve")
        about = f"visual tokens, mean {frame.trace.average_tokens:.0f} of {frame.trace.visual_tokens}"
        if frame.trace.mutual_information is not None:
            about += f"   MI {frame.trace.mutual_information:.3f}"
        draw.text((right, top - 30), about, fill=FAINT, font=_font(15), anchor="ra")


def _label(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str) -> None:
    (x, y), text = corner, plain(text)[:60]
    box = draw.textbbox((x + 6, y + 4), text, font=_font(13))
    draw.rectangle((x, y, box[2] + 6, box[3] + 4), fill=(0, 0, 0))
    draw.text((x + 6, y + 4), text, fill=(255, 255, 255), font=_font(13))


def plain(text: str) -> str:
    """One line of at most 300 characters that can be drawn: a model may say anything, control characters included."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[:2000])
    return " ".join(line.split())[:300]


def _short(draw: ImageDraw.ImageDraw, text: str, room: float, size: int = 21) -> str:
    """One line of at most ``room`` pixels."""
    line = plain(text)
    if draw.textlength(line, _font(size, bold=True)) <= room:
        return line
    while line and draw.textlength(f"{line}…", _font(size, bold=True)) > room:
        line = line[:-1]
    return f"{line}…"


def _font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans, which matplotlib brings along."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size, layout_engine=ImageFont.Layout.BASIC)
