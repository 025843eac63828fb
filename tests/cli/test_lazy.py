"""``senna-prune --help`` costs no torch."""

from __future__ import annotations

import subprocess
import sys

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


def test_a_report_needs_no_model():
    code = "import sys; from senna_autoprune.report import budget, sweep, write; from senna_autoprune.cli import report\n"
    assert run(code + "print('torch' in sys.modules, 'transformers' in sys.modules)").split() == ["False", "False"]


def test_unknown_command_is_an_error():
    result = subprocess.run([sys.executable, "-m", "senna_autoprune", "prun"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "No such command" in result.stderr


def test_interrupt_is_exit_code_130(monkeypatch):
    import click
    import pytest

    from senna_autoprune import SennaPruneError, cli

    for raised, code in ((click.Abort(), 130), (KeyboardInterrupt(), 130), (SennaPruneError("x"), 2), (click.UsageError("x"), 2)):
        monkeypatch.setattr(cli, "cli", lambda standalone_mode, raised=raised: (_ for _ in ()).throw(raised))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == code
    monkeypatch.setattr(cli, "cli", lambda standalone_mode: 3)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
