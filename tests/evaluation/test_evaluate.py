"""The engine: what is asked, what is shared, what resumes, what fails."""

from __future__ import annotations

import json
import os
import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import Answerer
from senna_autoprune.evaluation.answering.faults import LONGEST_ANSWER
from senna_autoprune.evaluation.answering.provenance import model_fingerprint
from senna_autoprune.evaluation.answering.questions import load_questions, samples_of
from senna_autoprune.evaluation.answering.settings import Setting, question_seed
from senna_autoprune.evaluation.evaluate import evaluate, prepare, run_directory, settings_of
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.evaluation.runs.store import RunStore
from tests.evaluation.conftest import LABELS, VIEWS, Asked, Place, counting_senna, make_place, record
from tests.senna.tiny import TOKENS

SETTINGS = ("unpruned", "autoprune", "random", "uniform", "no-image")


def _rows(directory: Path) -> dict[tuple[int, str], AnswerRow]:
    with RunStore.read(directory) as store:
        return {(row.question, row.setting): row for row in store.answers()}


def _answers(directory: Path) -> dict[tuple[int, str], Any]:
    """What must not depend on how often a run was interrupted: everything but the times."""
    found = {}
    for key, row in _rows(directory).items():
        trace = {name: value for name, value in (row.trace or {}).items() if name != "pruner_ms"}
        found[key] = row.status, row.answer, row.reason, row.new_tokens, row.kv_bytes, json.dumps(trace)
    return found


def test_every_question_under_every_setting_with_its_record(place: Place) -> None:
    asked = counting_senna()
    result = evaluate(place.config(types="plan,vru"), asked.senna)
    assert result.failed == 0
    rows = _rows(result.directory)
    assert set(rows) == {(question, setting) for question in range(8) for setting in SETTINGS}
    assert asked.generated == 40 - 3  # blind, the four questions about road users are one
    assert asked.looked == 4 + 1  # once a sample, and once for the grey views
    for (question, setting), row in rows.items():
        assert row.status == "ok"
        assert row.new_tokens == 3
        if setting == "no-image" and question in (3, 5, 7):
            assert row.prefill_ms is row.decode_ms is None and row.answer == rows[1, "no-image"].answer
        else:
            assert row.prefill_ms is not None and row.prefill_ms > 0
            assert row.decode_ms is not None and row.decode_ms > 0
        assert (row.trace is None) == (setting in ("unpruned", "no-image"))
    trace = rows[0, "autoprune"].trace
    assert trace is not None
    assert trace["visual_tokens"] == VIEWS * TOKENS
    assert trace["average_tokens"] == pytest.approx(0.6 * VIEWS * TOKENS, abs=0.5)
    pruned, full = rows[0, "autoprune"].kv_bytes, rows[0, "unpruned"].kv_bytes
    assert pruned is not None and full is not None
    assert pruned < full


def test_answers_are_those_of_plain_generate(place: Place) -> None:
    """The unpruned row is what the checkpoint says; the blind row is what it says to grey images."""
    asked = counting_senna()
    config = place.config()
    rows = _rows(evaluate(config, asked.senna).directory)
    questions, root = load_questions(config)
    model, processor = asked.senna.model, asked.senna.processor
    grey = [processor_image() for _ in range(VIEWS)]
    for question in questions:
        for setting, images in (("unpruned", [root / name for name in question.images]), ("no-image", grey)):
            batch = processor(text=question.text, images=images)
            batch.pop("patch_mask")
            ids = model.generate(**batch, max_new_tokens=3, do_sample=False)
            expected = processor.decode_answers(ids, batch["input_ids"].shape[1])[0]
            assert rows[question.question, setting].answer == expected


def processor_image() -> Any:
    from PIL import Image

    return Image.new("RGB", (32, 18), (122, 116, 104))


def test_settings_take_turns_and_random_has_a_seed_for_every_question(place: Place) -> None:
    order: list[str] = []
    evaluate(place.config(), counting_senna().senna, on_row=lambda row, done, total: order.append(row.setting))
    firsts = order[:: len(SETTINGS)]
    assert firsts == [SETTINGS[question % len(SETTINGS)] for question in (0, 2, 4, 6)]
    assert len({question_seed(0, question) for question in range(1000)}) == 1000
    assert question_seed(0, 5) == question_seed(0, 5) != question_seed(1, 5)


