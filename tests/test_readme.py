"""README and docs: what they say is there, and what they show runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gradio import __version__ as gradio_version
from scripted import scripted

import app
from playground.cli import progress
from playground.cli.main import _parser, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)
]
COMMANDS = [
    line
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.startswith("python ")
]
# Other commands need more than scripted answers: `rounding` the weights as they are stored,
# `prompt` the trio's own tokenizers, `bench` an engine to measure.
SERVED = ("compare", "grid", "lens", "evaluate")
PREFIX = "python -m playground "
RUN = [line for line in COMMANDS if line in README and line.startswith(PREFIX)]
RUN = [line for line in RUN if line.removeprefix(PREFIX).split()[0] in SERVED]


def test_the_front_matter_is_what_a_space_takes() -> None:
    front = yaml.safe_load(README.split("---\n")[1])
    assert front["sdk"] == "gradio"
    assert front["sdk_version"].split(".")[0] == gradio_version.split(".")[0]
    assert front["app_file"] == "app.py"
    assert front["python_version"] in {"3.11", "3.12"}
    assert len(front["short_description"]) <= 60
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS
    assert front["license"] == "apache-2.0"


def test_readme_is_at_most_130_lines() -> None:
    assert README.count("\n") <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_and_linked_file_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_a_cell_of_a_table_holds_one_figure_or_a_few_words() -> None:
    for page in PAGES:
        for line in page.read_text().splitlines():
            if line.startswith("|"):
                assert max(map(len, line.split("|"))) <= 130, line


def test_every_module_is_in_the_tree_of_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = next(block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL))
    for folder in ("models", "playground"):
        for path in (ROOT / folder).rglob("*.py"):
            if not path.name.startswith("__"):
                assert re.search(rf"(^|\s){re.escape(path.name)}\b", tree), path
                assert re.search(rf"\b{path.parent.name}\b", tree), path.parent


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_the_program_takes(command: str) -> None:
    _, program, *arguments = shlex.split(command)
    if program == "app.py":
        app.parser().parse_args(arguments)
    else:
        assert [program, arguments.pop(0)] == ["-m", "playground"]
        _parser().parse_args(arguments)


@pytest.mark.parametrize("command", RUN)
def test_a_command_of_readme_runs(command: str, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(progress, "open_backend", scripted(delay_s=0))
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command.removeprefix(PREFIX))
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.strip()
    if "--json" in arguments:
        assert json.loads(printed)
    if "--out" in arguments:
        assert json.loads(Path(arguments[arguments.index("--out") + 1]).read_text())["replies"]


def test_readme_shows_every_command_that_scripted_answers_serve() -> None:
    assert {line.removeprefix(PREFIX).split()[0] for line in RUN} == set(SERVED)


def test_the_example_of_the_api_runs(serve) -> None:
    code = next(block for kind, block in BLOCKS if kind == "python" and "gradio_client" in block)
    assert "http://127.0.0.1:7860" in code
    code = code.replace("http://127.0.0.1:7860", serve(scripted(delay_s=0)))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.endswith("small talk / tell joke\n"), done.stderr


@pytest.mark.trio
def test_the_python_example_runs_as_it_stands() -> None:
    code = next(block for kind, block in BLOCKS if kind == "python" and "open_trio" in block)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "small talk / tell joke\n", done.stderr


def test_every_python_example_is_python() -> None:
    for kind, block in BLOCKS:
        if kind == "python":
            compile(block, "example", "exec")


def test_the_toml_example_is_a_trio(tmp_path) -> None:
    from models import read_trios

    block = next(block for kind, block in BLOCKS if kind == "toml")
    (tmp_path / "trios.toml").write_text(block)
    assert list(read_trios(tmp_path / "trios.toml")) == ["mine"]


def test_make_and_ci_call_the_same_targets() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert "make check test" in ci
    for target in ("setup", "fix", "check", "test", "run"):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_upper_bound_has_its_reason() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.search(r"#\s+\S", line), line
