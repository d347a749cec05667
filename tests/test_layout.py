"""The shape of the code: which room may import which, no cycles, no file too long."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RANKS = {
    "mmvm_data": [
        {"core"},
        {"io"},
        {"builders", "cases"},
        {"formats"},
        {"pipeline", "audit", "annotation", "viz", "synth"},
        {"recipes"},
        {"cli", "__init__", "__main__"},
    ],
    "colva": [
        {"losses"},
        {"config"},
        {"model"},
        {"processing"},
        {"data", "checkpoints"},
        {"inference"},
        {"training", "evaluation"},
        {"cli", "__init__", "__main__"},
    ],
}
"""Rooms by package, from the bottom up; a room imports those below it and not its neighbours."""

OPEN_TO_COLVA = {"core", "io", "cases", "formats", "__init__"}
"""What ``colva`` uses of ``mmvm_data``."""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in RANKS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Modules that a module imports anywhere, inside functions and for type checkers too."""
    path = modules()[module]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules() else str(node.module))
    return frozenset(name for name in found if name in modules() and name != module)


def room_of(module: str) -> tuple[str, str]:
    package, _, rest = module.partition(".")
    return package, rest.split(".")[0] or "__init__"


def rank_of(module: str) -> int:
    package, room = room_of(module)
    ranks = [position for position, rooms in enumerate(RANKS[package]) if room in rooms]
    assert ranks, f"{module}: its room {room!r} has no place in the order"
    return ranks[0]


def arrows() -> Iterator[tuple[str, str]]:
    for module in modules():
        for target in imports(module):
            yield module, target


def test_imports_point_one_way() -> None:
    back = []
    for module, target in arrows():
        (package, room), (target_package, target_room) = room_of(module), room_of(target)
        if package == target_package:
            wrong = room != target_room and rank_of(target) >= rank_of(module)
        else:
            wrong = package == "mmvm_data" or target_room not in OPEN_TO_COLVA
        if wrong:
            back.append(f"{module} imports {target}")
    assert not back, "\n".join(sorted(back))


def test_no_import_cycles() -> None:
    done: set[str] = set()
    cycles = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            cycles.append(" -> ".join((*path[path.index(module) :], module)))
        elif module not in done:
            for target in sorted(imports(module)):
                visit(target, (*path, module))
            done.add(module)

    for module in modules():
        visit(module, ())
    assert not cycles, "\n".join(cycles)


def test_text_of_data_is_escaped_in_one_place() -> None:
    """``rich.markup.escape`` leaves control characters; ``io.console.escape`` does not."""
    for package in ("mmvm_data", "colva"):
        paths = [path for path in (ROOT / package).rglob("*.py") if "rich.markup" in path.read_text(encoding="utf-8")]
        assert paths == ([ROOT / "mmvm_data/io/console.py"] if package == "mmvm_data" else [])


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}
    long = [f"{path.relative_to(ROOT)}: {length} lines" for path, length in lengths.items() if length > 450]
    assert not long, "\n".join(long)
    assert statistics.median(lengths.values()) <= 180


@pytest.mark.parametrize("package", sorted(RANKS))
def test_every_room_says_what_it_is_for(package: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent
