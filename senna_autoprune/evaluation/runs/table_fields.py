"""The schema of a sweep's ``table.json``, for ``results.read_result``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from senna_autoprune.evaluation.runs.fields import MOST_ROWS, Count, Interval, Name, Number, Said, Sentence, Spread


class _Column(TypedDict):
    budget: Name
    share: Number | None
    tokens_per_view: Number | None


class _Measured(TypedDict, total=False):
    official_accuracy: Number | None
    retention: Interval | None
    tokens_per_view: Number | None
    retention_tokens: Number | None
    flops_ratio: Number | None
    prefill_ms: Spread
    prefill_ratio: Spread
    kept_per_view: Annotated[list[Number], Field(max_length=MOST_ROWS)] | None
    flips: dict[Name, Count]
    marks: list[Name]
    measures: dict[Name, Any]


class _Plain(_Measured):
    accuracy: Interval


class _Place(TypedDict):
    row: Name
    kind: Name
    budget: Name
    setting: Name


class _Cell(_Place, _Measured):
    status: Literal["ok"]
    accuracy: Interval


class _Unreached(_Place):
    status: Literal["n/a"]
    reason: Sentence


class _Scenes(TypedDict):
    count: Count
    warning: NotRequired[Sentence]
    note: NotRequired[Sentence]


class _Machine(TypedDict):
    device: Name


class _Facts(TypedDict):
    questions: Count
    scenes: _Scenes
    majority_answer: Sentence | None
    tests: Count
    level: Number
    batch_size: Count
    machine: _Machine
    about: NotRequired[Name]
    type: NotRequired[Name]
    label: NotRequired[Name | None]


class _Paper(TypedDict):
    source: Name
    label: Name
    rows: dict[Name, list[Number | None]]


class _Ablations(TypedDict, total=False):
    label: Name
    measure: Name
    columns: list[Name]
    rows: dict[Name, list[Number]]


class _Bands(TypedDict):
    row: Name
    budget: Name
    bands: dict[Name, Interval]


class _Interaction(Interval):
    adaptive: Name
    static: Name
    budget: Name


class _Rank(Interval):
    count: Count


class _Oracle(TypedDict):
    budget: Name
    variants: Count
    oracle: Interval
    best: Interval


class _Complexity(TypedDict):
    questions: dict[Name, Count]
    types: dict[Name, Count]
    cells: Annotated[list[_Bands], Field(max_length=MOST_ROWS)]
    interactions: Annotated[list[_Interaction], Field(max_length=MOST_ROWS)]
    mutual_information: dict[Name, _Rank]
    oracle: Annotated[list[_Oracle], Field(max_length=MOST_ROWS)]


class _Kind(TypedDict):
    questions: Count
    closed: bool


class _Constant(Interval):
    answer: Sentence


class _Before(TypedDict):
    unpruned: Interval
    majority: _Constant


class _Kinds(TypedDict):
    row: Name
    kind: Name
    budget: Name
    retention: dict[Name, Interval]


class _ByType(TypedDict):
    types: dict[Name, _Kind]
    plain: dict[Name, _Before]
    cells: Annotated[list[_Kinds], Field(max_length=MOST_ROWS)]


class Table(TypedDict):
    columns: Annotated[list[_Column], Field(min_length=1, max_length=200)]
    plain: dict[Name, _Plain]
    cells: Annotated[list[Annotated[_Cell | _Unreached, Field(discriminator="status")]], Field(max_length=MOST_ROWS)]
    paper: _Paper
    paper_ablations: _Ablations | None
    facts: _Facts
    warnings: list[Sentence]
    verdict: NotRequired[Said]
    complexity: NotRequired[_Complexity | None]
    by_type: NotRequired[_ByType | None]
