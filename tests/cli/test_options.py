"""What people type: shares, names of configurations, commands almost right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.cli.options import CONFIG, SHARE
from senna_autoprune.cli.values import options_by_method, with_method_options
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.sweep.config import SweepConfig
from senna_autoprune.files.yaml_files import load_config


@pytest.mark.parametrize(("text", "share"), [("0.25", 0.25), ("25%", 0.25), ("25 %", 0.25), ("1", 1.0), ("100%", 1.0), (".3", 0.3)])
def test_a_share_is_a_number_or_a_percentage(text: str, share: float) -> None:
    assert SHARE.convert(text, None, None) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "said"), [("25", "write 0.25 or 25%"), ("0", "lies in"), ("-1", "lies in"), ("nan", "lies in"), ("a", "no share")]
)
def test_what_is_no_share_is_cured(text: str, said: str) -> None:
    with pytest.raises(SennaPruneError, match=said):
        SHARE.convert(text, None, None)


def test_built_in_configurations_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(SweepConfig, CONFIG.convert("table3", None, None)).budgets
    assert load_config(SweepConfig, CONFIG.convert("table4", None, None)).ablation
    assert load_config(EvalConfig, CONFIG.convert("eval", None, None)).retention
    (tmp_path / "table3").write_text("seed: 3\n")
    assert CONFIG.convert("table3", None, None) == "table3"  # a file of the user's own comes first
    assert CONFIG.convert("table9.yaml", None, None) == "table9.yaml"  # and its absence is said by whoever reads it
    with pytest.raises(
        SennaPruneError, match=r"--config table9: no such file here; did you mean 'table.'\? built in are complexity, eval, shapes, table3"
    ):
        CONFIG.convert("table9", None, None)


SET = ("autoprune.gamma=0.1", "k0=0.3")


def test_options_of_a_method_are_set_in_one_way_everywhere() -> None:
    one = {"options": {"gamma": 0.1, "k0": 0.3}}
    assert with_method_options({}, SET) == one
    assert with_method_options({"method": "autoprune:gamma=0.1"}, ["k0=0.3"]) == {"method": "autoprune", **one}
    assert with_method_options({"method": "a.b:C"}, ["a.b:C.x=1"]) == {"method": "a.b:C", "options": {"x": 1}}
    assert with_method_options({"method": "autoprune:mode=release"}, []) == {"method": "autoprune", "mode": "release"}
    assert (
        options_by_method(SET, "autoprune") == options_by_method(SET, "autoprune:mode=release") == {"autoprune": {"gamma": 0.1, "k0": 0.3}}
    )
    assert options_by_method(["fastv.layer=3"], None) == {"fastv": {"layer": 3}}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: with_method_options({}, ["fastv.layer=3"]), "the method is autoprune, not fastv"),
        (lambda: with_method_options({"method": "autoprune:k0=1"}, ["k0=2"]), "given twice"),
        (lambda: with_method_options({"mode": "paper"}, ["mode=release"]), "given twice"),
        (lambda: with_method_options({}, [".k0=1"]), "NAME=VALUE or METHOD.NAME=VALUE"),
        (lambda: options_by_method(["k0=1"], "autoprune,fastv"), "several methods run"),
        (lambda: options_by_method(["k0=1"], None), "several methods run"),
    ],
)
def test_what_belongs_to_no_method_is_refused(asked: Any, said: str) -> None:
    with pytest.raises(SennaPruneError, match=said):
        asked()


@pytest.mark.parametrize("text", ["0.1,25%", "10%:40%:15%"])
def test_shares_of_a_sweep_may_be_percentages(text: str) -> None:
    found = SweepConfig(retention=text).retention  # type: ignore[arg-type]
    assert found == pytest.approx((0.1, 0.25) if "," in text else (0.1, 0.25, 0.4))


def test_a_sweep_goes_down_to_where_it_breaks() -> None:
    assert min(SweepConfig().retention or ()) <= 0.1


def test_help_is_in_groups_with_choices_and_examples() -> None:
    shown = CliRunner().invoke(cli, ["eval", "--help"]).output
    places = [shown.index(f"\n{heading}:\n") for heading in ("Model", "Questions", "Pruning", "How it is asked", "Where it runs")]
    assert places == sorted(places) and shown.index("Output and help:") > places[-1]
    for words in ("[paper|release]", "[local|ray]", "[auto|float32|bfloat16|float16]", "Examples:\n    senna-prune eval --limit"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_command_almost_right_is_suggested() -> None:
    said = CliRunner().invoke(cli, ["evla"])
    assert said.exit_code == 2 and "Did you mean 'eval'?" in said.output
    assert "Did you mean" not in CliRunner().invoke(cli, ["zzzzzz"]).output
