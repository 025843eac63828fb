"""Runs as measures read them: numbers in place of texts, words in place of rows, the same figures."""

from __future__ import annotations

import gc
import json
import random
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.cost import cost_measures, spread
from senna_autoprune.evaluation.measures.summary import flips_between, severity_of, summarise
from senna_autoprune.evaluation.runs.bulk import uncollected
from senna_autoprune.evaluation.runs.identity import METRICS
from senna_autoprune.evaluation.runs.packing import TOLD, line_of, stored_line
from senna_autoprune.evaluation.runs.results import read_result
from senna_autoprune.evaluation.runs.rows import AnswerRow, PackedTrace, QuestionRow, StoredTrace
from senna_autoprune.evaluation.runs.store import RunStore

PLANS = ("KEEP, STRAIGHT", "STOP, STRAIGHT", "DECELERATE, LEFT_TURN", "KEEP, RIGHT_CHANGE", "no plan")
DESCRIPTION: dict[str, Any] = {"config": {"method": "autoprune"}, "identity": {}}


def _trace(rng: random.Random, **changes: Any) -> dict[str, Any]:
    entering = [rng.randrange(12) for _ in range(4)]
    average = sum(entering) / 4
    return {
        "mutual_information": rng.choice((None, rng.random())),
        "k": rng.choice((None, 0.0, rng.random())),
        "x0": rng.choice((None, rng.random())),
        "visual_tokens": 12,
        "text_tokens": 9,
        "tokens_per_layer": entering,
        "average_tokens": average,
        "retention_tokens": average / 12,
        "per_view": [rng.random() for _ in range(6)],
        "flops_full": 100.0,
        "flops_pruned": rng.random(),
        "kv_bytes": 10,
        "pruner_ms": rng.choice((None, rng.random())),
        "notes": rng.choice(([], ["a note"], ["a note", "é"])),
        **changes,
    }


def _rows(rng: random.Random, count: int) -> list[AnswerRow]:
    rows = []
    for number in range(count):
        for setting in ("unpruned", "autoprune", "random", "no-image"):
            trace = _trace(rng) if setting in ("autoprune", "random") else None
            times = [rng.choice((None, rng.uniform(1, 9))) for _ in range(3)]
            rows.append(AnswerRow(number, setting, "ok", rng.choice(PLANS), None, *times, 5, rng.randrange(1, 99), trace))
    rows[7] = AnswerRow(1, "no-image", "failed", reason="image not found")
    return rows


