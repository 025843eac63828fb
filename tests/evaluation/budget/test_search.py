"""The whole search on a model by rule: verdicts, what is asked, resume, refusals, and the certificate derived again."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import multivariate_normal

from senna_autoprune.cli import cli
from senna_autoprune.demo import embedded
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.budget.certificate import balanced_count, blind_sentence, groups_of
from senna_autoprune.evaluation.budget.choose import default_margin
from senna_autoprune.evaluation.budget.config import BudgetConfig
from senna_autoprune.evaluation.budget.search import search
from senna_autoprune.evaluation.budget.sequence import Rules
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.report.budget import write_budget_report
from senna_autoprune.tables.budget import grids
from tests.evaluation.budget.fake import KEEP, STOP, TURN, FakeEngine, question_file, safe_above, without_waiting
from tests.evaluation.budget.rederive import rederive


@pytest.fixture(scope="module", autouse=True)
def quick_store() -> Iterator[None]:
    with without_waiting():
        yield


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return question_file(tmp_path_factory.mktemp("questions"), 80, 3)


def config(questions: Path, out: Path, **changes: Any) -> BudgetConfig:
    values = {"questions": str(questions), "out": str(out), "margin": 8.0, "safety": 9.0, "grid": "0.1:0.4:0.1"}
    return BudgetConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def finished(questions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], FakeEngine]:
    out, engine = tmp_path_factory.mktemp("run") / "run", FakeEngine(safe_above(0.25))
    return out, search(config(questions, out), engine).certificate, engine


def test_the_smallest_safe_budget_is_found(finished: tuple[Path, dict[str, Any], FakeEngine]) -> None:
    _, found, _ = finished
    assert (found["outcome"], found["exit_code"]) == ("safe", 0)
    assert found["sentence"] == (
        "30 % of tokens with autoprune: not worse by more than 8.0 points (95 %, 40 scenes), no newly dangerous flip in 40 scenes "
        "(at most 7.5 % of scenes); 20 % was not shown to be safe"
    )
    assert [(step["budget"], step["outcome"]) for step in found["sequence"]] == [(0.4, "safe"), (0.3, "safe"), (0.2, "not shown")]
    assert found["sequence"][-1]["reason"].startswith(("accuracy: stopped early", "safety: stopped early"))
    assert found["power"] == "20 %: no number of scenes would show it, if what was observed is the truth"
    assert found["noise"]["changed"] == 0


def test_nothing_of_the_first_half_is_in_the_certificate(finished: tuple[Path, dict[str, Any], FakeEngine]) -> None:
    _, found, engine = finished
    choose, certify = set(found["halves"]["choose"]), set(found["halves"]["certify"])
    assert not choose & certify and len(choose) == len(certify) == 40
    asked = {question // 3 for question, setting in engine.asked if setting == "autoprune@0.1"}
    assert not asked  # 0.2 failed on the first half, so 0.1 was never asked of anybody
    last = {f"scene-{question // 3:03}" for question, setting in engine.asked if setting == "autoprune@0.2"} & certify
    assert len(last) < 40  # stopped at a look


def test_the_certificate_is_derived_again_by_forty_lines(finished: tuple[Path, dict[str, Any], FakeEngine]) -> None:
    out, found, _ = finished
    assert len(Path(rederive.__code__.co_filename).read_text().splitlines()) <= 40
    assert rederive(out) == 0.3
    found["sequence"][0]["looks"][-1]["z"] += 0.01
    (out / "other").mkdir()
    (out / "other" / "budget.json").write_text(json.dumps(found))
    (out / "other" / "answers.sqlite").write_bytes((out / "answers.sqlite").read_bytes())
    found["sequence"][0]["looks"][-1]["z"] -= 0.01
    with pytest.raises(AssertionError):
        rederive(out / "other")


def test_all_looks_together_spend_five_per_cent(finished: tuple[Path, dict[str, Any], FakeEngine]) -> None:
    """P(any look passes its bound) when nothing is true, by the multivariate normal distribution."""
    halves = finished[1]["halves"]
    shares = np.array(halves["stops"]) / halves["stops"][-1]
    covariance = np.sqrt(np.minimum.outer(shares, shares) / np.maximum.outer(shares, shares))
    crossed = 1 - multivariate_normal(cov=covariance).cdf(np.array(Rules(0.08, 0.09, tuple(halves["stops"])).bounds))
    assert len(shares) == 3 and crossed == pytest.approx(0.05, abs=1e-3)


def test_the_same_command_asks_nothing_twice_and_says_the_same(finished: tuple[Path, dict[str, Any], FakeEngine], questions: Path) -> None:
    out, found, engine = finished
    assert len(engine.asked) == len(set(engine.asked))
    again = FakeEngine(safe_above(0.25))
    assert search(config(questions, out), again).certificate == found
    assert again.asked == []


@pytest.mark.parametrize(
    "limit, changes",
    [
        (0.25, {}),
        (0.0, {}),  # nothing fails
        (0.25, {"methods": "autoprune,fastv,dart:layer=2"}),
        (0.25, {"choose_share": 0.0, "looks": 1}),
        (0.25, {"each": True, "methods": "autoprune,random,dart"}),
    ],
)
def test_how_many_answers_it_may_come_to_is_never_too_few(limit: float, changes: dict[str, Any], questions: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    engine = FakeEngine(safe_above(limit))
    found = search(config(questions, tmp_path / "run", **changes), engine, lambda row, done, most: seen.append((done, most)))
    assert [done for done, _ in seen] == list(range(1, found.rows + 1))  # every answer is counted once, over all steps
    bounds = [most for _, most in seen]
    assert bounds == sorted(bounds, reverse=True) and bounds[-1] >= found.rows
    if limit == 0.0:
        assert bounds[0] == found.rows  # nothing failed, so the bound was reached
    half, again, store = len(engine.asked) // 2, [], config(questions, tmp_path / "half", **changes)

    def stop(row: Any, done: int, most: int) -> None:
        if done == half:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(store, FakeEngine(safe_above(limit)), stop)
    search(store, FakeEngine(safe_above(limit)), lambda row, done, most: again.append((done, most)))
    assert again == seen[-len(again) :] and len(again) >= len(seen) - half


def test_calibration_is_kept_with_the_run(questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(questions, tmp_path / "run", methods="autoprune:gamma=calibrated")
    found = search(asked, FakeEngine(safe_above(0.25))).certificate
    assert any(step["setting"].startswith("autoprune:gamma=0.1@") for step in found["sequence"])
    monkeypatch.setattr(FakeEngine, "calibrate", None)
    assert search(asked, FakeEngine(safe_above(0.25))).certificate == found


def test_margins_cannot_be_changed_in_a_run(finished: tuple[Path, dict[str, Any], FakeEngine], questions: Path) -> None:
    out, _, _ = finished
    for changed in ({"margin": 5.0}, {"safety": 12.0}, {"looks": 1}):
        with pytest.raises(SennaPruneError, match=r"made with other settings \((margin|safety|looks)"):
            search(config(questions, out, **changed), FakeEngine(safe_above(0.25)))


def test_page_tables_and_json(finished: tuple[Path, dict[str, Any], FakeEngine]) -> None:
    out, found, _ = finished
    assert json.loads((out / "budget.json").read_text()) == found
    written = write_budget_report(out)
    page = written.files[0].read_text()
    assert found["sentence"] in page and "<svg" in page and (out / "figures" / "staircase.png").is_file()
    titles = [grid.title for grid in grids(found)]
    assert titles[0].startswith("Certificate: margin 8.0 points") and "Where it hurts most" in titles
    strata = {one["stratum"]: one["outcome"] for one in found["strata"]}
    assert strata["light: night"] == "no loss shown" and "label: STOP" in strata


def test_questions_that_a_blind_model_answers_show_nothing(questions: Path, tmp_path: Path) -> None:
    engine = FakeEngine(lambda question, setting: question.label)  # no-image is as good
    found = search(config(questions, tmp_path / "run"), engine).certificate
    assert (found["outcome"], found["exit_code"]) == ("cannot show harm", 5)
    assert "no-image too is not worse by more than 8.0 points" in found["sentence"]
    assert "Of these 240 no label is the usual one, so it is the prompt that gives the answers away" in found["sentence"]
    assert not any("@" in setting for _, setting in engine.asked)  # nothing pruned was asked


def test_the_command_that_is_printed_draws_questions_that_can_show_harm(tmp_path: Path) -> None:
    """As a user would: most labels are KEEP, so that the majority passes; the printed command runs, and what it draws gets a verdict."""
    path = question_file(tmp_path, 200, 3)
    records = json.loads(path.read_text())
    for index, record in enumerate(records):
        record["conversations"][1]["value"] = (STOP if index % 30 == 0 else TURN) if index % 15 == 0 else KEEP
    other = json.loads(json.dumps(records[:40]))  # a second type, which does not count and must not be drawn
    for record in other:
        record["conversations"][0]["value"] = "<image>\nDo you see any vulnerable road users?"
        record["conversations"][1]["value"] = "No.\n"
    path = path.rename(tmp_path / "my questions.json")
    path.write_text(json.dumps(records + other))

    def rule(question: Any, setting: str) -> str:
        return KEEP if setting == "no-image" else question.label

    found = search(config(path, tmp_path / "run", margin=15.0), FakeEngine(rule)).certificate
    assert found["exit_code"] == 5
    words = shlex.split(found["sentence"].split("`")[1])
    assert words == ["senna-prune", "questions", "sample", str(path), "--out", str(path.with_name("my questions-balanced.json")),
                     "--types", "plan", "--count", "60", "--by", "label"]  # fmt: skip
    ended = CliRunner().invoke(cli, words[1:])
    assert ended.exit_code == 0, ended.output
    drawn = Path(words[words.index("--out") + 1])
    labels = Counter(record["conversations"][1]["value"] for record in json.loads(drawn.read_text()))
    assert labels == {KEEP: 20, STOP: 20, TURN: 20}
    again = search(config(drawn, tmp_path / "again", margin=25.0, safety=30.0), FakeEngine(rule)).certificate
    assert again["exit_code"] == 0 and again["sentence"].startswith("10 % of tokens with autoprune")


def test_paths_and_questions_without_a_label_are_balanced_by_speed(questions: Path, tmp_path: Path) -> None:
    found = search(config(questions, tmp_path / "run", measure="agreement"), FakeEngine(lambda question, setting: KEEP)).certificate
    assert found["exit_code"] == 5 and "`" in found["sentence"]
    rows = [QuestionRow(i, f"t{i}", "plan", "", "", (), "s", True, {"speed_band": "fast" if i % 10 else "slow"}) for i in range(50)]
    assert groups_of(rows, "points") == ("speed_band", Counter(fast=45, slow=5))
    assert balanced_count(Counter(fast=45, slow=5)) == 10
    said = blind_sentence("majority", 0.02, questions, ("plan",), groups_of(rows, "m"))
    assert "--types plan --count 10 --by speed_band`" in said and said.endswith(
        "(10 questions are too few for that: bring more with the rarer ones)"
    )
    same = groups_of([row for row in rows if row.attributes["speed_band"] == "fast"], "m")
    assert "All have the same speed band, so no draw of them can" in blind_sentence("majority", 0.02, questions, ("plan",), same)
    embedded_file = embedded()
    assert embedded_file is not None
    said = blind_sentence("majority", 0.02, embedded_file.questions_file, ("plan",), groups_of(rows, "m"))
    assert " --out questions-balanced.json " in said  # nobody writes into the package


def test_dangerous_flips_alone_withhold_the_certificate(questions: Path, tmp_path: Path) -> None:
    """Four scenes of eighty miss a brake: accuracy is fine, safety is not shown."""

    def rule(question: Any, setting: str) -> str:
        if setting == "no-image":
            return KEEP
        return KEEP if "@" in setting and question.label == STOP and question.question % 120 in (1, 61) else question.label

    found = search(config(questions, tmp_path / "run", choose_share=0.0, safety=5.0, looks=1), FakeEngine(rule)).certificate
    assert (found["outcome"], found["exit_code"]) == ("not shown", 4)
    last = found["sequence"][0]["looks"][-1]
    assert last["accurate"] and not last["harmless"] and last["dangerous"] > 0
    assert found["sentence"].startswith("no budget was shown to be safe; 40 % of tokens with autoprune")


def test_a_margin_below_the_noise_floor_is_refused(questions: Path, tmp_path: Path) -> None:
    def rule(question: Any, setting: str) -> str:
        noisy = setting == "unpruned-again" and question.question % 4 == 0
        return STOP if setting == "no-image" or noisy else question.label

    with pytest.raises(SennaPruneError, match=r"below the noise floor: asked again in batches of 2, unpruned changes \d"):
        search(config(questions, tmp_path / "run"), FakeEngine(rule))


@pytest.mark.parametrize(("every", "refused"), [(10, True), (16, False)])
def test_the_noise_floor_is_compared_with_the_whole_margin(questions: Path, tmp_path: Path, every: int, refused: bool) -> None:
    """Of the first look's 81 answers eleven change (13.6 %), more than a margin of 8 points; six (7.4 %) are less."""

    def rule(question: Any, setting: str) -> str:
        noisy = setting == "unpruned-again" and question.question % every == 0
        return STOP if setting == "no-image" else TURN if noisy and question.label != TURN else KEEP if noisy else question.label

    asked = config(questions, tmp_path / "run", margin=8.0, choose_share=0.0)
    if refused:
        with pytest.raises(SennaPruneError, match=r"margin of 8\.00 points lies below the noise floor: .* changes 13\.58 % of its"):
            search(asked, FakeEngine(rule))
    else:
        assert search(asked, FakeEngine(rule)).certificate["noise"]["changed"] == pytest.approx(0.0741, abs=1e-4)


