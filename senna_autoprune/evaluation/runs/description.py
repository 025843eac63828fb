"""Is ``config.yaml`` what a run writes? As far as a report, a replay, a comparison or a list reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.yaml_files import Scalar

_Budget = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None


class _Options(TypedDict, total=False):
    """Of a method; it may have more, each a scalar."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    __pydantic_extra__: Scalar | None

    retention: _Budget
    tokens: _Budget
    tokens_per_view: _Budget
    flops: _Budget
    mode: str | None
    scope: str | None
    curve: str | None


class _Setting(TypedDict, total=False):
    method: str | None
    options: _Options | None
    blind: bool


class _Places(TypedDict, total=False):
    model: str | None
    questions: str | None
    images: str | None
    vision_tower: str | None
    adapter: str | None
    tables: str | None
    out: str | None
    images_root: str | None


class _Identity(TypedDict, total=False):
    questions_sha256: str | None
    versions: dict[str, Any]


class _Asked(TypedDict, total=False):
    method: str | None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None
    batch_size: Annotated[int, Field(ge=1)]
    retention: _Budget
    tokens: _Budget
    tokens_per_view: _Budget
    options: _Options | None


class _Description(TypedDict, total=False):
    """A run's sections; a sweep's and a budget's have some more, and older runs lack some."""

    config: _Asked
    identity: _Identity
    places: _Places
    settings: dict[str, _Setting]
    model: dict[str, Any]
    questions: dict[str, Any]
    machine: dict[str, Any]
    sweep: dict[str, Any] | None
    adapter: dict[str, Any] | None


_DESCRIPTION = TypeAdapter(_Description)


def check_description(values: Any, path: Path) -> dict[str, Any]:
    """``values`` of a run's description, unchanged.

    Raises:
        SennaPruneError: a section is missing its kind (names the key), or holds what is no text.
    """
    fault = text_fault(values)
    if fault:
        raise SennaPruneError(f"{path} was not written by senna-prune: {fault}")
    try:
        _DESCRIPTION.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise SennaPruneError(f"{path} was not written by senna-prune, or was altered: {where}: {first['msg']}") from error
    return values  # type: ignore[no-any-return]
