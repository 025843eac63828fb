"""Certificates over choices, over paths in metres and without any label, on models by rule; what a figure cannot be is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm, t

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.budget.config import BudgetConfig
from senna_autoprune.evaluation.budget.outcome import outcome_of
from senna_autoprune.evaluation.budget.search import search
from senna_autoprune.evaluation.measures.distances import Gains
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.nuscenes.futures import Future
from senna_autoprune.report.budget import write_budget_report
from senna_autoprune.tables.budget import grids
from tests.evaluation.budget.fake import FakeEngine, share_of, without_waiting

POINTS_IN = {"parse": {"kind": "waypoints", "dt": 0.5, "count": 6}}
CHOICES = "\nA. Stop. B. Go on. C. Turn."


@pytest.fixture(scope="module", autouse=True)
def quick_store() -> Iterator[None]:
    with without_waiting():
        yield


@dataclass
class Adapted(FakeEngine):
    """A model by rule behind an adapter."""

    adapter: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> Any:
        return replace(super().facts(), adapter=self.adapter)


def straight(metres: float, aside: float = 0.0) -> str:
    return " ".join(f"[{aside:.2f}, {metres * (step + 1):.2f}]" for step in range(6))


def file_of(folder: Path, records: list[tuple[str, str]], each: int = 3) -> Path:
    """A question file of (text, label), ``each`` a scene."""
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    made = []
    for index, (text, label) in enumerate(records):
        turns = [{"from": "human", "value": f"<image>\n{text} {index}?"}, {"from": "gpt", "value": label}]
        facts = {"scene": f"scene-{index // each:03}", "type": "choice" if "A. " in text else "other"}
        made.append({"token": f"t{index}", "image": "a.png", "images": ["a.png"], "conversations": turns, "senna_prune": facts})
    path = folder / "qa.json"
    path.write_text(json.dumps(made))
    return path


def config(path: Path, **changes: Any) -> BudgetConfig:
    values = {"questions": str(path), "out": str(path.parent / "run"), "grid": "0.1:0.4:0.1", "safety": 9.0, "types": ("other",)}
    return BudgetConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 scenes of three questions, labelled with a path."""
    return file_of(tmp_path_factory.mktemp("paths"), [("Where", straight(1 + index % 3)) for index in range(240)])


def drifting(question: Any, setting: str) -> str:
    """Off by some centimetres; below a quarter of the tokens by half a metre more in every scene; blind it is a metre and a half aside."""
    true, aside = 1 + question.question % 3, 0.2 + 0.01 * (question.question % 5)
    share = share_of(setting)
    if setting == "no-image":
        return straight(true, 1.5)
    if share == 1:
        return straight(true, aside)
    return straight(true, aside + (0.5 if share < 0.25 else 0.01 * (question.question % 2)))


def test_metres_of_l2_and_a_slow_twin(paths: Path, tmp_path: Path) -> None:
    found = search(config(paths, out=str(tmp_path / "run"), margin=0.3), Adapted(drifting, adapter=POINTS_IN)).certificate
    assert found["measure"] == "l2" and found["over"]["figure"] == "l2_stp3_3s" and found["exit_code"] == 0
    assert found["sentence"] == (
        "30 % of tokens with autoprune: not worse by more than 0.30 m (95 %, 40 scenes), no newly dangerous flip in 40 scenes "
        "(at most 7.5 % of scenes); 20 % was not shown to be safe"
    )
    look = found["sequence"][1]["looks"][-1]
    assert look["difference"] == pytest.approx(-0.005, abs=0.002)
    # again, question by question
    rows = json.loads(paths.read_text())
    wanted = set(found["halves"]["certify"][: look["scenes"]])
    losses: dict[str, list[float]] = {}
    for index, record in enumerate(rows):
        scene = record["senna_prune"]["scene"]
        if scene in wanted:
            question = QuestionRow(index, "", "other", "", "", (), scene, True, {})
            gap = [_error(drifting(question, name), record["conversations"][1]["value"]) for name in ("unpruned", "autoprune@0.3")]
            losses.setdefault(scene, []).append(gap[0] - gap[1])
    sums, event, scenes = np.array([sum(one) for one in losses.values()]), found["over"]["event"], len(losses)
    mean = sums.sum() / (3 * scenes)
    error = math.sqrt((((sums - 3 * mean) ** 2).sum() + 3 * (3 * event) ** 2) / (scenes - 1) / scenes) / 3
    z = norm.ppf(t.cdf((mean - event / scenes + 0.3) / error, scenes - 1))
    assert look["z"] == pytest.approx(z, abs=1e-6) and look["difference"] == pytest.approx(mean)
    level = norm.sf(look["bound"])
    assert look["lower"] == pytest.approx(mean - event / scenes - t.ppf(1 - level, scenes - 1) * error)
    assert 1.2 < event < 1.4 and found["controls"][1]["setting"] == "mean-path"
    table = grids(found)[0]
    assert table.title == "Certificate: margin 0.30 m, at most 9.0 % of scenes newly dangerous" and table.columns[2] == "metres"
    assert "further from the true path" in table.notes[0] and "paths by 0.000 m" in " ".join(table.notes)
    assert "0.30 m" in write_budget_report(tmp_path / "run").files[0].read_text()


