"""The suites' tasks as lmms-eval ships them: their prompts, their scoring and the names of their metrics, over two documents each made
here in place of the data sets, which cannot be downloaded in a test."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from lmms_eval.tasks import TaskManager
from PIL import Image

from senna_autoprune.lmms.suites import SUITES, load_suite
from tests.lmms.tiny import COLOURS, VISUAL_TOKENS


def documents() -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """task -> (split, documents), with the fields that lmms-eval's code of the task reads."""
    red, blue = (Image.new("RGB", (64, 48), COLOURS[name]) for name in ("red", "blue"))
    asked = [{"image": image, "question": "what colour is the picture?"} for image in (red, blue)]
    option = {"hint": "nan", "category": "colour", "L2-category": "perception", "source": "here", "split": "dev", "A": "red", "B": "blue"}
    votes = [{"answer": "red", "answer_confidence": "yes", "answer_id": index} for index in range(10)]
    pairs = [
        {"image": image, "question": "red? Please answer yes or no.", "answer": answer, "category": kind, "question_id": kind}
        for kind in ("color", "code_reasoning")
        for image, answer in ((red, "Yes"), (blue, "No"))
    ]
    return {
        "gqa": ("testdev", [{**one, "id": str(i), "answer": "red"} for i, one in enumerate(asked)]),
        "mmbench_en_dev_static": ("dev", [{**one, **option, "index": i, "answer": "AB"[i]} for i, one in enumerate(asked)]),
        "mme": ("test", pairs),
        "pope": ("test", [{**one, "question_id": str(i), "answer": "yes"} for i, one in enumerate(asked)]),
        "scienceqa_img": ("test", [{**one, "hint": "", "choices": ["red", "blue"], "answer": i} for i, one in enumerate(asked)]),
        "vqav2_val": ("validation", [{**one, "question_id": i, "answer": "red", "answers": votes} for i, one in enumerate(asked)]),
        "textvqa_val": (
            "validation",
            [{**one, "question_id": i, "answer": "", "answers": ["red"] * 10, "ocr_tokens": []} for i, one in enumerate(asked)],
        ),
    }


@pytest.fixture(scope="module")
def results(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of one run of lmms-eval's own command over all seven, pruned."""
    folder = tmp_path_factory.mktemp("standard")
    shipped = TaskManager("WARNING").task_index
    for name, (split, rows) in documents().items():
        DatasetDict({split: Dataset.from_list(rows)}).save_to_disk(folder / "data" / name)
        (folder / f"here_{name}.yaml").write_text(
            f"include: {shipped[name]['yaml_path']}\ntask: here_{name}\ndataset_path: {folder / 'data' / name}\ndataset_name: null\n"
            "dataset_kwargs:\n  load_from_disk: true\nprocess_docs: null\n"
        )
    words = [sys.executable, "-m", "lmms_eval", "--model", "senna_prune_llava", "--device", "cpu", "--include_path", str(folder)]
    words += ["--model_args", f"pretrained={checkpoint},method=autoprune,tokens=8", "--gen_kwargs", "max_new_tokens=4"]
    words += ["--tasks", ",".join(f"here_{name}" for name in documents()), "--output_path", str(folder / "out"), "--log_samples"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = list(folder.glob("out/*tiny-llava/*_results.json"))
    assert found, done.stdout[-3000:] + done.stderr[-3000:]
    data: dict[str, Any] = json.loads(found[0].read_text())
    data["prompts"] = {
        name: [json.loads(line)["input"] for line in next(folder.glob(f"out/*/*_samples_here_{name}.jsonl")).read_text().splitlines()]
        for name in documents()
    }
    return data


@pytest.mark.parametrize("suite", SUITES)
def test_every_column_of_a_suite_is_a_number_that_lmms_eval_gives(suite: str, results: dict[str, Any]) -> None:
    tasks = load_suite(suite).tasks
    assert {task.name for task in tasks} == set(documents())
    for task in tasks:
        measured = results["results"][f"here_{task.name}"]
        for metric in task.metrics:
            value = measured[f"{metric},none"]
            assert isinstance(value, int | float) and math.isfinite(value), (task.name, metric, value)
            assert 0 <= value * task.scale <= (100 if task.name != "mme" else 2000)


def test_all_of_them_were_pruned(results: dict[str, Any]) -> None:
    asked = sum(len(rows) for _, rows in documents().values())
    assert results["throughput"]["avg_questions_with_images"] == asked
    assert results["throughput"]["avg_visual_tokens"] == 8
    assert results["throughput"]["avg_visual_tokens_unpruned"] == VISUAL_TOKENS


def test_prompts_are_the_benchmarks_own(results: dict[str, Any]) -> None:
    assert results["prompts"]["gqa"][0] == "what colour is the picture?\nAnswer the question using a single word or phrase."
    ending = "A. red\nB. blue\nAnswer with the option's letter from the given choices directly."
    assert results["prompts"]["scienceqa_img"][0].endswith(ending)