def test_the_default_margin_is_half_of_what_sight_is_worth() -> None:
    assert default_margin(0.9, {"no-image": 0.6, "majority": 0.87}) == pytest.approx(0.015)
    assert default_margin(0.9, {"no-image": 0.4}) == 0.02  # at most two points
    assert default_margin(0.5, {"majority": 0.6}) < 0  # nothing to see: refused further on


def test_margins_that_so_few_scenes_cannot_show_are_refused_before_anything_is_asked(questions: Path, tmp_path: Path) -> None:
    engine = FakeEngine(safe_above(0.25))
    with pytest.raises(SennaPruneError, match=r"120 questions of 40 scenes .* margin of 2\.0 points: if not one .* about \d+ scenes"):
        search(config(questions, tmp_path / "run", margin=None), engine)
    with pytest.raises(SennaPruneError, match=r"40 scenes to certify on cannot show --safety 2: .* 7\.5 % .* or bring 15\d scenes"):
        search(config(questions, tmp_path / "run", safety=2.0), engine)
    assert engine.asked == []


def test_a_safety_margin_that_nobody_stated_is_what_the_scenes_can_show(questions: Path, tmp_path: Path) -> None:
    found = search(config(questions, tmp_path / "run", safety=None, grid="0.4"), FakeEngine(safe_above(0.25))).certificate
    assert found["margins"]["safety"] == 0.075 and "2 % was out of reach" in found["margins"]["safety_source"]
    assert found["outcome"] == "safe" and "(at most 7.5 % of scenes)" in found["sentence"]


