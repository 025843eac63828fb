"""What people type: shares, names of configurations, commands almost right."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.cli.options import CONFIG, SHARE
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
    assert CONFIG.convert("table9", None, None) == "table9"  # and its absence is said by whoever reads it


def test_a_command_almost_right_is_suggested() -> None:
    said = CliRunner().invoke(cli, ["evla"])
    assert said.exit_code == 2 and "Did you mean 'eval'?" in said.output
    assert "Did you mean" not in CliRunner().invoke(cli, ["zzzzzz"]).output