def _error(answer: str, label: str) -> float:
    """Mean over six waypoints of the distance, one by one."""
    points = [[[float(x) for x in pair.split(", ")] for pair in text.strip("[]").split("] [")] for text in (answer, label)]
    return sum(math.dist(a, b) for a, b in zip(*points, strict=True)) / 6


def test_a_path_that_is_gone_is_dangerous_and_never_left_out_silently(paths: Path, tmp_path: Path) -> None:
    """Pruned, one question of every tenth scene has no path any more; the others are as before."""

    def rule(question: Any, setting: str) -> str:
        gone = "@" in setting and question.question % 30 == 0
        aside = 1.5 if setting == "no-image" else 0.2
        return "I cannot say" if gone else straight(1 + question.question % 3, aside)

    found = search(config(paths, out=str(tmp_path / "run"), margin=0.3, choose_share=0.0), Adapted(rule, adapter=POINTS_IN)).certificate
    last = found["sequence"][0]["looks"][-1]
    assert found["outcome"] == "not shown" and last["dangerous"] >= 2 and not last["harmless"]


def test_the_default_margin_is_in_metres_and_refused_where_so_few_scenes_cannot_show_it(paths: Path, tmp_path: Path) -> None:
    with pytest.raises(SennaPruneError, match=r"40 scenes to certify on cannot show a margin of 0\.10 m: .* state --margin 0\.1\d or more"):
        search(config(paths, out=str(tmp_path / "run")), Adapted(drifting, adapter=POINTS_IN))


def test_every_method_in_metres_side_by_side(paths: Path, tmp_path: Path) -> None:
    wanted = config(paths, out=str(tmp_path / "run"), margin=0.3, methods="autoprune,random", each=True, grid="0.2,0.3")
    found = search(wanted, Adapted(drifting, adapter=POINTS_IN)).certificate
    assert [(one["method"], one["budget"]) for one in found["each"]] == [("autoprune", 0.3), ("random", 0.3)]
    table = grids(found)[0]
    assert table.title.startswith("Smallest safe budget: margin 0.30 m, at most") and table.columns[2].startswith("metres")
    write_budget_report(tmp_path / "run")


def test_choices_have_no_dangerous_flip_and_say_so(tmp_path: Path) -> None:
    path = file_of(tmp_path, [("What next" + CHOICES, "ABC"[index % 3]) for index in range(180)])

    def rule(question: Any, setting: str) -> str:
        wrong = setting == "no-image" or (share_of(setting) < 0.25 and question.question % 3 == 1)
        return "A." if wrong else f"The answer is {question.label}"

    found = search(config(path, types=("choice",), margin=8.0), Adapted(rule, adapter={"parse": "choice"})).certificate
    assert found["measure"] == "accuracy" and found["exit_code"] == 0
    assert found["sentence"].startswith("30 % of tokens with autoprune: not worse by more than 8.0 points (95 %, 30 scenes")
    assert "), of these answers nobody says which flips are dangerous; 20 %" in found["sentence"]
    assert found["sequence"][0]["looks"][-1]["dangerous"] is None and found["sequence"][0]["reason"].startswith("the margin is met")
    assert grids(found)[0].title == "Certificate: margin 8.0 points" and "nobody says" in grids(found)[0].notes[1]
    assert {one["setting"]: one["difference"] for one in found["controls"]}["majority"] == pytest.approx(-2 / 3)
    write_budget_report(tmp_path / "run")


