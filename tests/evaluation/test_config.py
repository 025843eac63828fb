"""Configurations in and out; hostile YAML ends in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.config import ALL_TYPES, QUESTION_TYPES, EvalConfig
from senna_autoprune.files.yaml_files import MAX_BYTES, build, dump_yaml, load_config, read_yaml, to_dict
from senna_autoprune.nuscenes.questions_file import STATED_TYPES
from senna_autoprune.nuscenes.strings import QUESTION_TYPES as KNOWN_TYPES


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _error(path: Path) -> str:
    with pytest.raises(SennaPruneError) as caught:
        load_config(EvalConfig, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(tmp_path: Path) -> None:
    config = EvalConfig(model="m", tokens_per_view=32, types="plan,vru", options={"gamma": 0.1})  # type: ignore[arg-type]
    path = _write(tmp_path / "c.yaml", dump_yaml(to_dict(config)))
    assert load_config(EvalConfig, path) == config


def test_question_types_are_those_of_the_question_files() -> None:
    assert QUESTION_TYPES == KNOWN_TYPES
    assert EvalConfig(types="all").types == ALL_TYPES == (*KNOWN_TYPES, *STATED_TYPES, "other")  # type: ignore[arg-type]


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "c.yaml", "method: random\nseed: 3\n")
    config = load_config(EvalConfig, path, {"seed": 7})
    assert (config.method, config.seed, config.retention) == ("random", 7, 0.25)


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ({}, {"retention": 0.25}),
        ({"retention": 0.4}, {"retention": 0.4}),
        ({"retention": 0.4, "budget": "flops"}, {"flops": 0.4}),
        ({"tokens": 64}, {"tokens": 64.0}),
        ({"tokens_per_view": 26}, {"tokens_per_view": 26.0}),
    ],
)
def test_budgets(values: dict[str, float], arguments: dict[str, float]) -> None:
    assert build(EvalConfig, values, "here").budget_arguments() == arguments


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("retenton: 0.25\n", ["c.yaml", "retenton", "did you mean 'retention'"]),
        ("retention: 0\n", ["c.yaml", "retention"]),
        ("retention: .nan\n", ["c.yaml", "retention"]),
        ("retention: much\n", ["c.yaml", "retention"]),
        ("retention: 0.2\ntokens: 5\n", ["retention and tokens"]),
        ("budget: flops\ntokens: 5\n", ["FLOPs"]),
        ("types: plan,vruu\n", ["vruu", "did you mean 'vru'"]),
        ("types: 3\n", ["types"]),
        ("mode: fast\n", ["mode", "paper"]),
        ("dtype: int8\n", ["dtype"]),
        ("limit: 0\n", ["limit"]),
        ("- 1\n- 2\n", ["mapping"]),
        ("1: 2\n", ["mapping"]),
        ("seed: 1\nseed: 2\n", ["c.yaml:2", "twice"]),
        ("model: !!python/object/apply:os.system ['true']\n", ["c.yaml:1"]),
        ("model: &a [x]\nquestions: *a\n", ["c.yaml:2", "alias"]),
        ("model: [\n", ["c.yaml"]),
        ("model: \t@\n", ["c.yaml"]),
        ("options: {gamma: [1]}\n", ["options"]),
    ],
)
def test_every_fault_is_one_line_with_its_place(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = _error(_write(tmp_path / "c.yaml", text))
    assert all(part in message for part in parts), message


def test_a_bomb_of_anchors_is_refused_unexpanded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "alias" in _error(_write(tmp_path / "bomb.yaml", "\n".join(lines)))


def test_size_depth_encoding_and_absence(tmp_path: Path) -> None:
    assert "larger" in _error(_write(tmp_path / "big.yaml", "x" * (MAX_BYTES + 1)))
    assert "deep" in _error(_write(tmp_path / "deep.yaml", "[" * 5000))
    (tmp_path / "latin.yaml").write_bytes(b"model: \xff\xfe\x00\n")
    _error(tmp_path / "latin.yaml")
    assert "cannot read" in _error(tmp_path / "absent.yaml")
    assert read_yaml(_write(tmp_path / "empty.yaml", "")) == {}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80) | st.binary(max_size=80))
def test_any_bytes_are_a_configuration_or_one_line(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        load_config(EvalConfig, path)
    except SennaPruneError as error:
        assert "\n" not in str(error)


def test_the_configurations_that_we_ship_are_valid() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "eval.yaml"
    config = load_config(EvalConfig, path)
    assert config.method_arguments() == {"mode": "paper", "scope": "scene"}
    assert config == EvalConfig(mode="paper", scope="scene")  # otherwise it states the defaults
