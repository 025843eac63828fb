"""What a report reads of a run directory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.demo import LABEL, embedded
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.config import MOST_RESAMPLES
from senna_autoprune.evaluation.measures.summary import summarise
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.report.run import RESAMPLES, facts, flatten, read_run, short
from tests.report.runs import made


def test_measures_are_those_of_the_stored_answers(tmp_path: Path) -> None:
    run = read_run(made(tmp_path).write())
    with RunStore.read(run.directory) as store:
        expected = summarise(store.questions(), store.answers(), "autoprune", 3, RESAMPLES, Reading())
    assert {key: value for key, value in run.metrics.items() if key != "run"} == expected
    assert (run.method, run.asked, len(run.answers), run.label) == ("autoprune", 24, 24, None)
    assert run.images == tmp_path


@pytest.mark.parametrize(("drawn", "resamples"), [(300, 300), (99999999999, MOST_RESAMPLES), (9, RESAMPLES)])
def test_intervals_are_drawn_as_often_as_the_evaluation_drew_them(tmp_path: Path, drawn: int, resamples: int) -> None:
    directory = made(tmp_path).write()
    (directory / "metrics.json").write_text(json.dumps({"bootstrap": {"resamples": drawn}, "settings": {}}))
    assert read_run(directory).metrics["bootstrap"]["resamples"] == resamples


@pytest.mark.parametrize("text", ['{"bootstrap": {"resamples": "9"}, "settings": {}}', "[" * 100_000, "{}"])
def test_altered_measures_are_one_line(tmp_path: Path, text: str) -> None:
    directory = made(tmp_path).write()
    (directory / "metrics.json").write_text(text)
    with pytest.raises(SennaPruneError, match=r"metrics\.json"):
        read_run(directory)


def test_embedded_files_are_named_as_such(tmp_path: Path) -> None:
    found = embedded()
    assert found is not None
    run = made(tmp_path)
    run.description = {**run.description, "places": {**run.description["places"], "model": str(found.model_dir)}}
    assert read_run(run.write()).label == LABEL


def test_no_run_and_no_answers_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SennaPruneError, match="is not a run directory"):
        read_run(tmp_path)
    run = made(tmp_path)
    run.answers = [row for row in run.answers if row.setting == "unpruned"]
    with pytest.raises(SennaPruneError, match="no answers of autoprune yet"):
        read_run(run.write())


@pytest.mark.parametrize("config", [{}, {"method": "autoprum"}, {"method": ["a"]}, "text", None])
def test_a_configuration_of_others_is_one_line(tmp_path: Path, config: Any) -> None:
    run = made(tmp_path)
    run.description = {**run.description, "config": config}
    with pytest.raises(SennaPruneError, match=r"config\.yaml (names no method|was not written by senna-prune, or was altered: config)"):
        read_run(run.write())


def test_facts_say_what_was_run(tmp_path: Path) -> None:
    run = read_run(made(tmp_path).write())
    told = {title: dict(entries) for title, entries in facts(run.description, run.metrics)}
    assert told["Model"] == {"model": "/models/a", "layout": "original", "dtype": "float32", "weights sha256": "a1" * 32}
    asked = told["Questions and images"]
    assert asked["variant navigation"] == "fixed" and asked["variant views"] == "reference" and asked["data version"] == "v1.0-mini"
    assert asked["questions sha256"] == "b2" * 32 and asked["questions asked"] == "6 plan" and asked["scenes"] == "3"
    assert asked["labels"].startswith("KEEP, STRAIGHT: 2")
    assert told["Pruning"] == {"method": "autoprune", "options retention": "0.5"}
    assert told["How it was asked"]["controls"] == "yes" and told["How it was asked"]["types"] == "plan"
    assert told["Software and machine"] == {"torch": "2.13", "transformers": "5.23", "device": "cpu", "threads": "1"}


def test_values_of_any_kind_become_short_text() -> None:
    found = dict(flatten({"a": {"b": [1, True], "c": None, "d": {}}, "e": "x" * 1000, "f": ""}))
    assert found == {"a b": "1, yes", "e": short("x" * 1000, 400)}
    assert short("abc", 3) == "abc" and short("abcd", 3) == "abc… (4 characters)"


def test_runs_before_the_pruner_was_timed_can_be_read(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.answers = [row if row.trace is None else replace(row, trace=_without(row.trace, "pruner_ms")) for row in run.answers]
    cost = read_run(run.write()).metrics["settings"]["autoprune"]["cost"]
    assert cost["pruner_ms"]["median"] is None and cost["prefill_ms"]["median"] == 10.0
    assert json.dumps(cost)


def _without(found: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != name}