def test_policies_are_built_with_the_seed_of_their_question(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from senna_autoprune.pruning.methods import registry

    seeds: list[int] = []
    build = registry.build_policy

    def watched(name: str, **options: Any) -> Any:
        if name == "random":
            seeds.append(options["seed"])
        return build(name, **options)

    monkeypatch.setattr(registry, "build_policy", watched)
    evaluate(place.config(seed=3), counting_senna().senna)
    assert seeds[-4:] == [question_seed(3, question) for question in (0, 2, 4, 6)]


def test_a_finished_run_is_not_asked_again_and_measures_the_same(place: Place) -> None:
    first = evaluate(place.config(), counting_senna().senna)
    again = counting_senna()
    second = evaluate(place.config(), again.senna)
    assert again.generated == again.looked == 0
    assert first.metrics == second.metrics
    assert json.loads((first.directory / "metrics.json").read_text()) == second.metrics


class _Interrupted(Exception):
    pass


def test_interrupted_anywhere_it_continues_and_asks_nothing_twice(place: Place) -> None:
    unbroken = evaluate(place.config(out=str(place.folder / "unbroken")), counting_senna().senna)
    total = 0
    for stop in (1, 3, 7, 2, 100):
        asked = counting_senna()

        def on_row(row: AnswerRow, done: int, in_all: int, asked: Asked = asked, stop: int = stop) -> None:
            if asked.generated == stop:
                raise _Interrupted

        try:
            evaluate(place.config(), asked.senna, on_row=on_row)
        except _Interrupted:
            assert asked.generated == stop
        total += asked.generated
    assert total == 4 * len(SETTINGS)
    assert _answers(place.folder / "run") == _answers(unbroken.directory)
    plans = [json.loads((place.folder / run / "metrics.json").read_text()) for run in ("run", "unbroken")]
    for plan in plans:
        for entry in plan["settings"].values():
            entry.pop("cost", None)  # times differ
        plan.pop("run")
    assert plans[0] == plans[1]


def _evaluate_until_killed(place: Place, rows: int, before_commit: bool) -> None:
    asked = counting_senna()

    def die(*args: Any) -> Any:
        if asked.generated >= rows:
            os.kill(os.getpid(), signal.SIGKILL)
        return args[0]

    if before_commit:
        asked.answers = [die] * 100
    evaluate(place.config(), asked.senna, on_row=None if before_commit else die)


def test_killed_by_the_system_it_continues_to_the_same_answers(place: Place) -> None:
    unbroken = evaluate(place.config(out=str(place.folder / "unbroken")), counting_senna().senna)
    context = get_context("fork")
    for rows, before_commit in ((3, False), (2, True), (4, False)):
        worker = context.Process(target=_evaluate_until_killed, args=(place, rows, before_commit))
        worker.start()
        worker.join(300)
        assert worker.exitcode == -signal.SIGKILL
    kept = len(_rows(place.folder / "run"))
    assert 3 <= kept <= 3 + 1 + 4  # each lost at most the group that was not committed yet, never its first row
    asked = counting_senna()
    evaluate(place.config(), asked.senna)
    assert asked.generated == 4 * len(SETTINGS) - kept
    assert _answers(place.folder / "run") == _answers(unbroken.directory)


def test_other_settings_other_model_or_other_questions_are_refused(place: Place) -> None:
    evaluate(place.config(), counting_senna().senna)
    with pytest.raises(SennaPruneError, match=r"retention: 0\.6 there, 0\.5 now"):
        evaluate(place.config(retention=0.5), counting_senna().senna)
    with pytest.raises(SennaPruneError, match="weights_sha256"):
        evaluate(place.config(), counting_senna(seed=1).senna)
    evaluate(place.config(resamples=200), counting_senna().senna)  # decides no answer
    place.questions.write_text(place.questions.read_text() + "\n")
    with pytest.raises(SennaPruneError, match="questions_sha256"):
        evaluate(place.config(), counting_senna().senna)


def test_a_broken_sample_is_recorded_and_the_run_goes_on(place: Place) -> None:
    (place.folder / "images" / "1-2.png").write_bytes(b"no image")
    (place.folder / "images" / "2-0.png").unlink()
    result = evaluate(place.config(), counting_senna().senna)
    rows = _rows(result.directory)
    assert result.failed == 2 * len(SETTINGS)
    for setting in SETTINGS:
        assert "1-2.png" in str(rows[2, setting].reason)
        assert "image not found" in str(rows[4, setting].reason)
        assert rows[0, setting].status == rows[6, setting].status == "ok"
    facts = result.metrics["questions"]
    assert (facts["asked"], facts["complete"], facts["failed_samples"]) == (4, 2, 2)
    assert result.metrics["settings"]["unpruned"]["plan"]["count"] == 2


def test_failed_rows_are_asked_again_only_on_request(place: Place) -> None:
    image = place.folder / "images" / "1-2.png"
    good = image.read_bytes()
    image.write_bytes(b"")
    evaluate(place.config(), counting_senna().senna)
    image.write_bytes(good)
    asked = counting_senna()
    assert evaluate(place.config(), asked.senna).failed == len(SETTINGS)
    assert asked.generated == 0
    assert evaluate(place.config(), asked.senna, retry_failed=True).failed == 0
    assert asked.generated == len(SETTINGS)


def test_a_prompt_beyond_the_limit_fails_alone(place: Place) -> None:
    asked = counting_senna()
    records = json.loads(place.questions.read_text())
    records[2]["conversations"][0]["value"] += "a" * 3000
    place.questions.write_text(json.dumps(records))
    result = evaluate(place.config(), asked.senna)
    assert result.failed == len(SETTINGS)
    assert "limit" in str(_rows(result.directory)[2, "unpruned"].reason)


def _ids(text: str, asked: Asked) -> Any:
    tokens = torch.tensor([asked.senna.processor.encode_chunk(text)], dtype=torch.long)
    return lambda ids: torch.cat([ids[:, :-3], tokens], dim=1)


def test_empty_endless_and_broken_answers_are_failures_that_count_as_wrong(place: Place) -> None:
    asked = counting_senna()
    asked.answers = [_ids("", asked), _ids("AB" * LONGEST_ANSWER, asked)]
    result = evaluate(place.config(), asked.senna)
    rows = _rows(result.directory)
    assert (rows[0, "unpruned"].status, rows[0, "unpruned"].answer) == ("failed", "")
    assert "no text" in str(rows[0, "unpruned"].reason)
    endless = rows[0, "autoprune"]
    assert endless.answer is not None
    assert len(endless.answer) == LONGEST_ANSWER
    assert "8000 characters" in str(endless.reason)
    assert result.failed == 2
    assert result.metrics["questions"]["complete"] == 4  # an empty answer is an answer


def test_logits_that_are_not_finite_are_failures(place: Place) -> None:
    asked = counting_senna()
    with torch.no_grad():
        asked.senna.model.lm_head.weight[5] = float("nan")
    result = evaluate(place.config(controls=False), asked.senna)
    assert result.failed == 4 * 2
    assert {row.reason for row in _rows(result.directory).values()} == {"the model's logits are not finite"}
    assert result.metrics["settings"]["unpruned"]["plan"]["invalid"] == 4


def test_out_of_memory_is_recorded(place: Place) -> None:
    def full(ids: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("tried to allocate")

    asked = counting_senna()
    asked.answers = [full]
    result = evaluate(place.config(), asked.senna)
    assert result.failed == 1
    assert _rows(result.directory)[0, "unpruned"].reason == "out of memory on the device"
    assert result.metrics["questions"]["complete"] == 3


def test_a_budget_that_no_question_can_meet_stops_at_once(place: Place) -> None:
    asked = counting_senna()
    with pytest.raises(SennaPruneError, match="nearest possible"):
        evaluate(place.config(retention=0.01), asked.senna)
    assert asked.generated <= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "autoprun"}, "did you mean 'autoprune'"),
        ({"options": {"gama": 0.1}}, "did you mean 'gamma'"),
        ({"types": "light"}, "has no question of type light"),
        ({"images": "/nowhere"}, "--images"),
    ],
)
def test_a_bad_set_up_is_seen_before_a_model_is_loaded(place: Place, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SennaPruneError, match=message):
        prepare(place.config(**changes))


