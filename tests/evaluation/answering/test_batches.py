"""Batches: the same answers, tokens and traces as one question at a time, and what they say of their times."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import Answerer
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.pruning.methods.registry import METHODS
from tests.evaluation.conftest import PLAN, Place, counting_senna


@pytest.fixture
def uneven(place: Place) -> Place:
    """Questions of different lengths, so that every batch is padded."""
    records = json.loads(place.questions.read_text())
    for index, record in enumerate(records):
        if index % 2 == 0:
            text = record["conversations"][0]["value"].replace(PLAN.format(speed="a"), "go left? " * index + "SPEED plan")
            record["conversations"][0]["value"] = text
    place.questions.write_text(json.dumps(records))
    return place


def _rows(place: Place, batch_size: int, settings: list[Setting], ends: list[int] | None = None, **changes: Any) -> Any:
    asked = counting_senna()
    asked.senna.model.generation_config.eos_token_id = ends
    questions, root = load_questions(place.config(**changes))
    answerer = Answerer(asked.senna, settings, root, max_new_tokens=6, batch_size=batch_size)
    answerer.learn((), {})
    todo = {(q.question, s.name) for q in questions for s in settings}
    rows = {(row.question, row.setting): row for row in answerer.answer(questions, todo)}
    assert set(rows) == todo
    return rows, asked


def _what(row: Any) -> Any:
    trace = {**row.trace, "kv_bytes": None, "pruner_ms": None} if row.trace else None
    numbers = {"mutual_information", "k", "x0"}
    rounded = None
    if trace is not None:
        rounded = {key: pytest.approx(value, abs=1e-4) if key in numbers and value is not None else value for key, value in trace.items()}
    return row.status, row.answer, row.reason, row.new_tokens, rounded


@pytest.mark.parametrize("ends", [None, [5, 9, 13, 17, 21, 25]])
def test_every_method_answers_in_batches_as_it_does_alone(uneven: Place, ends: list[int] | None) -> None:
    settings = [Setting("unpruned"), Setting("no-image", blind=True)]
    settings += [Setting(name, name, {"retention": 0.8}) for name in METHODS]
    settings.append(Setting("release", "autoprune", {"retention": 0.8, "mode": "release"}))
    alone, single = _rows(uneven, 1, settings, ends)
    together, batched = _rows(uneven, 3, settings, ends)
    for key, row in alone.items():
        assert _what(together[key]) == _what(row), key
    assert {row.status for row in alone.values()} == {"ok"}
    assert single.generated == 4 * len(settings)
    assert batched.generated == 2 * len(settings)
    if ends:
        assert len({row.new_tokens for row in alone.values()}) > 1  # answers of different lengths in one batch
    lengths = {tuple(row.trace["tokens_per_layer"]) for (_, name), row in alone.items() if name == "autoprune"}
    assert len(lengths) > 1  # and prompts that keep different numbers of tokens


def test_a_batch_shares_its_time_and_says_so(uneven: Place, capsys: pytest.CaptureFixture[str]) -> None:
    rows, asked = _rows(uneven, 4, [Setting("unpruned")])
    assert len({row.prefill_ms for row in rows.values()}) == 1
    assert asked.looked == 4  # the tower sees one sample at a time
    alone, _ = _rows(uneven, 1, [Setting("unpruned")])
    assert all(rows[key].kv_bytes >= alone[key].kv_bytes for key in rows)  # the padding is in it

    from rich.console import Console

    from senna_autoprune.cli.eval_tables import show

    show(evaluate(uneven.config(batch_size=4), counting_senna().senna).metrics, Console(width=200))
    assert "batches of up to 4" in capsys.readouterr().out


def test_one_bad_question_costs_its_batch_nothing(uneven: Place) -> None:
    asked = counting_senna()

    def full(ids: torch.Tensor) -> torch.Tensor:
        if ids.shape[0] > 1:
            asked.answers.append(full)
        raise torch.OutOfMemoryError("too much")

    asked.answers = [full]
    config = uneven.config(batch_size=4, controls=False)
    result = evaluate(config, asked.senna)
    with RunStore.read(result.directory) as store:
        failed = [row.question for row in store.answers("unpruned") if row.status == "failed"]
        assert failed == [0]
        assert len(store.answers("unpruned")) == 4


def test_batched_runs_continue_with_the_same_size_only(uneven: Place) -> None:
    first = evaluate(uneven.config(batch_size=3), counting_senna().senna)
    with pytest.raises(SennaPruneError, match="batch_size"):
        evaluate(uneven.config(), counting_senna().senna)
    again = counting_senna()
    assert evaluate(uneven.config(batch_size=3), again.senna).metrics == first.metrics
    assert again.generated == 0


def test_decoding_goes_on_at_the_position_after_the_unpruned_prompt(uneven: Place) -> None:
    """Original positions: what was cut leaves a gap, also where nothing is padded and no mask says how long the prompt was."""
    asked = counting_senna()
    questions, root = load_questions(uneven.config())
    answerer = Answerer(asked.senna, [Setting("autoprune", "autoprune", {"retention": 0.6})], root, max_new_tokens=3)
    positions: list[Any] = []
    decoder = asked.senna.model.get_decoder()

    def seen(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["inputs_embeds"].shape[1] == 1:
            positions.append(kwargs["position_ids"].item())

    handle = decoder.register_forward_pre_hook(seen, with_kwargs=True)
    rows = list(answerer.answer(questions[:1], {(questions[0].question, "autoprune")}))
    handle.remove()
    trace = rows[0].trace
    assert trace is not None
    length = trace["visual_tokens"] + trace["text_tokens"]
    assert positions == [length, length + 1]
