"""Is a result of a run folder what a run writes? metrics.json, table.json, budget.json and survival.json may come from a stranger.

Each is a regular file of its own and of bounded size, and holds what reports, replays and lists read of it: figures that are numbers,
names that are short texts, tables that fit a page. What it holds besides is not looked at.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.identity import METRICS as METRICS
from senna_autoprune.files.json_files import LONGEST_NAME, text_fault
from senna_autoprune.files.regular import read_regular

TABLE, CERTIFICATE, SURVIVAL = "table.json", "budget.json", "survival.json"
LARGEST = 128_000_000  # bytes: metrics.json lists every flip, 300 bytes each
MOST_ROWS = 2000  # of a table: a picture has a row each
LONGEST_SENTENCE = 20_000  # characters

_Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=10**15)]
_Name = Annotated[str, StringConstraints(max_length=LONGEST_NAME)]
_Sentence = Annotated[str, StringConstraints(max_length=LONGEST_SENTENCE)]


class _Interval(TypedDict):
    value: _Number | None
    low: _Number | None
    high: _Number | None


class _Spread(TypedDict):
    median: _Number | None
    p10: NotRequired[_Number | None]
    p90: NotRequired[_Number | None]


# --- metrics.json -----------------------------------------------------------------------------------------------------


class _Resampled(TypedDict):
    resamples: _Count


class _Planned(TypedDict, total=False):
    exact_accuracy: _Number | None


class _Setting(TypedDict, total=False):
    plan: _Planned


class _Said(TypedDict):
    sentence: _Sentence


class _Metrics(TypedDict):
    bootstrap: _Resampled
    settings: dict[_Name, _Setting]
    verdict: NotRequired[_Said]


# --- table.json of a sweep --------------------------------------------------------------------------------------------


class _Column(TypedDict):
    budget: _Name
    share: _Number | None
    tokens_per_view: _Number | None


class _Measured(TypedDict, total=False):
    official_accuracy: _Number | None
    retention: _Interval | None
    tokens_per_view: _Number | None
    retention_tokens: _Number | None
    flops_ratio: _Number | None
    prefill_ms: _Spread
    prefill_ratio: _Spread
    kept_per_view: Annotated[list[_Number], Field(max_length=MOST_ROWS)] | None
    flips: dict[_Name, _Count]
    marks: list[_Name]
    measures: dict[_Name, Any]


class _Plain(_Measured):
    accuracy: _Interval


class _Place(TypedDict):
    row: _Name
    kind: _Name
    budget: _Name
    setting: _Name


class _Cell(_Place, _Measured):
    status: Literal["ok"]
    accuracy: _Interval


class _Unreached(_Place):
    status: Literal["n/a"]
    reason: _Sentence


class _Scenes(TypedDict):
    count: _Count
    warning: NotRequired[_Sentence]
    note: NotRequired[_Sentence]


class _Machine(TypedDict):
    device: _Name


class _Facts(TypedDict):
    questions: _Count
    scenes: _Scenes
    majority_answer: _Sentence | None
    tests: _Count
    level: _Number
    batch_size: _Count
    machine: _Machine
    about: NotRequired[_Name]
    type: NotRequired[_Name]
    label: NotRequired[_Name | None]


class _Paper(TypedDict):
    source: _Name
    label: _Name
    rows: dict[_Name, list[_Number | None]]


class _Ablations(TypedDict, total=False):
    label: _Name
    measure: _Name
    columns: list[_Name]
    rows: dict[_Name, list[_Number]]


class _Bands(TypedDict):
    row: _Name
    budget: _Name
    bands: dict[_Name, _Interval]


class _Interaction(_Interval):
    static: _Name
    budget: _Name


class _Rank(_Interval):
    count: _Count


class _Oracle(TypedDict):
    budget: _Name
    variants: _Count
    oracle: _Interval
    best: _Interval


class _Complexity(TypedDict):
    questions: dict[_Name, _Count]
    types: dict[_Name, _Count]
    cells: Annotated[list[_Bands], Field(max_length=MOST_ROWS)]
    interactions: Annotated[list[_Interaction], Field(max_length=MOST_ROWS)]
    mutual_information: dict[_Name, _Rank]
    oracle: Annotated[list[_Oracle], Field(max_length=MOST_ROWS)]


class _Table(TypedDict):
    columns: Annotated[list[_Column], Field(min_length=1, max_length=200)]
    plain: dict[_Name, _Plain]
    cells: Annotated[list[Annotated[_Cell | _Unreached, Field(discriminator="status")]], Field(max_length=MOST_ROWS)]
    paper: _Paper
    paper_ablations: _Ablations | None
    facts: _Facts
    warnings: list[_Sentence]
    verdict: NotRequired[_Said]
    complexity: NotRequired[_Complexity | None]


# --- budget.json ------------------------------------------------------------------------------------------------------


class _Look(TypedDict):
    scenes: _Count
    difference: _Number
    lower: _Number
    dangerous: _Count | None
    dangerous_upper: _Number | None


class _Cost(TypedDict):
    total_ratio: _Number | None


class _Step(TypedDict):
    budget: _Number
    outcome: _Name | None
    reason: _Sentence
    looks: Annotated[list[_Look], Field(min_length=1, max_length=MOST_ROWS)]
    cost: _Cost
    deployable: _Sentence


_Steps = Annotated[list[_Step], Field(max_length=200)]


class _Each(TypedDict):
    method: _Name
    kind: _Name
    budget: _Number | None
    together: bool
    stopped: _Sentence | None
    at: _Step | None
    sequence: _Steps


class _Margins(TypedDict):
    margin: _Number
    safety: _Number
    source: _Sentence


class _Halves(TypedDict):
    choose: list[_Name]
    certify: list[_Name]


class _Over(TypedDict):
    figure: _Name
    unit: _Name
    dangerous: _Sentence | None


class _Tried(TypedDict):
    method: _Name
    budget: _Number
    difference: _Number | None
    dangerous: _Count | None
    promising: bool


class _Chosen(TypedDict):
    method: _Name
    tried: Annotated[list[_Tried], Field(max_length=MOST_ROWS)]


class _Noise(TypedDict):
    changed: _Number


class _Stratum(TypedDict):
    stratum: _Name
    scenes: _Count
    questions: _Count
    difference: _Number
    p_holm: _Number | None
    dangerous: _Count | None
    outcome: _Name


class _Control(TypedDict):
    setting: _Name
    questions: _Count
    difference: _Number
    lower: _Number | None


class _Certificate(TypedDict):
    run: dict[_Name, Any]  # see ``description.check_description``
    sentence: _Sentence
    measure: _Name
    margins: _Margins
    halves: _Halves
    controls: Annotated[list[_Control], Field(max_length=MOST_ROWS)]
    over: NotRequired[_Over]
    sequence: NotRequired[_Steps]
    each: NotRequired[Annotated[list[_Each], Field(max_length=200)]]
    chosen: NotRequired[_Chosen]
    noise: NotRequired[_Noise]
    strata: NotRequired[Annotated[list[_Stratum], Field(max_length=MOST_ROWS)]]
    power: NotRequired[_Sentence | None]
    warning: NotRequired[_Sentence | None]


# --- survival.json ----------------------------------------------------------------------------------------------------

_Shares = Annotated[list[_Number], Field(min_length=1, max_length=MOST_ROWS)]


class _Layers(TypedDict):
    survival: _Shares
    chance: _Shares


class _Survival(TypedDict):
    objects: _Count
    by_layer: _Layers
    mean: _Number
    chance: _Number
    gain: _Interval
    lost: _Number


_Groups = Annotated[dict[_Name, _Survival], Field(max_length=MOST_ROWS)]
_Survivals = TypedDict("_Survivals", {"all": _Survival, "class": _Groups, "distance": _Groups, "view": _Groups, "flipped": _Groups})


class _Kept(TypedDict, total=False):
    retention: _Number
    tokens_per_view: _Number


class _Pruned(_Kept):
    method: _Name
    kind: _Name


class _Survived(TypedDict):
    format: _Name
    label: _Sentence | None
    settings: dict[_Name, _Pruned]
    impossible: dict[_Name, _Sentence]
    measures: Annotated[dict[_Name, _Survivals], Field(max_length=MOST_ROWS)]
    notes: list[_Sentence]


_KINDS: dict[str, tuple[TypeAdapter[Any], str, str]] = {  # file -> its schema, what it is, what to do
    METRICS: (TypeAdapter(_Metrics), "the measures of a run", "run its command again"),
    TABLE: (TypeAdapter(_Table), "a table of a sweep", "run the sweep's command again"),
    CERTIFICATE: (TypeAdapter(_Certificate), "a certificate", "run the budget's command again"),
    SURVIVAL: (TypeAdapter(_Survived), "a result of senna-prune survival", "run it again"),
}


def there(path: Path) -> bool:
    """Whether something has that name, a link to nothing or a pipe included: ``read_result`` then says what is wrong with it."""
    return os.path.lexists(path)


def read_result(path: Path) -> Any:
    """What one of the four files holds.

    Args:
        path: its name says which of them.
    Raises:
        SennaPruneError: missing, a link, a pipe or a device, too large, no JSON, or altered (names the first key that is wrong).
    """
    kind, what, remedy = _KINDS[path.name]
    try:
        found = json.loads(read_regular(path, LARGEST, own=True))
    except RecursionError as error:
        raise SennaPruneError(f"cannot read {path} (nested too deeply): {remedy}") from error
    except (OSError, ValueError) as error:
        raise SennaPruneError(f"cannot read {path} ({error}): {remedy}") from error
    try:
        kind.validate_python(found, strict=True)
        if path.name == TABLE:  # names of methods as the user gave them: shown with their escapes; half a character cannot be shown
            json.dumps(found, ensure_ascii=False).encode()
        fault = text_fault(found.get("verdict") if path.name in (METRICS, TABLE) else found)  # of a million flips nothing is shown
    except UnicodeEncodeError as error:
        fault = f"not text: {error.reason}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        fault = f"{'.'.join(map(str, first['loc']))[:200] or 'it'}: {first['msg'][:200]}"
    if fault is not None:
        raise SennaPruneError(f"{path} is not {what}, or was altered ({fault}): {remedy}")
    return found
