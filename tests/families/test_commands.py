"""eval, sweep, replay and report on every family: tiny random checkpoints from disk, real frames, Senna's and DriveLM's questions."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.evaluation.answering.named import in_words, pointed_to
from senna_autoprune.evaluation.runs.store import RunStore

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava_next", "internvl")


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code in (0, 3), result.output
    return result.output


@pytest.fixture(scope="module")
def evaluated(family, questions, frames, tmp_path_factory):
    """(family, questions) -> the finished run's folder and what was printed."""
    runs = {}

    def get(name, asked):
        if (name, asked) not in runs:
            model, options = family(name)
            out = tmp_path_factory.mktemp("run")
            kind = "plan" if asked == "senna" else "choice"
            common = ("--images", frames, "--types", kind, "--out", out, "--retention", 0.5, "--max-new-tokens", 3, "--resamples", 100)
            runs[name, asked] = out, run("eval", "--model", model, *options, "--questions", questions[asked], *common)
        return runs[name, asked]

    return get


@pytest.mark.parametrize("asked", ["senna", "drivelm"])
@pytest.mark.parametrize("name", FAMILIES)
def test_eval(evaluated, name, asked):
    out, printed = evaluated(name, asked)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["questions"]["complete"] == 2, metrics["questions"]["failed"]
    kind = "plan" if asked == "senna" else "choice"
    entry = metrics["settings"]["autoprune"]["measures"][kind]
    assert entry["kind"] == kind and entry["count"] == 2 and entry["unlabelled"] == 0
    assert 0 <= entry["agreement"]["agreement"] <= 1
    assert metrics["settings"]["autoprune"]["cost"]["retention_tokens"] == pytest.approx(0.5, abs=0.05)
    assert ("Planning: 2 questions" if asked == "senna" else "Choices: 2 questions of type choice") in printed
    with RunStore.read(out) as store:
        sent, rows = store.sent(), store.answers()
        for row in rows:
            text, missing = sent[row.question, row.setting]
            words = "SPEED plan" if asked == "senna" else "Please select the correct answer"
            assert words in text and "<FRONT VIEW>:" in text and missing == 0
        assert all(row.trace["per_view"] and len(row.trace["per_view"]) == 6 for row in rows if row.trace)


SWEPT = [("qwen2_5_vl", "drivelm"), ("qwen3_vl", "drivelm"), ("llava_next", "senna"), ("internvl", "drivelm")]


@pytest.mark.parametrize(("name", "asked"), SWEPT)
def test_sweep(family, questions, frames, tmp_path, name, asked):
    model, options = family(name)
    kind, out = "plan" if asked == "senna" else "choice", tmp_path / "sweep"
    common = ("--images", frames, "--types", kind, "--out", out, "--retention", 0.5, "--max-new-tokens", 2, "--resamples", 100)
    methods = ("--methods", "autoprune,fastervlm", "--no-figures")
    run("sweep", "--model", model, *options, "--questions", questions[asked], *common, *methods)
    table, page = json.loads((out / "table.json").read_text()), (out / "table.md").read_text()
    cells = {cell["row"]: cell for cell in table["cells"]}
    assert cells["autoprune"]["status"] == "ok" and cells["autoprune"]["agreement"] is not None
    assert table["facts"]["questions"] == 2 and table["facts"]["type"] == kind
    if name == "llava_next":
        assert cells["fastervlm"]["status"] == "ok" and "Retention of planning accuracy" in page
    else:  # no [CLS] to rank by: said, not approximated
        assert cells["fastervlm"]["status"] == "n/a" and "CLS" in cells["fastervlm"]["reason"]
        assert "Retention of the accuracy of choice answers" in page
    assert not table["paper"]["rows"] or asked == "senna"
    run("report", out)