@pytest.mark.parametrize("adapter", [{"parse": "choice"}, POINTS_IN, {"parse": "text"}])
def test_without_a_label_it_is_agreement_with_unpruned(adapter: dict[str, Any], tmp_path: Path) -> None:
    kind = "choice" if adapter["parse"] == "choice" else "other"
    path = file_of(tmp_path, [("What next" + (CHOICES if kind == "choice" else ""), "") for _ in range(180)])
    forms: dict[str, Callable[[int], str]] = {"choice": lambda n: "ABC"[n % 3], "text": lambda n: f"Go to {n % 3}."}
    form = forms.get(str(adapter["parse"]), lambda n: straight(1 + n % 3))

    def rule(question: Any, setting: str) -> str:
        other = setting == "no-image" or (share_of(setting) < 0.25 and question.question % 3 == 1)
        return form(0) if other else form(question.question)

    found = search(config(path, types=(kind,), margin=8.0, safety=12.0), Adapted(rule, adapter=adapter)).certificate
    assert found["measure"] == "agreement" and found["exit_code"] == 0
    assert "30 % of tokens with autoprune: not worse by more than 8.0 points of agreement (95 %, 30 scenes" in found["sentence"]


@pytest.mark.parametrize(
    ("adapter", "label", "measure", "words"),
    [
        (
            POINTS_IN,
            "KEEP, STRAIGHT",
            None,
            r"no question has a true path as far as the last horizon: say where the tables are with --tables",
        ),
        (POINTS_IN, straight(1), "accuracy", "this adapter reads waypoints: take l2 or agreement"),
        ({"parse": "choice"}, "B", "l2", "reads answers as choice: take accuracy or agreement"),
        ({"parse": "choice"}, "perhaps", None, "no question has a label that can be read, or take --measure agreement"),
        ({"parse": {"kind": "text", "by_type": {"choice": {"kind": "waypoints"}}}}, "x", None, "no figure in common"),
    ],
)
def test_what_the_answers_do_not_have_is_one_line(adapter: Any, label: str, measure: Any, words: str) -> None:
    rows = [QuestionRow(n, "t", ("choice", "other")[n % 2], "Q?" + CHOICES, label, (), "s", True, {}) for n in range(2)]
    rows = rows if "by_type" in adapter["parse"] else rows[:1]
    with pytest.raises(SennaPruneError, match=words):
        outcome_of(measure, Reading.of(adapter), rows, "qa.json")


def test_a_new_collision_is_dangerous() -> None:
    box = np.array([[0.0, 9.0, 4.0, 2.0, math.pi / 2]])
    future = Future(np.array([[0.0, 0.5 * step] for step in range(1, 7)]), np.ones(6, dtype=bool), [box] * 6)
    row = QuestionRow(0, "t", "plan", "Q?", "KEEP, STRAIGHT", (), "s", True, {}, future=future.to_dict())
    outcome = outcome_of(None, Reading.of(POINTS_IN), [row], "qa.json")
    slow, fast = straight(0.5), straight(1.5)
    assert outcome.pair([row], {0: slow}, {0: fast}).dangerous == ("s",)
    assert outcome.pair([row], {0: fast}, {0: slow}).dangerous == () and outcome.pair([row], {0: fast}, {0: fast}).dangerous == ()
    pairs = outcome.pair([row], {0: slow}, {0: fast})
    assert pairs.before == (0.0,) and pairs.after[0] == pytest.approx(np.mean([1.0 * step for step in range(1, 7)]))


def test_rare_losses_in_metres_are_rarely_called_safe() -> None:
    """The true loss is the margin: 0.1 m, by 2 m in one scene of twenty; and by noise everywhere."""
    rng, wrong = np.random.default_rng(0), {"rare": 0, "noise": 0}
    for _ in range(600):
        rare = np.where(rng.random(60) < 0.05, 2.0, 0.0)
        for name, loss in (("rare", rare), ("noise", 0.1 + rng.normal(0, 0.5, 60))):
            found = Gains.of(np.zeros(60), loss, range(60), 2.0 if name == "rare" else 0.5)
            wrong[name] += found.test(0.1, 0.05, 0.05)[0] > norm.ppf(0.95)
    assert wrong["rare"] / 600 <= 0.07 and wrong["noise"] / 600 <= 0.07
    nothing = Gains.of(np.zeros(60), np.zeros(60), range(60), 2.0)
    assert 3 * 2.0 / 60 < -nothing.test(0.1, 0.05, 0.05)[1] < 4.1 * 2.0 / 60  # the rule of three, and a little more