def _questions(count: int) -> list[QuestionRow]:
    conditions = dict.fromkeys(("light", "weather", "location", "speed_band", "command"), "unknown")
    label = [f"{PLANS[number % 4]}\n" for number in range(count)]
    return [QuestionRow(n, f"t{n}", "plan", "SPEED plan", label[n], ("a.jpg",), f"s{n % 12}", True, conditions) for n in range(count)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 120 questions with answers, times and traces at random."""
    with RunStore.start(tmp_path / "run", DESCRIPTION, _questions(120)) as store:
        for row in _rows(random.Random(3), 120):
            store.add(row)
    return tmp_path / "run"


def test_measured_rows_are_the_rows_without_what_nobody_measures(run: Path) -> None:
    with RunStore.read(run) as store:
        for row, one in zip(store.answers(), store.measured(), strict=True):
            for name in ("question", "setting", "status", "answer", "reason", "vision_ms", "prefill_ms", "kv_bytes"):
                assert getattr(row, name) == getattr(one, name)
            assert (row.trace is None) == (one.trace is None)
            if row.trace is not None and one.trace is not None:
                assert {**row.trace, **one.trace} == row.trace  # nothing differs
                assert set(row.trace) - set(one.trace) == {"text_tokens", "kv_bytes"}


def test_figures_are_the_same_from_numbers_and_from_texts(run: Path) -> None:
    with RunStore.read(run) as store:
        questions, rows, numbers = store.questions(), store.answers(), store.measured()
    plain = [
        AnswerRow(**{**{name: getattr(row, name) for name in AnswerRow.__slots__}, "trace": row.trace and dict(row.trace)}) for row in rows
    ]
    found = [summarise(questions, some, "autoprune", 1, 200, Reading()) for some in (rows, numbers, plain)]
    assert found[0] == found[1] == found[2]
    assert found[0]["settings"]["autoprune"]["cost"]["notes"] and found[0]["questions"]["complete"] == 119


def test_traces_of_other_numbers_of_views_have_no_mean_of_views() -> None:
    rng = random.Random(0)
    traces = [PackedTrace(_trace(rng)), PackedTrace(_trace(rng, per_view=[1.0])), StoredTrace(json.dumps(_trace(rng, per_view=[])))]
    found = cost_measures([AnswerRow(n, "a", "ok", "x", trace=trace) for n, trace in enumerate(traces)], [])
    assert found["kept_per_view"] is None and len(found["schedule"]) == 4
    alone = cost_measures([AnswerRow(0, "a", "ok", "x", trace=traces[2])], [])
    assert alone["kept_per_view"] == [] and alone["tokens_per_view"] is None


def test_paired_ratios_are_those_of_a_loop() -> None:
    rng = random.Random(1)
    values = (None, 0.0, 1.0, 2.5, 7.0)
    for _ in range(50):
        rows, reference = (
            [AnswerRow(n, "a", "ok", prefill_ms=rng.choice(values)) for n in rng.sample(range(12), rng.randrange(12))] for _ in range(2)
        )
        below = {row.question: row.prefill_ms for row in reference}
        ratios = [
            row.prefill_ms / below[row.question]  # type: ignore[operator]
            for row in rows
            if row.prefill_ms is not None and below.get(row.question)
        ]
        assert cost_measures(rows, reference)["prefill_ratio"] == spread(ratios)


def test_words_are_those_of_the_rows(tmp_path: Path) -> None:
    with RunStore.start(tmp_path, DESCRIPTION, _questions(5)) as store:
        store.add(AnswerRow(3, "a", "ok", "later", said="meant", sent="p"))
        store.add(AnswerRow(1, "a", "ok", "first", sent="p"))
        store.add(AnswerRow(2, "a", "failed", reason="no image"))
        store.add(AnswerRow(1, "b", "ok", "other"))
        assert store.words("a") == {1: "first", 3: "meant"} == {row.question: row.words for row in store.answers("a") if row.words}
        assert list(store.words("a")) == [1, 3] and store.words("c") == {}


def test_lines_are_written_from_the_store_as_from_the_rows(run: Path) -> None:
    with RunStore.read(run) as store:
        assert store.write_answers(store.answers()).read_bytes() == store.write_answers().read_bytes()


@pytest.mark.parametrize("change", [{"visual_tokens": 2**60}, {"tokens_per_layer": [2**70]}, {"pruner_ms": "fast"}, {"per_view": [None]}])
def test_traces_of_impossible_numbers_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with RunStore.start(tmp_path, DESCRIPTION, _questions(1)) as store:
        store.add(AnswerRow(0, "autoprune", "ok", "x", trace=_trace(random.Random(0), **change)))
        for read in (store.answers, store.measured):
            with pytest.raises(SennaPruneError, match=r"answers\.sqlite .*trace: "):
                read()


def test_flips_are_judged_one_by_one_and_by_their_words_alike() -> None:
    rng, questions = random.Random(2), _questions(200)
    before, after = ({n: rng.choice(PLANS) for n in range(200)} for _ in range(2))
    for reading in (None, Reading()):
        for flip in flips_between(questions, before, after, "a", reading):
            assert flip.severity == severity_of(questions[flip.question], flip.unpruned, flip.pruned, reading)


def test_measures_that_a_run_writes_are_read(run: Path) -> None:
    with RunStore.read(run) as store:
        store.write_metrics(summarise(store.questions(), store.measured(), "autoprune", 1, 200))
    assert read_result(run / METRICS)["bootstrap"]["resamples"] == 200


def test_the_table_that_is_printed_in_the_docs_is_read() -> None:
    path = Path(__file__).parents[3] / "docs" / "results" / "table3" / "table.json"
    assert read_result(path) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("answer", ["KEEP, STRAIGHT\n", 'a "quoted" \u00e9\u2028\\', "x\t" * 500, "", None])
def test_a_line_is_spelled_as_json_spells_it(answer: str | None) -> None:
    trace = {"k": 0.1, "pruner_ms": None, "notes": ['of "x_ms": 3,'], "other_ms": 1e-07}
    for setting, said in (("autoprune", None), ("no-\u00efmage", "B")) * 2:  # texts that were met before, too
        row = AnswerRow(7, setting, "ok", answer, None, 1.0, None, 3.0, 5, 10**9, trace, said=said)
        told = {name: getattr(row, name) for name in TOLD}
        kept = {"k": 0.1, "notes": ['of "x_ms": 3,']}
        line = json.dumps({**told, "trace": kept, **({} if said is None else {"said": said})}) + "\n"
        assert line_of(row) == line == stored_line(list(told.values()), json.dumps(trace), said)


def test_the_garbage_collector_is_afterwards_as_it_was() -> None:
    assert gc.isenabled()
    with pytest.raises(KeyError), uncollected():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected(), uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
