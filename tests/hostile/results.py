"""Results in a stranger's run folder (metrics.json, table.json, budget.json, survival.json): no file of their own, or altered."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.hostile.case import Corpus, Place

CASES = Corpus("result")
INTERVAL = {"value": 0.5, "low": 0.4, "high": 0.6}
SPREAD = {"median": 1.0, "p10": 0.9, "p90": 1.1}
MEASURED = {"accuracy": INTERVAL, "official_accuracy": 0.5, "retention": INTERVAL, "tokens_per_view": 32.0, "retention_tokens": 0.25}
COST = {"flops_ratio": 0.4, "prefill_ms": SPREAD, "prefill_ratio": SPREAD}
TABLE: dict[str, Any] = {
    "columns": [{"budget": "0.25", "share": 0.25, "tokens_per_view": 32.0}],
    "plain": {"unpruned": {**MEASURED, **COST}},
    "cells": [
        {"row": "autoprune", "kind": "method", "budget": "0.25", "setting": "autoprune@0.25", "status": "ok", **MEASURED, **COST},
        {"row": "fastv", "kind": "method", "budget": "0.25", "setting": "fastv@0.25", "status": "n/a", "reason": "out of reach"},
    ],
    "paper": {"source": "a paper", "label": "paper", "rows": {}},
    "paper_ablations": {},
    "facts": {
        "questions": 4,
        "scenes": {"count": 2},
        "majority_answer": "KEEP, STRAIGHT",
        "tests": 1,
        "level": 0.05,
        "batch_size": 1,
        "machine": {"device": "cpu"},
    },
    "warnings": [],
    "verdict": {"sentence": "something was shown"},
}
LOOK = {"scenes": 40, "questions": 80, "difference": -0.01, "lower": -0.02, "dangerous": 0, "dangerous_upper": 0.07}
STEP = {
    "budget": 0.25,
    "outcome": "safe",
    "reason": "both shown",
    "looks": [LOOK],
    "cost": {"total_ratio": None, "drift": 1.3},
    "deployable": "none: of layers",
}
BUDGET: dict[str, Any] = {
    "run": {"config": {"method": "autoprune"}, "settings": {}, "places": {}},
    "sentence": "25 % is safe",
    "measure": "accuracy",
    "over": {"figure": "accuracy", "unit": "points", "dangerous": "a missed brake"},
    "margins": {"margin": 0.02, "safety": 0.1, "source": "stated"},
    "halves": {"choose": ["scene-0"], "certify": ["scene-1"]},
    "controls": [{"setting": "no-image", "questions": 80, "difference": -0.4, "lower": -0.5}],
    "sequence": [STEP],
    "chosen": {"method": "autoprune", "tried": [
        {"method": "autoprune", "budget": 0.25, "difference": 0.0, "dangerous": 0, "promising": True}]},
    "noise": {"changed": 0.0},
    "strata": [{"stratum": "light: day", "scenes": 30, "questions": 60, "difference": 0.0, "p_holm": 1.0, "dangerous": 0,
                "outcome": "no loss shown"}],
}  # fmt: skip
LAYERS = {"survival": [1.0, 0.5], "chance": [1.0, 0.25]}
SURVIVED = {"objects": 3, "by_layer": LAYERS, "mean": 0.7, "chance": 0.5, "gain": INTERVAL, "lost": 0.1}
SURVIVAL: dict[str, Any] = {
    "format": "senna-prune survival 1",
    "label": None,
    "settings": {"autoprune@0.25": {"method": "autoprune", "kind": "method", "retention": 0.25}},
    "impossible": {},
    "measures": {"autoprune@0.25": {"all": SURVIVED, "class": {"car": SURVIVED}, "distance": {}, "view": {}, "flipped": {}}},
    "notes": ["a note"],
}
METRICS: dict[str, Any] = {"bootstrap": {"resamples": 100, "seed": 0}, "settings": {"unpruned": {"plan": {"exact_accuracy": 0.5}}}}
GOOD = {"metrics.json": METRICS, "table.json": TABLE, "budget.json": BUDGET, "survival.json": SURVIVAL}
REPORT = ["report", "run", "--no-replay"]


def _placed(name: str, put: Callable[[Path, Place], object]) -> Callable[[Place], list[str]]:
    """A finished run whose file of that name is what ``put`` makes there; reported."""

    def make(place: Place) -> list[str]:
        run = place.finished()
        if name == "table.json":
            (run / "config.yaml").write_text("sweep: {}\n")
        (run / name).unlink(missing_ok=True)
        put(run / name, place)
        return list(REPORT)

    return make


def _written(content: Any) -> Callable[[Path, Place], object]:
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda path, _: path.write_text(text)


def _changed(good: dict[str, Any], where: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """``good`` with another value at a place; without a value the key is gone."""
    found: Any = deepcopy(good)
    at = found
    for key in where[:-1]:
        at = at[key]
    if value is None:
        del at[where[-1]]
    else:
        at[where[-1]] = value
    return found  # type: ignore[no-any-return]


def _altered(name: str) -> str:
    return rf"{name} is not .* or was altered"


# --- no file of their own ---------------------------------------------------------------------------------------------

for name in GOOD:
    NO_FILE = rf"{name} .*(no plain file|second name)"
    CASES.add(f"{name} is a pipe", _placed(name, lambda path, _: os.mkfifo(path)), NO_FILE)
    CASES.add(f"{name} is a device", _placed(name, lambda path, _: path.symlink_to("/dev/zero")), NO_FILE)
    CASES.add(f"{name} is a link to the user's file", _placed(name, lambda path, place: path.symlink_to(place.canary)), NO_FILE)
    CASES.add(f"{name} is a link to nothing", _placed(name, lambda path, _: path.symlink_to("nowhere")), NO_FILE)
    CASES.add(f"{name} has a second name", _placed(name, lambda path, place: os.link(place.canary, path)), NO_FILE)
    CASES.add(f"{name} is a folder", _placed(name, lambda path, _: path.mkdir()), NO_FILE)
    CASES.add(f"{name} of 10 GB", _placed(name, lambda path, _: (path.touch(), os.truncate(path, 10 << 30))), "larger than")

# --- no such result ---------------------------------------------------------------------------------------------------

for name in GOOD:
    CASES.add(f"{name} cut off", _placed(name, _written(json.dumps(GOOD[name])[:40])), rf"cannot read .*{name}")
    CASES.add(f"{name} nested beyond all depth", _placed(name, _written("[" * 100_000)), rf"cannot read .*{name} \(nested too deeply\)")
    CASES.add(f"{name} with an integer of 5,000 digits", _placed(name, _written('{"a": ' + "9" * 5000 + "}")), rf"cannot read .*{name}")
    for what, content in {"a list": [], "a text": '"x"', "empty": {}, "a number": "7"}.items():
        CASES.add(f"{name} is {what}", _placed(name, _written(content)), _altered(name))


def _mappings(value: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every mapping, list and figure of a result, by its place."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*where, key), one
        if isinstance(one, dict | list):
            yield from _mappings(one, (*where, key))


FREE = {  # what a result may lack, and what is looked at elsewhere
    ("verdict",), ("over",), ("sequence",), ("chosen",), ("noise",), ("strata",), ("bootstrap", "seed"), ("run", "places"),
    ("run", "settings"), ("run", "config"), ("settings", "unpruned"), ("measures", "autoprune@0.25"), ("plain", "unpruned"),
}  # fmt: skip
for name, good in GOOD.items():
    for where, one in _mappings(good):
        said = ".".join(map(str, where))
        if isinstance(one, dict) and where != ("run", "config", "method"):
            kind = rf"{name} (is not|was not) .*altered"
            CASES.add(f"{name}: a list in the place of {said}", _placed(name, _written(_changed(good, where, [1]))), kind)
        if isinstance(one, dict) and len(where) == 1 and where not in FREE:
            CASES.add(f"{name} without {said}", _placed(name, _written(_changed(good, where, None))), _altered(name))
        if isinstance(one, float):
            for value, word in (("fast", "a text"), (float("nan"), "NaN"), (float("inf"), "infinity"), ([], "a list")):
                CASES.add(f"{name}: {word} in the place of {said}", _placed(name, _written(_changed(good, where, value))), _altered(name))

CASES.add(
    "table.json of 100,000 cells", _placed("table.json", _written({**TABLE, "cells": TABLE["cells"] * 50_000})), _altered("table.json")
)
CASES.add("budget.json of 10,000 steps", _placed("budget.json", _written({**BUDGET, "sequence": [STEP] * 10_000})), _altered("budget.json"))
CASES.add(
    "budget.json whose sentence steers", _placed("budget.json", _written({**BUDGET, "sentence": "safe\x1b[2J"})), _altered("budget.json")
)
CASES.add(
    "survival.json of a layer without an end",
    _placed("survival.json", _written(_changed(SURVIVAL, ("measures", "autoprune@0.25", "all", "by_layer", "survival"), [1.0] * 100_000))),
    _altered("survival.json"),
)


@CASES.case("metrics.json that is a pipe, listed", r"unreadable: .*metrics\.json .*no plain file", 0)
def _listed(place: Place) -> list[str]:
    _placed("metrics.json", lambda path, _: os.mkfifo(path))(place)
    return ["runs", ".", "--json"]


@CASES.case("metrics.json of lists, listed", r"unreadable: .*metrics\.json is not the measures of a run", 0)
def _lists(place: Place) -> list[str]:
    _placed("metrics.json", _written({"bootstrap": [], "settings": []}))(place)
    return ["runs", ".", "--json"]


# --- drawn at random --------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (None, True, -1, 0, 1e300, 10**18, "", "x" * 5000, "\x1b[2J", "\u202e", [], {}, [[]], {"a": {}}, "<script>")


def fuzzed(good: dict[str, Any], seed: int) -> dict[str, Any]:
    """``good`` with one to three values replaced, dropped or moved at random."""
    rng, found = random.Random(seed), deepcopy(good)
    for _ in range(rng.randint(1, 3)):
        places = [where for where, _ in _mappings(found)]
        if not places:
            break
        where, value = rng.choice(places), rng.choice(ODD)
        found = _changed(found, where, value if value is not None else None)
    return found


for name in ("budget.json", "table.json", "survival.json"):
    for seed in range(15):  # right is a line, or a page of what is still a result
        CASES.add(f"{name}, altered at random, {seed}", _placed(name, _written(fuzzed(GOOD[name], seed))), rf"{name}|report\.html", 0, 2)

for name in GOOD:
    CASES.add(f"a good {name}", _placed(name, _written(GOOD[name])), r"report\.html", 0)
