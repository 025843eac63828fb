"""The configuration reader: any bytes, any YAML, any values end in a configuration or in one error of ours."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from senna_autoprune.errors import SennaPruneError, one_line
from senna_autoprune.evaluation.config import BUDGETS, EvalConfig
from senna_autoprune.evaluation.sweep.config import SweepConfig
from senna_autoprune.files.yaml_files import build, dump_yaml, load_config, parse_range, read_value, read_yaml, to_dict

FUZZ = settings(settings.get_profile("fuzz"), max_examples=150)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.lists(st.text(max_size=4), max_size=3))
PIECES = (
    "!!python/object/apply:os.system [x]",
    "!!int a",
    "!!bool x",
    "!!timestamp x",
    "!!set",
    "&a",
    "*a",
    "<<:",
    "? ",
    ": ",
    "- ",
    "[",
    "{",
    "'",
    '"',
    "|",
)
PIECES += (
    "\n",
    " ",
    "#",
    "%YAML 9.9\n",
    "---",
    "...",
    "0x",
    "1_000",
    "1e999",
    "2001-99-99",
    ".nan",
    "~",
    "=",
    "retention",
    "method",
    "\ud83d",
    "\x00",
    "!<tag:x>",
)
YAML = st.lists(st.sampled_from(PIECES), max_size=15).map("".join)
EVAL = (
    "retention",
    "tokens",
    "tokens_per_view",
    "method",
    "mode",
    "scope",
    "types",
    "limit",
    "seed",
    "options",
    "out",
    "dtype",
    "device",
    "batch_size",
    "resamples",
)
SWEEP = ("methods", "retention", "tokens_per_view", "ablation", "options", "calibration", "figures", "types")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "config.yaml"


@FUZZ
@given(st.one_of(st.binary(), YAML.map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example(b"!!timestamp x")
@example(b"!!bool x: 1")
@example(b"a: " + b"9" * 5000)
@example(b"[" * 3000)
@example(b"- " * 3000)
def test_any_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = read_yaml(path)
    except SennaPruneError as error:
        assert str(path) in one_line(error)
        assert one_line(error).isprintable()
    else:
        assert all(isinstance(key, str) for key in found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.system", lambda *_: pytest.fail("code ran"))
        for kind in (EvalConfig, SweepConfig):
            try:
                load_config(kind, path)
            except SennaPruneError as error:
                assert one_line(error).isprintable()


@FUZZ
@given(YAML)
@example("2001-99-99")
@example("[" * 3000)
def test_any_option_value(text: str) -> None:
    with contextlib.suppress(ValueError):
        read_value(text)


@FUZZ
@given(st.dictionaries(st.sampled_from(EVAL), VALUES, max_size=4))
def test_what_an_evaluation_accepts_can_be_kept(values: dict[str, Any]) -> None:
    try:
        config = build(EvalConfig, values, "here")
    except SennaPruneError as error:
        assert one_line(error).startswith("here")
        return
    assert sum(getattr(config, name) is not None for name in BUDGETS) == 1
    ((_, budget),) = config.budget_arguments().items()
    assert math.isfinite(budget) and budget > 0
    assert build(EvalConfig, yaml.safe_load(dump_yaml(to_dict(config))), "again") == config


@FUZZ
@given(st.dictionaries(st.sampled_from(SWEEP), VALUES, max_size=3))
def test_what_a_sweep_accepts_has_budgets(values: dict[str, Any]) -> None:
    try:
        config = build(SweepConfig, values, "here")
    except SennaPruneError as error:
        assert one_line(error).startswith("here")
        return
    assert config.budgets
    assert all(math.isfinite(value) and value > 0 for _, value in config.budgets)


NUMBERS = st.one_of(st.floats(), st.floats(0, 2), st.text("0123456789.e-+naif:,", max_size=6))


@FUZZ
@given(st.one_of(st.text(), st.lists(NUMBERS, min_size=1, max_size=4).map(lambda parts: ":".join(map(str, parts)))))
@example("0:1:1e-300")
@example("0:1e308:1")
def test_ranges_are_short_or_refused(text: str) -> None:
    try:
        found = parse_range(text)
    except ValueError:
        return
    assert len(found) <= max(1001, text.count(",") + 1)
