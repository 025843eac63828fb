"""The paper's own figures, to be printed beside ours and never mixed with them. They live in ``paper.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


@cache
def paper() -> dict[str, Any]:
    """The content of ``paper.json``: ``source``, ``table3`` (Senna-7B), ``table4`` (ablations on LLaVA-1.5-7B)."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("paper.json").read_text(encoding="utf-8"))
    return found


def table3_at(shares: Sequence[float]) -> dict[str, list[float | None]]:
    """Table 3's rows at budgets given as shares of a view's tokens: None where the paper has no figure.

    The paper states tokens of 128 a view, e.g. 26; a share matches if it is that many tokens when rounded.
    """
    table = paper()["table3"]
    places = {tokens: index for index, tokens in enumerate(table["tokens_per_view"])}
    wanted = [places.get(int(share * table["tokens_of_a_view"] + 0.5)) for share in shares]
    rows = {name: [None if at is None else row[at] for at in wanted] for name, row in table["rows"].items()}
    return rows if any(at is not None for at in wanted) else {}


def llava15_at(tokens: int) -> dict[str, float]:
    """AutoPrune's own figures on LLaVA-1.5-7B at an average of ``tokens`` visual tokens: {"TextVQA": 57.1, "GQA": 57.7} of 64.

    They are the rows "mutual information" and "logistic" of Table 4, i.e. the method as it is; {} at budgets without figures.
    """
    table = paper()["table4"]
    figures = zip(table["columns"], table["indicators"]["mutual_information"], strict=True)
    ending = f", {tokens} tokens"
    return {column.removesuffix(ending): value for column, value in figures if column.endswith(ending)}
