"""Imports point one way: app → playground.ui → playground → models."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import models

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "accelerate"}
BANNED = {
    "models": {"playground", "gradio", "app"},
    "playground": HEAVY | {"gradio", "app"},
    "playground/ui": HEAVY | {"app"},
}
FILES = [path for folder in ("models", "playground") for path in (ROOT / folder).rglob("*.py")]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    folder = str(path.parent.relative_to(ROOT))
    layer = max((layer for layer in BANNED if folder.startswith(layer)), key=len)
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & BANNED[layer]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_playground_imports_only_the_public_names_of_models(path: Path) -> None:
    if path.is_relative_to(ROOT / "playground"):
        inner = {name for name in imported(path) if name.startswith("models.")}
        assert not inner
        taken = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module == "models"
            for alias in node.names
        }
        assert taken <= set(models.__all__)


def test_importing_models_or_playground_loads_nothing_heavy() -> None:
    code = (
        "import sys, models, playground, playground.cli.main;"
        f"sys.exit(bool({HEAVY | {'gradio'}!r} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_view_imports_no_gradio() -> None:
    ui = ROOT / "playground" / "ui"
    views = [*ui.rglob("*view.py"), *ui.rglob("events.py")]
    assert len(views) >= 8
    for path in views:
        assert "gradio" not in imported(path), path.name
    names = [module_name(path) for path in [*views, ui / "endpoints" / "records.py"]]
    code = f"import sys, {', '.join(names)}; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = [module_name(path) for path in FILES if path.name != "__main__.py"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_imported_by_its_name(name: str) -> None:
    module = importlib.import_module(name)
    package, _, child = name.rpartition(".")
    if package:  # no function or value of the package bears the module's name
        assert getattr(importlib.import_module(package), child) is module


def module_graph() -> dict[str, set[str]]:
    """Return for each module of the project those that it imports, at its top or in a function."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = module_name(path)
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                children = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= children | {node.module}
    return {
        name: {other for other in others if other in graph and other != name}
        for name, others in graph.items()
    }


def test_no_module_imports_itself_by_way_of_others() -> None:
    # A package's own names are those of its modules; one that imports its package closes no circle
    # unless it is imported by the package, which Python itself would refuse.
    graph = module_graph()
    packages = {module_name(path) for path in FILES if path.name == "__init__.py"}
    inner = {name: others - packages for name, others in graph.items() if name not in packages}
    assert len([*TopologicalSorter(inner).static_order()]) == len(inner)


def test_folders_beside_each_other_import_one_way() -> None:
    packages = {module_name(path) for path in FILES if path.name == "__init__.py"}
    graph: dict[str, set[str]] = {folder: set() for folder in packages}
    for name, others in module_graph().items():
        folder = name if name in packages else name.rpartition(".")[0]
        for other in others - packages:
            other_folder = other.rpartition(".")[0]
            nested = f"{other_folder}.".startswith(f"{folder}.") or f"{folder}.".startswith(
                f"{other_folder}."
            )
            if not nested:
                graph[folder].add(other_folder)
    assert len([*TopologicalSorter(graph).static_order()]) == len(graph)


def test_a_folder_has_at_most_sixteen_modules() -> None:
    sizes = Counter(path.parent for path in FILES if path.name != "__init__.py")
    assert max(sizes.values()) <= 16