def test_settings_of_a_control_as_method_are_not_doubled(place: Place) -> None:
    names = [setting.name for setting in settings_of(place.config(method="random"))]
    assert names == ["unpruned", "random", "uniform", "no-image"]
    assert [setting.name for setting in settings_of(place.config(controls=False))] == ["unpruned", "autoprune"]


def test_limit_and_types_choose_questions_and_samples_share_their_images(place: Place) -> None:
    whole, _ = load_questions(place.config(types="plan,vru"))
    assert [(row.question, row.type) for row in whole[:3]] == [(0, "plan"), (1, "vru"), (2, "plan")]
    assert [[row.question for row in sample] for sample in samples_of(whole[:3])] == [[0, 1], [2]]
    assert whole[0].scene == "scene-0" and whole[0].scene_known
    rows, _ = load_questions(place.config(types="plan,vru", limit=3))
    assert len(rows) == 3 and all(row in whole for row in rows)


def test_scene_facts_come_from_the_sidecar(place: Place) -> None:
    scenes = {"scene-0": {"description": "Night, rain", "location": "boston-seaport"}}
    Path(f"{place.questions}.meta.json").write_text(json.dumps({"scenes": scenes}))
    rows, _ = load_questions(place.config())
    assert (rows[0].attributes["light"], rows[0].attributes["location"]) == ("night", "boston-seaport")
    assert rows[-1].attributes["light"] == "unknown"


