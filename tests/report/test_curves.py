"""Fig. 2 from a run: which settings it draws, at which budget, and what it says of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from senna_autoprune.cli import main
from senna_autoprune.demo import LABEL, embedded
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.report import curve_figures, drawing
from senna_autoprune.report.curve_figures import Family, adaptation
from senna_autoprune.report.curves import curves_of, save_curves

LAYERS, TOKENS = 4, 10
SETTINGS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "unpruned": (None, {}),
    "random@0.3": ("random", {"retention": 0.3}),
    "autoprune@0.2": ("autoprune", {"retention": 0.2}),
    "autoprune@0.3": ("autoprune", {"retention": 0.3}),
    "autoprune:curve=linear@0.3": ("autoprune", {"retention": 0.3, "curve": "linear"}),
    "autoprune:mode=release@0.3": ("autoprune", {"retention": 0.3, "mode": "release"}),
    "autoprune@0.4": ("autoprune", {"retention": 0.4}),
    "autoprune@2/view": ("autoprune", {"tokens_per_view": 2.0}),
}


def trace(information: float | None, k: float | None) -> dict[str, Any]:
    kept = {"tokens_per_layer": [TOKENS, 3, 2, 1], "visual_tokens": TOKENS, "retention_tokens": 0.4}
    spent = {"average_tokens": 4.0, "per_view": [4.0], "flops_full": 10.0, "flops_pruned": 4.0, "notes": []}
    return {"mutual_information": information, "k": k, "x0": None if k is None else 2.0, **kept, **spent}


def make_run(folder: Path, settings: dict[str, tuple[str | None, dict[str, Any]]], **places: str) -> Path:
    """A run of three questions; the more complex, the flatter; the last one is clamped."""
    questions = [QuestionRow(i, f"t{i}", "plan", "?", "KEEP, STRAIGHT", (), "s", True, {}) for i in range(3)]
    described = {name: {"method": method, "options": options} for name, (method, options) in settings.items()}
    with RunStore.start(folder, {"config": {}, "identity": {}, "places": places, "settings": described}, questions) as store:
        for name, (method, _) in settings.items():
            for i in range(3):
                found = trace(0.1 * (i + 1), 0.2 - 0.1 * i) if method == "autoprune" else trace(None, None) if method else None
                store.add(AnswerRow(i, name, "ok", answer="KEEP, STRAIGHT", trace=found))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", SETTINGS, model="/models/mine", questions="/data/mine.json")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["senna-prune", "curves", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_the_middle_budget_and_only_curves_that_were_used(run: Path) -> None:
    curves = curves_of(run)
    assert curves.budgets == ["0.2", "0.3", "0.4", "2/view"] and curves.budget == "0.4"
    assert curves.label is None
    there = curves_of(run, "0.3")
    # random has no curve; the release integrates another one
    assert [(one.name, one.curve) for one in there.families] == [("autoprune", "logistic"), ("autoprune, curve linear", "linear")]
    assert [one["mutual_information"] for one in there.families[0].traces] == pytest.approx([0.1, 0.2, 0.3])
    assert there.families[0].flat == 1
    assert [one.name for one in curves_of(run, "2/view").families] == ["autoprune"]


def test_lines_are_the_curves_and_the_kept_tokens(run: Path) -> None:
    """The area under each drawn curve is the budget, and the steps are the trace's own counts."""
    with drawing.style():
        figure = curve_figures.draw_curves(curves_of(run, "0.3").families, "0.3")
    left, right = figure.axes[:2]
    assert len(left.lines) == len(right.lines) == 3
    for line in left.lines:
        depth, share = line.get_data()
        area = ((share[1:] + share[:-1]) / 2 * (depth[1:] - depth[:-1])).sum()
        assert area == pytest.approx(100 * 0.4 * LAYERS, rel=1e-3)
    assert list(right.lines[0].get_ydata()) == pytest.approx([100, 30, 20, 10])
    assert "1 of 3 flat" in left.get_title(loc="left")
    colours = {line.get_color() for line in left.lines}
    assert len(colours) == 3  # by mutual information


