"""Is a result of a run folder what a run writes? metrics.json, table.json, budget.json and survival.json may come from a stranger.

Each is a regular file of its own and of bounded size, and holds what reports, replays and lists read of it: figures that are numbers,
names that are short texts, tables that fit a page. What it holds besides is not looked at.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.fields import MOST_ROWS, Count, Interval, Name, Number, Said, Sentence
from senna_autoprune.evaluation.runs.identity import METRICS as METRICS
from senna_autoprune.evaluation.runs.table_fields import Table
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.regular import read_regular

TABLE, CERTIFICATE, SURVIVAL = "table.json", "budget.json", "survival.json"
LARGEST = 128_000_000  # bytes: metrics.json lists every flip, 300 bytes each


# --- metrics.json -----------------------------------------------------------------------------------------------------


class _Resampled(TypedDict):
    resamples: Count


class _Planned(TypedDict, total=False):
    exact_accuracy: Number | None


class _Setting(TypedDict, total=False):
    plan: _Planned


class _Metrics(TypedDict):
    bootstrap: _Resampled
    settings: dict[Name, _Setting]
    verdict: NotRequired[Said]


# --- budget.json ------------------------------------------------------------------------------------------------------


class _Look(TypedDict):
    scenes: Count
    difference: Number
    lower: Number
    dangerous: Count | None
    dangerous_upper: Number | None


class _Cost(TypedDict):
    total_ratio: Number | None
    drift: NotRequired[Number | None]


class _Step(TypedDict):
    budget: Number
    outcome: Name | None
    reason: Sentence
    looks: Annotated[list[_Look], Field(min_length=1, max_length=MOST_ROWS)]
    cost: _Cost
    deployable: Sentence


_Steps = Annotated[list[_Step], Field(max_length=200)]


class _Each(TypedDict):
    method: Name
    kind: Name
    budget: Number | None
    together: bool
    stopped: Sentence | None
    at: _Step | None
    sequence: _Steps


class _Margins(TypedDict):
    margin: Number
    safety: Number
    source: Sentence


class _Halves(TypedDict):
    choose: list[Name]
    certify: list[Name]


class _Over(TypedDict):
    figure: Name
    unit: Name
    dangerous: Sentence | None


class _Tried(TypedDict):
    method: Name
    budget: Number
    difference: Number | None
    dangerous: Count | None
    promising: bool


class _Chosen(TypedDict):
    method: Name
    tried: Annotated[list[_Tried], Field(max_length=MOST_ROWS)]


class _Noise(TypedDict):
    changed: Number


class _Stratum(TypedDict):
    stratum: Name
    scenes: Count
    questions: Count
    difference: Number
    p_holm: Number | None
    dangerous: Count | None
    outcome: Name


class _Control(TypedDict):
    setting: Name
    questions: Count
    difference: Number
    lower: Number | None


class _Certificate(TypedDict):
    run: dict[Name, Any]  # see ``description.check_description``
    sentence: Sentence
    measure: Name
    margins: _Margins
    halves: _Halves
    controls: Annotated[list[_Control], Field(max_length=MOST_ROWS)]
    over: NotRequired[_Over]
    sequence: NotRequired[_Steps]
    each: NotRequired[Annotated[list[_Each], Field(max_length=200)]]
    chosen: NotRequired[_Chosen]
    noise: NotRequired[_Noise]
    strata: NotRequired[Annotated[list[_Stratum], Field(max_length=MOST_ROWS)]]
    power: NotRequired[Sentence | None]
    warning: NotRequired[Sentence | None]


# --- survival.json ----------------------------------------------------------------------------------------------------

_Shares = Annotated[list[Number], Field(min_length=1, max_length=MOST_ROWS)]


class _Layers(TypedDict):
    survival: _Shares
    chance: _Shares


class _Survival(TypedDict):
    objects: Count
    by_layer: _Layers
    mean: Number
    chance: Number
    gain: Interval
    lost: Number


_Groups = Annotated[dict[Name, _Survival], Field(max_length=MOST_ROWS)]
_Survivals = TypedDict("_Survivals", {"all": _Survival, "class": _Groups, "distance": _Groups, "view": _Groups, "flipped": _Groups})


class _Kept(TypedDict, total=False):
    retention: Number
    tokens_per_view: Number


class _Pruned(_Kept):
    method: Name
    kind: Name


class _Survived(TypedDict):
    format: Name
    label: Sentence | None
    settings: dict[Name, _Pruned]
    impossible: dict[Name, Sentence]
    measures: Annotated[dict[Name, _Survivals], Field(max_length=MOST_ROWS)]
    notes: list[Sentence]


_KINDS: dict[str, tuple[TypeAdapter[Any], str, str]] = {  # file -> its schema, what it is, what to do
    METRICS: (TypeAdapter(_Metrics), "the measures of a run", "run its command again"),
    TABLE: (TypeAdapter(Table), "a table of a sweep", "run the sweep's command again"),
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
