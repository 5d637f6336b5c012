"""What is printed: no text of a model, a server or a file controls the terminal."""

from __future__ import annotations

import io
import json

import pytest
from rich.table import Table
from rich.text import Text

from playground.cli.main import main
from playground.cli.terminal import Terminal, print_json, printable, say

RED = "\x1b[31mred\x9b0m\x07"
SHOWN = "\\x1b[31mred\\x9b0m\\x07"


def controls(text: str) -> set[str]:
    return {char for char in text if char not in "\n\t" and printable(char) != char}


def test_a_text_is_printed_with_its_control_characters_escaped(capsys) -> None:
    say(RED)
    say("two\nlines\tand 字")
    assert capsys.readouterr().out == f"{SHOWN}\ntwo\nlines\tand 字\n"


def test_json_is_printed_with_all_control_characters_escaped(capsys) -> None:
    print_json({"text": RED})
    out = capsys.readouterr().out
    assert not controls(out)
    assert json.loads(out) == {"text": RED}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_tables_and_lines_show_strings_as_they_are(is_terminal) -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=is_terminal, color_system=None, width=80)
    table = Table("name")
    table.add_row(f"{RED} [bold]x[/bold] :smile:")
    console.print(table)
    console.print(f"{RED} [bold]x[/bold]")
    assert out.getvalue().count(SHOWN) == 2
    assert out.getvalue().count("[bold]x[/bold]") == 2
    assert ":smile:" in out.getvalue()
    assert not controls(out.getvalue())
    console.print(Text("ours", "bold"))


def test_an_error_that_quotes_a_name_cannot_control_the_terminal(tmp_path, capsys) -> None:
    path = tmp_path / f"{RED.replace('/', '')}.csv"
    path.write_text("one\nx\n")
    columns = ("--input-column", "text", "--label-column", "label")
    assert main(["evaluate", "--set", str(path), *columns]) == 1
    printed = capsys.readouterr()
    assert not controls(printed.out + printed.err)
    assert SHOWN in printed.err