def test_many_questions_are_thinned_and_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senna_autoprune.report.curve_figures.CURVE_LIMIT", 2)
    families = curves_of(run, "0.3").families
    with drawing.style():
        figure = curve_figures.draw_curves(families, "0.3")
    assert len(figure.axes[0].lines) == 2 and len(families[0].traces) == 3
    assert "first 2 of 3 questions" in figure.axes[0].get_title(loc="left")


def test_the_command(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "curves.png"
    assert command(monkeypatch, run, "--budget", "0.3", "--out", out) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "budget 0.3"
    assert shown[1].startswith("autoprune: 3 questions, mutual information 0.100 to 0.300 (median 0.200), k 0.000 to 0.200, 1 of them flat")
    assert shown[-1] == str(out)
    with Image.open(out) as picture:
        assert picture.width > 800
    assert command(monkeypatch, run) == 0
    assert capsys.readouterr().out.splitlines()[0] == "budget 0.4 (also there: 0.2, 0.3, 2/view)"
    assert (run / "figures" / "curves-0.4.png").is_file()


def test_embedded_runs_say_so_on_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = embedded()
    assert found is not None
    run = make_run(tmp_path / "run", {"autoprune": ("autoprune", {"retention": 0.25})}, model=str(found.model_dir))
    curves = curves_of(run)
    assert curves.label == LABEL
    monkeypatch.setitem(drawing.STYLE, "svg.fonttype", "none")  # text stays text
    save_curves(curves, tmp_path / "curves.svg")
    assert LABEL in (tmp_path / "curves.svg").read_text()
    assert command(monkeypatch, run, "--out", tmp_path / "a.png") == 0
    assert capsys.readouterr().out.splitlines()[0] == LABEL


def test_the_same_run_gives_the_same_file(run: Path, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save_curves(curves_of(run, "0.3"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_faults_are_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plain = make_run(tmp_path / "plain", {"random": ("random", {"retention": 0.25})})
    (tmp_path / "file").write_text("")
    for arguments, words in (
        ((tmp_path,), "not a run directory"),
        ((plain,), "has no curves"),
        ((run, "--budget", "0.9"), "--budget can be 0.2, 0.3, 0.4, 2/view"),
        ((run, "--out", tmp_path / "x.gif"), ".png, .svg, .pdf"),
        ((run, "--out", tmp_path / "file" / "x.png"), "cannot write the figure"),
    ):
        assert command(monkeypatch, *arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and words in lines[0], lines


def test_a_run_without_settings_is_refused(run: Path, tmp_path: Path) -> None:
    with RunStore.start(tmp_path / "old", {"config": {}, "identity": {}}, []):
        pass
    with pytest.raises(SennaPruneError, match="lists no settings"):
        curves_of(tmp_path / "old")


def spread_traces(low: list[int], high: list[int], flat: bool = False) -> Family:
    """Twenty questions, the first ten simple, the last ten complex."""
    traces = []
    for i in range(20):
        found = trace(0.1 + 0.01 * i, 0.0 if flat else 0.2)
        traces.append({**found, "visual_tokens": 100, "tokens_per_layer": low if i < 10 else high})
    return Family("autoprune", "logistic", traces)


def test_whether_the_method_adapted_is_said_in_words() -> None:
    assert adaptation(spread_traces([100, 60, 20, 5], [100, 40, 40, 30])) == (
        "adapted: layer 3: 5 of 100 tokens at low mutual information, 30 at high"
    )
    same = adaptation(spread_traces([100, 60, 20, 5], [100, 60, 21, 5]))
    assert same.startswith("hardly adapted: at most 1.0 % of the tokens apart (layer 2: ") and "senna-prune calibrate" in same
    flat = adaptation(spread_traces([100, 60, 20, 5], [100, 40, 40, 30], flat=True))
    assert flat.startswith("did not adapt: k is clamped at 0 for 20 of 20 questions") and "senna-prune calibrate" in flat
