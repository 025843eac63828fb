"""What a model or a device does wrong with a question: too little memory, logits that are no numbers, ids without a word."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_autoprune.evaluation.answering.faults import NoRoom, answer_fault, room
from senna_autoprune.evaluation.evaluate import evaluate
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.evaluation.runs.store import RunStore
from tests.evaluation.conftest import Asked, Place, counting_senna

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 24 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you asked 8 bytes")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def rows_of(directory: Path) -> dict[tuple[int, str], AnswerRow]:
    with RunStore.read(directory) as store:
        return {(row.question, row.setting): row for row in store.answers()}


def texts_of(directory: Path) -> dict[tuple[int, str], Any]:
    return {key: (row.status, row.answer, row.reason, row.new_tokens) for key, row in rows_of(directory).items()}


def small_memory(fits: int, error: BaseException) -> tuple[Asked, list[int]]:
    """A model with room for ``fits`` questions at a time, and the sizes it was asked for."""
    asked, sizes = counting_senna(), []
    generate = asked.senna.model.generate

    def bounded(*args: Any, **kwargs: Any) -> Any:
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > fits:
            raise error
        return generate(*args, **kwargs)

    asked.senna.model.generate = bounded  # type: ignore[method-assign]
    return asked, sizes


@pytest.mark.parametrize("error", [CUDA, CPU, CUBLAS, MemoryError()], ids=["cuda", "cpu", "cublas", "host"])
def test_out_of_memory_halves_the_batches_and_says_so_once(place: Place, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    alone = evaluate(place.config(types="plan,vru", out=str(place.folder / "alone")), counting_senna().senna)
    asked, sizes = small_memory(2, error)
    with caplog.at_level(logging.WARNING):
        together = evaluate(place.config(types="plan,vru", batch_size=8), asked.senna)
    assert texts_of(together.directory) == texts_of(alone.directory)
    assert together.failed == 0
    assert sizes[0] > 2 and sizes[1:].count(sizes[0]) == 0  # what did not fit is not tried again
    assert max(sizes[2:]) == 2  # and batches stay as large as they may
    said = [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
    assert len(said) == 1 and "up to 8 questions" in said[0] and "\n" not in said[0]


def test_a_question_without_room_of_its_own_is_recorded(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    asked, sizes = small_memory(0, CUDA)
    result = evaluate(place.config(batch_size=4, controls=False), asked.senna)
    assert result.failed == 2 * 4
    assert {(row.status, row.reason) for row in rows_of(result.directory).values()} == {("failed", "out of memory on the device")}
    assert sorted(set(sizes)) == [1, 2, 4]


def test_out_of_memory_while_looking_fails_the_sample_alone(place: Place) -> None:
    asked = counting_senna()
    look = asked.senna.model.get_image_features

    def too_large(*args: Any, **kwargs: Any) -> Any:
        if asked.looked == 1:
            asked.looked += 1
            raise CUDA
        return look(*args, **kwargs)

    asked.senna.model.get_image_features = too_large  # type: ignore[method-assign]
    result = evaluate(place.config(controls=False), asked.senna)
    failed = {key for key, row in rows_of(result.directory).items() if row.reason == "out of memory on the device"}
    assert failed == {(2, "unpruned"), (2, "autoprune")} and result.failed == 2


def test_an_error_that_is_not_memory_is_no_recorded_failure(place: Place) -> None:
    asked, _ = small_memory(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        evaluate(place.config(), asked.senna)
    assert rows_of(place.folder / "run") == {}


def test_what_the_cpu_allocator_says_is_known() -> None:
    """The real words of this torch, not those we remember."""
    with pytest.raises(NoRoom, match="out of memory on the device"), room():
        torch.empty(1 << 60)
    with pytest.raises(ValueError, match="other"), room():
        raise ValueError("other")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_of_one_question_of_a_batch_fail_it_alone(place: Place, value: float) -> None:
    asked = counting_senna()

    def broken(module: Any, args: Any, logits: torch.Tensor) -> None:
        if len(logits) > 1:
            logits[1] = value

    asked.senna.model.lm_head.register_forward_hook(broken)
    result = evaluate(place.config(batch_size=4, controls=False), asked.senna)
    found = rows_of(result.directory)
    assert {key for key, row in found.items() if row.status == "failed"} == {(2, "unpruned"), (2, "autoprune")}
    assert (found[2, "unpruned"].reason, found[2, "unpruned"].answer) == ("the model's logits are not finite", "")


def test_an_id_beyond_the_tokenizer_is_a_failure_with_the_rest_of_the_text(place: Place) -> None:
    asked = counting_senna()
    beyond = len(asked.senna.processor.tokenizer)
    words = asked.senna.processor.encode_chunk("AB")
    asked.answers = [lambda ids: torch.cat([ids[:, :-3], torch.tensor([[*words, beyond, beyond + 7]])], dim=1)]
    result = evaluate(place.config(controls=False), asked.senna)
    row = rows_of(result.directory)[0, "unpruned"]
    assert (row.status, row.answer) == ("failed", "AB")
    assert row.reason == f"the model generated id {beyond}, which its tokenizer does not have"
    assert result.failed == 1 and result.metrics["questions"]["complete"] == 4  # it is an answer, and wrong


@pytest.mark.parametrize(
    ("answer", "sane", "unknown", "words"),
    [
        ("KEEP, STRAIGHT", True, [], None),
        ("", False, [99], "not finite"),
        ("", True, [99, 100], "id 99"),
        ("", True, [], "no text"),
        ("x" * 10_000, True, [], "10000 characters"),
    ],
)
def test_the_first_thing_wrong_is_named(answer: str, sane: bool, unknown: list[int], words: str | None) -> None:
    fault = answer_fault(answer, sane, unknown)
    assert (fault is None) == (words is None)
    assert words is None or words in str(fault)


def test_ten_thousand_characters_are_cut_in_the_store_and_wrong_in_the_table(place: Place) -> None:
    asked = counting_senna()
    asked.answers = [lambda ids: torch.cat([ids[:, :-3], torch.full((1, 10_000), 5)], dim=1)]
    result = evaluate(place.config(controls=False), asked.senna)
    row = rows_of(result.directory)[0, "unpruned"]
    assert row.answer is not None
    assert (row.status, len(row.answer), row.new_tokens) == ("failed", 4000, 10_000)
    assert "10000 characters" in str(row.reason)
    assert result.metrics["settings"]["unpruned"]["plan"]["invalid"] == 4  # three of three letters, and this one
    assert "A" * 4001 not in json.dumps(result.metrics)
