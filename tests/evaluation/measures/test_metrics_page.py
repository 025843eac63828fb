"""docs/metrics.md explains every number of metrics.json that a table prints."""

from __future__ import annotations

import re
from pathlib import Path

from senna_autoprune.evaluation.measures.cost import cost_measures
from senna_autoprune.evaluation.measures.flips import flip_table
from senna_autoprune.evaluation.measures.metrics import plan_measures
from senna_autoprune.evaluation.measures.parsing import Plan
from senna_autoprune.evaluation.runs.rows import AnswerRow
from tests.evaluation.measures.test_summary import _trace

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_every_key_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    row = AnswerRow(0, "autoprune", "ok", "KEEP, STRAIGHT", trace=_trace(8.0))
    keys = set(plan_measures([Plan("KEEP", "STRAIGHT")], [Plan("KEEP", "STRAIGHT")])) | set(cost_measures([row], [row]))
    keys |= {"flips", "rate", "harmful", *flip_table([], 1, 1)["scenes"]}
    keys |= {"retention", "agreement", "official", "exact_accuracy_interval", "scene_test_against", "mcnemar_against", "verdict"}
    assert keys - explained - {"compared", "harmful_upper", "pruned"} == set()
