"""``senna-prune ask``: one question on any family, as typed first."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from click.testing import CliRunner

from senna_autoprune import SennaPruneError
from senna_autoprune.cli import cli
from senna_autoprune.pruning.methods.registry import build_policy
from senna_autoprune.replay import ask as replay_ask
from senna_autoprune.replay.ask import choose
from senna_autoprune.replay.sources import open_tables
from senna_autoprune.senna import load_senna
from tests.adapters import tiny
from tests.fixtures import shared
from tests.senna.tiny import views


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, view in enumerate(views(2)):
        paths.append(str(folder / f"{number}.png"))
        view.save(paths[-1])
    return paths


def run(*arguments):
    result = CliRunner().invoke(cli, ["ask", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_both_answers_and_what_pruning_did(checkpoint, pictures, tmp_path):
    page = tmp_path / "page.html"
    arguments = ["--model", checkpoint, "--question", "go?", "--retention", "0.5", "--max-new-tokens", "6", "--prompt", "--out", page]
    result = run(*arguments, "--images", *pictures)
    senna = load_senna(checkpoint)
    inputs = senna.processor(images=pictures, text="<image>\n<image>\ngo?")
    with torch.no_grad():
        plain = senna.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        with build_policy("autoprune", retention=0.5)(senna.model) as trace:
            pruned = senna.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    width = inputs["input_ids"].shape[1]
    said = [" ".join(senna.processor.decode_answers(ids, width)[0].split()) for ids in (plain, pruned)]
    words = " ".join(result.output.split())
    assert f"unpruned: {said[0]}" in words and f"autoprune: {said[1]}" in words
    assert ("the answers are the same" in words) == (said[0] == said[1])
    assert f"mutual information {trace[0].mutual_information:.4g}" in words
    assert f"{trace[0].average_tokens:.1f} of 10 visual tokens a layer" in words
    first, *_ = (line.split() for line in result.output.splitlines() if line.startswith("0 "))
    assert first == ["0", "10", "5", "5"] and "view 1  view 2" in result.output
    assert "USER: <image>\n<image>\ngo? ASSISTANT:" in result.output
    assert page.read_text().lstrip().lower().startswith("<!doctype html") and "go?" in page.read_text()


def test_another_family_and_an_adapter_file(pictures, tmp_path):
    folder = tiny.save("llava", tmp_path / "llava")
    adapter = tmp_path / "short.yaml"
    adapter.write_text("generation: {max_new_tokens: 3}\nprompt: {user: 'Look: {asked}'}\n")
    arguments = ["--model", folder, "--question", "Free?", "--method", "fastv", "--retention", "0.6", "--adapter", adapter, "--prompt"]
    result = run(*arguments, "--images", *pictures)
    assert result.exit_code in (0, 3) and "fastv:" in result.output and "for 3 tokens" in result.output
    assert "USER: <image>\n<image>\nLook: " in result.output and "of 32 visual tokens" in result.output
    page = tmp_path / "page.html"
    run(*arguments, "--images", *pictures, "--out", page)
    assert "Look: " not in page.read_text() and "Free?" in page.read_text()  # the question, as it was typed


@pytest.fixture
def tables_once(monkeypatch):
    monkeypatch.setattr(replay_ask, "open_tables", lru_cache(open_tables))


def test_a_keyframe_is_asked_for_its_plan_or_anything_else(tables_once):
    root = str(shared("nuscenes", "subset"))
    plan = choose(scene="scene-0103", dataroot=root)
    assert plan.asked.type == "plan" and len(plan.asked.images) == 6 and plan.asked.facts.keys() == {"speed", "command"}
    second = choose(scene="scene-0103", sample="1", dataroot=root)
    assert second.asked.images != plan.asked.images
    token = second.source.shots[0].question.token
    assert choose(sample=token, dataroot=root).asked.images == second.asked.images
    free = choose(scene="scene-0103", dataroot=root, question="Is it a choice? A. Yes. B. No.")
    assert free.asked.type == "choice" and free.asked.images == plan.asked.images and free.asked.facts == plan.asked.facts
    assert free.asked.text.startswith("<FRONT VIEW>:\n<image>\n") and free.asked.text.endswith("B. No.")
    assert choose().asked.type == "plan"  # embedded


def test_what_cannot_be_asked_is_refused(pictures, tables_once):
    root = str(shared("nuscenes", "subset"))
    for call, message in (
        (lambda: choose(pictures), "--question is missing"),
        (lambda: choose(pictures, "Free?", scene="scene-0103"), "not both"),
        (lambda: choose(pictures, "<image>Free?"), "write one <image> for each of the 2 images"),
        (lambda: choose(scene="scene-0103", sample="7", dataroot=root), "has keyframes 0 to 1 with images"),
        (lambda: choose(scene="scene-0061", sample="3e8750f331d7499e9b5123e9eb70f2e2", dataroot=root), "is of scene-0103, not of"),
        (lambda: run("--out", "page.txt"), r"ends in \.html"),
    ):
        with pytest.raises(SennaPruneError, match=message):
            call()