def test_without_scenes_every_sample_is_its_own_and_the_run_says_so(tmp_path: Path) -> None:
    place = make_place(tmp_path, samples=2)
    records = json.loads(place.questions.read_text())
    for item in records:
        del item["senna_prune"]
    place.questions.write_text(json.dumps(records))
    scenes = evaluate(place.config(controls=False), counting_senna().senna).metrics["scenes"]
    assert scenes["count"] == 2
    assert "unknown" in scenes["note"]


def test_other_numbers_of_views_in_one_file(place: Place) -> None:
    records = json.loads(place.questions.read_text())
    records.append(record("t9", ["images/0-0.png"], "your SPEED plan?", LABELS[0]))
    place.questions.write_text(json.dumps(records))
    result = evaluate(place.config(), counting_senna().senna)
    assert result.failed == 0
    assert result.metrics["settings"]["autoprune"]["cost"]["kept_per_view"] is None


def test_cls_scores_are_asked_of_the_tower_when_a_method_needs_them(place: Place) -> None:
    asked = counting_senna()
    rows = _rows(evaluate(place.config(mode="release", retention=0.6, controls=False), asked.senna).directory)
    trace = rows[0, "autoprune"].trace
    assert trace is not None
    assert any("our rule" in note for note in trace["notes"])  # said in every table, see the notes of a summary
    assert not any("no CLS scores" in note for note in trace["notes"])


def test_the_same_command_finds_its_own_directory(place: Place) -> None:
    names = {run_directory(place.config(out=None, **changes)) for changes in ({}, {}, {"resamples": 300})}
    assert len(names) == 1
    name = names.pop()
    assert name.parent == Path("runs")
    assert name.name.startswith("autoprune-retention-0.6-")
    assert run_directory(place.config(out=None, seed=1)) != name


def test_the_fingerprint_is_of_the_weights_as_loaded() -> None:
    first, same, other = (counting_senna(seed).senna for seed in (0, 0, 1))
    assert model_fingerprint(first) == model_fingerprint(same)
    assert model_fingerprint(first)["weights_sha256"] != model_fingerprint(other)["weights_sha256"]
    with torch.no_grad():
        same.model.lm_head.weight[0, 0] += 1e-6
    assert model_fingerprint(first)["weights_sha256"] != model_fingerprint(same)["weights_sha256"]
    same.model.bfloat16()
    assert len(model_fingerprint(same)["weights_sha256"]) == 64


def test_a_sample_that_is_done_is_not_even_looked_at(place: Place) -> None:
    asked = counting_senna()
    rows, root = load_questions(place.config())
    answerer = Answerer(asked.senna, [Setting("unpruned")], root, max_new_tokens=2)
    assert list(answerer.answer(rows[:1], set())) == []
    assert asked.looked == 0