@pytest.mark.parametrize("name", FAMILIES)
def test_replay_and_report(evaluated, name):
    """Every cell of every view is looked at by the unpruned model, and less of them by the pruned one; the page and the report open."""
    out, _ = evaluated(name, "senna")
    with RunStore.read(out) as store:
        scene = store.questions()[0].scene
        named = shlex.split(in_words(pointed_to(store.config)))
    printed = run("replay", "--run", out, *named, "--scene", scene, "--out", out / "replay.html")
    assert "1 frames" in printed and "differ from those the run stored" not in printed
    page = (out / "replay.html").read_text()
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    (frame,) = data["frames"]
    assert [image["view"] for image in frame["images"]][:1] == ["front"] and len(frame["images"]) == 6
    assert sum(image["tokens"] for image in frame["images"]) == frame["trace"]["visual_tokens"]
    assert min(min(left) for left in frame["sight"]["left"]) < 1
    assert max(max(left) for left in frame["sight"]["left"]) == pytest.approx(1, abs=1e-3)
    run("report", out, "--no-replay")
    assert "agrees" in (out / "report.html").read_text()


def test_attention_and_calibrate(family, questions, frames, tmp_path):
    """Fig. 1 of a family in tiles of two scales, and indicators without labels."""
    model, options = family("llava_next")
    asked = ("--model", model, *options, "--questions", questions["senna"], "--images", frames)
    printed = run("attention", *asked, "--layers", "0,2", "--out", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert printed.count("of the text's attention on the views") == 2 and "front left" in printed and "total variation" in printed
    assert "2 questions measured" in run("calibrate", *asked, "--count", 2)


@pytest.mark.parametrize("name", ["llava_next", "qwen2_5_vl"])
def test_survival(evaluated, family, questions, frames, tmp_path, name):
    """Boxes of the tables found again in tiles of two scales and in merged squares; chance is what a random choice keeps."""
    model, options = family(name)
    asked = ("--model", model, *options, "--questions", questions["senna"], "--images", frames, "--dataroot", frames)
    run(
        "survival",
        *asked,
        "--methods",
        "autoprune,random",
        "--retention",
        "0.5,1.0",
        "--run",
        evaluated(name, "senna")[0],
        "--out",
        tmp_path,
    )
    found = json.loads((tmp_path / "survival.json").read_text())
    by_name = {(facts["method"], facts["retention"]): setting for setting, facts in found["settings"].items()}
    whole = found["measures"][by_name["autoprune", 1.0]]["all"]
    assert whole["mean"] == pytest.approx(1) and whole["objects"] > 20 and found["model"]["layout"] == name
    half = found["measures"][by_name["random", 0.5]]["all"]
    assert half["chance"] == pytest.approx(0.5, abs=0.02) and abs(half["gain"]["value"]) < 0.2
    assert set(half and found["measures"][by_name["random", 0.5]]["view"]) >= {"front", "back"}


def test_budget_without_labels(family, questions, frames, tmp_path):
    """A certificate over agreement on a checkpoint of another family: twelve scenes made of two samples, and no label anywhere."""
    model, options = family("qwen2_5_vl")
    records = []
    for scene in range(12):
        record = json.loads(questions["senna"].read_text())[scene % 2]
        words = [("human", "<image>\n" * 6 + "What would you do next?"), ("gpt", "")]
        record["conversations"] = [{"from": who, "value": said} for who, said in words]
        records.append({**record, "token": f"{record['token']}-{scene}", "senna_prune": {"scene": f"scene-{scene}"}})
    path, out = tmp_path / "unlabelled.json", tmp_path / "run"
    path.write_text(json.dumps(records))
    asked = ["budget", "--model", model, *options, "--questions", path, "--images", frames, "--types", "other", "--out", out]
    stated = ["--max-new-tokens", 2, "--margin", 60, "--safety", 30, "--grid", "0.5", "--choose-share", 0, "--looks", 1]
    ended = CliRunner().invoke(cli, [str(word) for word in (*asked, *stated)], catch_exceptions=False)
    assert ended.exit_code in (0, 4, 5), ended.output
    found = json.loads((out / "budget.json").read_text())
    assert found["measure"] == "agreement" and len(found["halves"]["certify"]) == 12
    assert found["sentence"] in ended.output and (out / "report.html").is_file()
    if found["exit_code"] != 5:
        assert found["sequence"][0]["looks"][0]["questions"] == 12
