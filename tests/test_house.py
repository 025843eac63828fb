"""The house's law: a module imports only rooms to its left, itself included, and never in a circle.

An import inside a function or for a type checker counts like any other: what it names is known all the same.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "senna_autoprune"
ROOMS = [  # from left to right; the longest name that fits a module is its room
    "errors",
    "device",
    "files",
    "pruning",
    "senna",
    "nuscenes",
    "demo",
    "evaluation.paper",
    "evaluation.config",
    "evaluation.runs",
    "evaluation.measures",
    "adapters",
    "formats",
    "evaluation.answering",
    "evaluation.evaluate",
    "evaluation.compare",
    "evaluation.sweep",
    "evaluation.budget",
    "bench",
    "tables",
    "replay",
    "survival",
    "report",
    "lmms",
    "cli",
]
FRONT = {"", "__main__", "evaluation"}  # the package's own __init__ files: public names, imported lazily


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(source: str) -> set[str]:
    """Modules of the package that a file's import statements name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("senna_autoprune."):
                inner = name.removeprefix("senna_autoprune.")
                found.add(inner if inner in MODULES else inner.rpartition(".")[0])
    return found


def room_of(module: str) -> int | None:
    fits = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    return ROOMS.index(max(fits, key=len)) if fits else None


GRAPH = {name: imported(path.read_text(encoding="utf-8")) - {name} for name, path in MODULES.items()}


def test_every_module_has_a_room() -> None:
    assert [name for name in MODULES if name not in FRONT and room_of(name) is None] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_those_to_its_left(room: str) -> None:
    here = ROOMS.index(room)
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        if room_of(name) == here
        for other in sorted(others - FRONT)
        if (there := room_of(other)) is None or there > here
    ]
    assert wrong == []


def test_no_imports_go_in_a_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as circle:
        pytest.fail(f"imports in a circle: {' -> '.join(circle.args[1])}")


def test_the_law_notices() -> None:
    assert imported("def f():\n    from senna_autoprune.cli.eval import command\n") == {"cli.eval"}
    assert imported("from senna_autoprune.evaluation import sweep\nimport torch\n") == {"evaluation.sweep"}
    assert room_of("evaluation.runs.store") == ROOMS.index("evaluation.runs") < room_of("cli.eval")  # type: ignore[operator]
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
