"""What figures, names and intervals look like in the results of a run folder: parts of the schemas in ``results`` and ``table_fields``."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from senna_autoprune.files.json_files import LONGEST_NAME

MOST_ROWS = 2000  # of a table: a picture has a row each
LONGEST_SENTENCE = 20_000  # characters

Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Name = Annotated[str, StringConstraints(max_length=LONGEST_NAME)]
Sentence = Annotated[str, StringConstraints(max_length=LONGEST_SENTENCE)]


class Interval(TypedDict):
    value: Number | None
    low: Number | None
    high: Number | None


class Spread(TypedDict):
    median: Number | None
    p10: NotRequired[Number | None]
    p90: NotRequired[Number | None]


class Said(TypedDict):
    sentence: Sentence
