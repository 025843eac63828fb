"""``senna-prune --help`` costs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OLD = Path(__file__).resolve().parents[1] / "evaluation" / "runs" / "v0_1"  # a run
HEAVY = ("torch", "transformers", "numpy", "matplotlib", "nuscenes", "cv2", "scipy", "pydantic", "rich")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['senna-prune', '--help']\n"
        "from senna_autoprune.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    output = run(code)
    assert output.strip().endswith("LOADED []")
    for command in ("eval", "bench", "questions"):
        assert command in output


def test_package_and_registry_import_nothing_heavy():
    code = "import sys, senna_autoprune; senna_autoprune.SennaPruneError\nprint('torch' in sys.modules, 'transformers' in sys.modules)"
    assert run(code).split() == ["False", "False"]


def test_a_report_needs_no_model(tmp_path):
    code = (
        f"import sys; sys.argv = ['senna-prune', 'report', {str(OLD)!r}, '--out', {str(tmp_path)!r}]\n"
        "from senna_autoprune.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "from senna_autoprune.report import budget, sweep\n"
        "print('LOADED', [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    assert run(code).strip().endswith("LOADED []")
    assert (tmp_path / "report.html").exists()


def test_unknown_command_is_an_error():
    result = subprocess.run([sys.executable, "-m", "senna_autoprune", "prun"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "No such command" in result.stderr


def test_interrupt_is_exit_code_130(monkeypatch, capsys):
    import click
    import pytest

    from senna_autoprune import SennaPruneError, cli

    refused = (SennaPruneError("x"), MemoryError(), click.UsageError("x"))
    for raised, code in ((click.Abort(), 130), (KeyboardInterrupt(), 130), *((one, 2) for one in refused)):
        monkeypatch.setattr(cli, "cli", lambda standalone_mode, raised=raised: (_ for _ in ()).throw(raised))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == code
    assert "error: not enough memory" in capsys.readouterr().err
    monkeypatch.setattr(cli, "cli", lambda standalone_mode: 3)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
