"""Good inputs, as small as they can be, made once: two checkpoints, nuScenes tables, images, questions, a finished run.

Every hostile case starts from a copy of one of them and breaks one thing. That they work unbroken is a test of its own.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from safetensors.torch import save_file

import senna_autoprune.demo
from senna_autoprune.evaluation.measures.parsing import PATHS, SPEEDS
from senna_autoprune.senna.original import original_name
from tests.evaluation.conftest import PLAN, record
from tests.senna.tiny import tiny_model, tiny_processor, views

VERSION = "v1.0-tiny"
VIEWS = 2
KEYFRAMES = 9  # three of them have a plan: six keyframes lie ahead
QUICK = ("--retention", "0.6", "--no-controls", "--resamples", "100", "--max-new-tokens", "2")  # of an eval


@dataclass(frozen=True)
class World:
    """Folders of good inputs. Read only: cases copy what they break."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """A checkpoint in our own layout."""
        return self.folder / "checkpoint"

    @property
    def original(self) -> Path:
        """A checkpoint in the original layout, vision tower inside."""
        return self.folder / "original"

    @property
    def tables(self) -> Path:
        """A data root: one scene of nine keyframes with boxes, six small images each."""
        return self.folder / "tables"

    @property
    def questions(self) -> Path:
        """Two plan questions, two views each; their images are beside them in ``images/``."""
        return self.folder / "questions" / "qa.json"

    @property
    def run(self) -> Path:
        """A finished run of ``eval`` on these questions (made by ``finish_run``)."""
        return self.folder / "run"


def make_world(folder: Path) -> World:
    """Everything but the run."""
    world = World(folder)
    tiny_model().save_pretrained(world.checkpoint)
    tiny_processor().save_pretrained(world.checkpoint)
    _original(world.original)
    _tables(world.tables)
    _questions(world.questions)
    return world


def eval_arguments(questions: Path, model: Path, out: str = "run") -> list[str]:
    """The command line of a quick evaluation."""
    return ["eval", "--model", str(model), "--questions", str(questions), "--out", out, *QUICK]


def good_records() -> list[dict[str, Any]]:
    """The records of the good question file."""
    found = []
    for number, label in enumerate(("KEEP, STRAIGHT\n", "STOP, STRAIGHT\n")):
        names = [f"images/{number}-{view}.png" for view in range(VIEWS)]
        text = PLAN.format(speed="a")
        found.append(record(f"t{number}", names, text, label, senna_prune={"scene": f"scene-{number}"}))
    return found


def jpeg(width: int = 64, height: int = 36, **options: Any) -> bytes:
    """A small noise image as JPEG."""
    file = io.BytesIO()
    views(1)[0].resize((width, height)).save(file, "JPEG", **options)
    return file.getvalue()


def _questions(path: Path) -> None:
    (path.parent / "images").mkdir(parents=True)
    for item in good_records():
        for name, view in zip(item["images"], views(VIEWS), strict=True):
            view.save(path.parent / name)
    path.write_text(json.dumps(good_records()))


def _tables(root: Path) -> None:
    """The first keyframes of the first embedded scene, with tables that hold nothing else."""
    source = Path(senna_autoprune.demo.__file__).parent / "data"
    rows = {path.stem: json.loads(path.read_text()) for path in (source / "v1.0-demo").glob("*.json")}
    scene = rows["scene"][0]
    samples = [row for row in rows["sample"] if row["scene_token"] == scene["token"]][:KEYFRAMES]
    kept = {row["token"] for row in samples}
    samples[-1]["next"] = ""
    scene.update(nbr_samples=len(samples), last_sample_token=samples[-1]["token"])
    rows["scene"], rows["sample"] = [scene], samples
    rows["sample_data"] = [row for row in rows["sample_data"] if row["sample_token"] in kept]
    rows["sample_annotation"] = [row for row in rows["sample_annotation"] if row["sample_token"] in kept]
    for name in ("sample_data", "sample_annotation"):
        tokens = {row["token"] for row in rows[name]}
        for row in rows[name]:
            row.update({key: row[key] if row[key] in tokens else "" for key in ("prev", "next")})
    poses = {row["ego_pose_token"] for row in rows["sample_data"]}
    rows["ego_pose"] = [row for row in rows["ego_pose"] if row["token"] in poses]
    boxes: dict[str, list[str]] = {}
    for row in rows["sample_annotation"]:
        boxes.setdefault(row["instance_token"], []).append(row["token"])
    rows["instance"] = [row for row in rows["instance"] if row["token"] in boxes]
    for row in rows["instance"]:
        found = boxes[row["token"]]
        row.update(nbr_annotations=len(found), first_annotation_token=found[0], last_annotation_token=found[-1])
    (root / VERSION).mkdir(parents=True)
    for name, content in rows.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(content))
    shutil.copytree(source / "maps", root / "maps")
    for row in rows["sample_data"]:
        if row["filename"].endswith(".jpg"):
            (root / row["filename"]).parent.mkdir(parents=True, exist_ok=True)
            (root / row["filename"]).write_bytes(jpeg())


def _original(folder: Path) -> None:
    """The tiny model under the original's names, with a sentencepiece tokenizer trained on a few words."""
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"{speed}, {path} your current speed plan" for speed in SPEEDS for path in PATHS]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    vocabulary = len(sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")))
    config = tiny_model().config.text_config
    config.vocab_size = vocabulary
    model = tiny_model(text_config=config)
    save_file({original_name(name): value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    values = {key: value for key, value in config.to_dict().items() if value is not None and key != "model_type"}
    values.update(model_type="llava_llama", architectures=["SennaLlavaLlamaForCausalLM"], mm_vision_tower="/cluster/home/author/clip")
    values.update(mm_projector_type="mlp2x_gelu", mm_vision_select_layer=-2, mm_vision_select_feature="patch")
    (folder / "config.json").write_text(json.dumps(values))