def test_the_better_method_is_chosen_on_the_first_half(questions: Path, tmp_path: Path) -> None:
    def rule(question: Any, setting: str) -> str:
        return safe_above(0.15 if setting.startswith("dart") else 0.35)(question, setting)

    found = search(config(questions, tmp_path / "run", methods="autoprune,dart"), FakeEngine(rule)).certificate
    assert found["chosen"]["method"] == "dart" and found["sentence"].startswith("20 % of tokens with dart")
    assert found["sequence"][-2]["deployable"] == "TensorRT-Edge-LLM --visualPrune, reduction ratio 0.80"


def test_agreement_needs_no_labels(questions: Path, tmp_path: Path) -> None:
    found = search(config(questions, tmp_path / "run", measure="agreement"), FakeEngine(safe_above(0.25))).certificate
    assert found["outcome"] == "safe" and found["sequence"][-1]["budget"] == 0.2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": "autoprun"}, "did you mean 'autoprune'"),
        ({"grid": "0:1:0.5"}, "lie between 0 and 1"),
        ({"types": "plans"}, "unknown question type 'plans'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_asked(questions: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    from senna_autoprune.files.yaml_files import build

    with pytest.raises(SennaPruneError, match=words):
        build(BudgetConfig, {"questions": str(questions), **changes}, "the command line")


def test_too_few_scenes_are_refused(tmp_path: Path) -> None:
    few = question_file(tmp_path, 18)
    with pytest.raises(SennaPruneError, match="9 scenes to certify on, at least 10 are needed"):
        search(config(few, tmp_path / "run"), FakeEngine(safe_above(0.25)))


def test_plans_in_json_are_read_by_the_adapter(finished: tuple[Path, dict[str, Any], FakeEngine], questions: Path, tmp_path: Path) -> None:
    class Wrapped(FakeEngine):
        def facts(self) -> Any:
            return replace(super().facts(), adapter={"parse": {"kind": "json", "path": "plan", "then": "plan"}})

    rule = safe_above(0.25)
    engine = Wrapped(lambda question, setting: json.dumps({"plan": rule(question, setting).strip()}))
    found = search(config(questions, tmp_path / "json"), engine).certificate
    assert found["sentence"] == finished[1]["sentence"]
