"""Tables as people have them: each is read as it is meant, or refused in one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models import BadRow, PromptError, clean
from playground.evaluation.custom_dataset import read_custom_dataset
from playground.evaluation.tabular import columns_of, read_rows
from playground.evaluation.task import Item

ROWS = [("good film", "positive"), ("bad film", "negative"), ("dull film", "negative")]
ITEMS = tuple(Item(*row) for row in ROWS)
OBJECTS = [{"text": text, "label": label} for text, label in ROWS]
LINES = "".join(json.dumps(row) + "\n" for row in OBJECTS)


def table(head="text,label", row="{},{}", end="\n", before="", after="") -> str:
    return before + head + end + "".join(row.format(*pair) + end for pair in ROWS) + after


def read(tmp_path, content, name="mine.csv", **settings):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    task, notes = read_custom_dataset(path, "text", "label", **{"demonstrations": 0, **settings})
    return task, notes, columns_of(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", table().encode("utf-8-sig")),
        ("crlf.csv", table(end="\r\n")),
        ("mac.csv", table(end="\r")),
        ("upper.CSV", table()),
        ("tab.tsv", table("text\tlabel", "{}\t{}")),
        ("pipes.csv", table("text|label", "{}|{}")),
        ("markdown.md", table("| text | label |\n| :--- | ---: |", "| {} | {} |")),
        ("markdown_short.md", table("| text | label |\n| - | :-: |", "| {} | {} |")),
        ("sep_line_twice.csv", table("text;label", "{};{}", before="sep=;;\n")),
        ("markdown.csv", table("text | label\n--- | ---", "{} | {}")),
        ("space_after_comma.csv", table('"text", "label"', '"{}",  "{}"')),
        ("sep_line.csv", table(before="sep=,\n")),
        ("sep_line_semicolon.csv", table("text;label", "{};{}", before="sep=;\r\n", end="\r\n")),
        ("quoted_sep.csv", table("text;label", "{};{}", before='"sep=;"\n')),
        ("trailing_columns.csv", table("text,label,,", "{},{},,")),
        ("trailing_in_rows.csv", table(row="{},{},,")),
        ("trailing_rows.csv", table(after=",\n,\n \u200b,\n")),
        ("empty_columns.csv", table(",text,,label", ",{},,{}")),
        ("index_column.csv", table(",text,label", "0,{},{}")),
        ("blank_first_lines.csv", table(before="\n,\n")),
        ("space_after_comma.csv", table("text, label", "{}, {}")),
        ("space_then_quote.csv", table('"text", "label"', '"{}", "{}"')),
        ("spaces_in_column.csv", table(" text ,label\u00a0", "{} , {}")),
        ("nbsp.csv", table(row="{}\u00a0,{}\u00a0")),
        ("zero_width.csv", table(row="\u200b{},\u200b{}\u2060").replace("\u200bdull", "dull")),
        ("bom_inside.csv", table(before="\ufeff")),
        ("array.json", json.dumps(OBJECTS)),
        ("pretty.json", json.dumps(OBJECTS, indent=2).encode("utf-8-sig")),
        ("pretty.jsonl", json.dumps(OBJECTS, indent=1)),
        ("objects.jsonl", "\n".join(json.dumps(row, indent=1) for row in OBJECTS)),
        ("lines.json", LINES),
        ("lines.ndjson", LINES.replace("\n", "\r\n")),
        ("lines.jsonl", LINES.encode("utf-8-sig")),
        ("lines.txt", LINES),
        ("array.csv", json.dumps(OBJECTS)),
        ("spaces_in_key.jsonl", LINES.replace('"label"', '" label"')),
    ],
)
def test_a_table_is_read_as_it_is_meant(tmp_path, name, content) -> None:
    task, notes, (names, rows) = read(tmp_path, content, name)
    assert task.items == ITEMS
    assert task.labels == ("positive", "negative")
    assert notes == []
    assert (names, rows) == (["text", "label"], 3)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ('a "{}" there,{}', 'a "good film" there'),
        ('"he said \\"{}\\" twice",{}', 'he said "good film" twice'),
        ('"he said ""{}"" twice",{}', 'he said "good film" twice'),
        ('"C:\\dir\\","{1}"', "C:\\dir\\"),
        ('"{}\r\nsecond line",{}', "good film\nsecond line"),
        ('"{}, really",{}', "good film, really"),
    ],
)
def test_quotes_are_read_as_they_are_meant(tmp_path, row, text) -> None:
    task, _, (_, rows) = read(tmp_path, table(row=row))
    assert task.items[0] == Item(text, "positive")
    assert rows == 3


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((True, False), ("true", "false")),
        ((1, 0), ("1", "0")),
        (("正面", "负面"), ("正面", "负面")),
        (("B", "A"), ("B", "A")),
        ((unicodedata.normalize("NFD", "étonné"), "déçu"), ("étonné", "déçu")),
    ],
)
def test_labels_are_texts_in_one_spelling(tmp_path, values, labels) -> None:
    rows = [{"text": f"t{n}", "label": value} for n, value in enumerate(values * 2)]
    rows.append({"text": "last", "label": unicodedata.normalize("NFC", labels[0])})
    task, _, _ = read(tmp_path, json.dumps(rows), "mine.json")
    assert task.labels == labels
    assert {item.gold for item in task.items} == set(labels)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cp1252.csv", table(row="{} — café,{}").encode("cp1252"), "line 2 is no UTF-8 (byte 0x97"),
        ("utf16.csv", table().encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        ("utf16le.csv", table().encode("utf-16-le"), "line 1 has a NUL"),
        ("nul.csv", table(row="{}\0,{}"), "line 2 has a NUL, as no text does"),
        ("gz.csv", gzip.compress(table().encode()), "it is compressed by gzip; unpack it"),
        (
            "xlsx.csv",
            b"PK\x03\x04\x14\0\x06\0",
            "it is a workbook or a zip archive; save it as CSV",
        ),
        ("empty.csv", "", "holds no row"),
        (
            "no_header.csv",
            table()[11:],
            "has no column 'text'. It has: good film, positive. The fi",
        ),
        (
            "title_line.csv",
            table(before="My reviews,\n\n"),
            "'text'. It has: My reviews. The first",
        ),
        ("duplicated.csv", table("text,label, label", "{},{},x"), "columns 2 and 3 are both named"),
        (
            "unquoted_comma.csv",
            table(row="{}, really,{}"),
            "lines 2, 3 and 4: have more fields than the first line names; a text with a comma",
        ),
        (
            "row_names.tsv",
            table('"text"\t"label"', '"1"\t"{}"\t"{}"'),
            "names; a text with a tab needs quotes, row numbers a name",
        ),
        (
            "joined.csv",
            table(after=table()),
            "line 5: is the first line again, as where files were",
        ),
        ("utf32.csv", table().encode("utf-32"), "it is UTF-32; save it as UTF-8"),
        ("blank_label.csv", table(after="x,\u200b\n"), "line 5: label is empty"),
        ("nan.csv", table(after="x,NaN\n"), "line 5: label is 'NaN', which stands for a missing"),
        ("case.csv", table(after="x,Positive\n"), "'positive' and 'Positive' are one to a reader"),
        ("one_class.csv", "text,label\n" + "t,yes\n" * 8, "there is one label, 'yes'"),
        (
            "open_quote.csv",
            table(after='"x,y\n'),
            "line 5: is no CSV: a quote opens a text here, and",
        ),
        (
            "text_after.csv",
            table(after='"x" y,z\n'),
            "line 5: is no CSV: a closing quote is not the end of its column (',' expected after",
        ),
        (
            "blank_after.csv",
            table(after='"x" ,z\n'),
            "line 5: is no CSV: a closing quote is not the end of its column (',' expected after",
        ),
        (
            "open_quote.tsv",
            table("text\tlabel", "{}\t{}", after='"x\ty\tz\n'),
            "line 5: is no CSV: a quote opens a text here, and none closes it",
        ),
        ("lfs.csv", "version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS; "),
        ("nan.jsonl", LINES + '{"text": "x", "label": NaN}', "line 4: label is nan, no text"),
        ("infinite.jsonl", LINES + '{"text": "x", "label": Infinity}', "label is inf, no text"),
        ("null.jsonl", LINES + '{"text": "x", "label": null}', "line 4: label is null."),
        ("list.jsonl", LINES + '{"text": "x", "label": ["y"]}', "line 4: label is ['y'], no text"),
        ("dup_key.jsonl", LINES.replace("}", ', "label": "x"}'), "have the key 'label' twice"),
        ("surrogate.jsonl", LINES.replace("bad", "\\ud83d"), "line 2: text has half a character"),
        (
            "sparse.jsonl",
            '{"text": "x"}\n' + LINES,
            "line 1: label is missing; the row has: text.",
        ),
        (
            "messages.jsonl",
            '{"messages": []}\n' * 3,
            "lines 1, 2 and 3: text is missing; the row has: messages",
        ),
        ("cut.json", json.dumps(OBJECTS)[:-1], "the file ends before its array does"),
        ("columns.json", '{"text": ["x"], "label": ["y"]}', "line 1: text is ['x'], no text"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, name, content, says) -> None:
    with pytest.raises(PromptError) as caught:
        read(tmp_path, content, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert says in message
    assert "\n" not in message


def test_columns_of_json_are_the_keys_of_its_first_objects(tmp_path) -> None:
    path = tmp_path / "sparse.jsonl"
    path.write_text('{"text": "x"}\n' + LINES)
    assert columns_of(path) == (["text", "label"], 4)


CELL = st.text(
    st.one_of(
        st.sampled_from(",;\t|\"'\\ \n=#{}[]aé正"),
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"),
    ),
    max_size=12,
)
LABEL = st.text(st.sampled_from("abé正ก1,;|\"'\\"), min_size=1, max_size=5)


@given(
    rows=st.lists(st.tuples(CELL, LABEL), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quote_all=st.booleans(),
    bom=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    sep_line=st.booleans(),
    spare=st.integers(0, 2),
)
def test_any_cells_in_any_common_dialect_are_read_back(
    tmp_path_factory, rows, delimiter, end, quote_all, bom, sep_line, spare
) -> None:
    quoting = csv.QUOTE_ALL if quote_all or end == "\r" else csv.QUOTE_MINIMAL
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([*pair, *[""] * spare] for pair in [("text", "label"), *rows])
    tabs = {line.count("\t") for line in buffer.getvalue().splitlines() if line.strip()}
    assume(delimiter != "\t" or len(tabs) > 1 or not any(set("\t\n") & set(c) for c, _ in rows))
    path = tmp_path_factory.mktemp("table", numbered=True) / "x.csv"
    first = f"sep={delimiter}{end}" if sep_line else ""
    path.write_bytes(bom + (first + buffer.getvalue()).encode())
    read_back = [(row["text"], row["label"]) for _, row in read_rows(path, ("text", "label"))]
    assert [tuple(map(clean, pair)) for pair in read_back] == [
        tuple(map(clean, pair)) for pair in rows
    ]


@given(st.lists(st.fixed_dictionaries({"text": CELL, "label": LABEL}), min_size=1, max_size=5))
def test_json_lines_and_an_array_are_the_same_table(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("json", numbered=True)
    texts = {
        "x.jsonl": "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows),
        "x.json": json.dumps(rows),
        "x.ndjson": json.dumps(rows, indent=2),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
        assert [row for _, row in read_rows(folder / name, ("text", "label"))] == rows


@pytest.mark.parametrize(
    ("head", "row", "names"),
    [
        ("text;label;a, b, c, d", "{};{};x", ["text", "label", "a, b, c, d"]),
        ("text,label,a; b; c; d", "{},{},x", ["text", "label", "a; b; c; d"]),
        ("text,label,yes|no|maybe|odd", "{},{},x", ["text", "label", "yes|no|maybe|odd"]),
        ("text|label|a, b, c, d", "{}|{}|x", ["text", "label", "a, b, c, d"]),
        ("text\tlabel\ta, b; c, d", "{}\t{}\tx", ["text", "label", "a, b; c, d"]),
    ],
)
def test_rows_tell_the_delimiter_of_a_header_that_holds_others(tmp_path, head, row, names) -> None:
    task, _, columns = read(tmp_path, table(head, row))
    assert (task.items, columns) == (ITEMS, (names, 3))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('"{}', '"good film'),
        ('"{}" he said', '"good film" he said'),
        ('"{}"', "good film"),
        ('"{}\tagain"', "good film\tagain"),
    ],
)
def test_quotes_without_pairs_are_text_between_tabs(tmp_path, text, shown) -> None:
    task, _, (_, rows) = read(tmp_path, table("text\tlabel", text + "\t{}"))
    assert task.items[0] == Item(shown, "positive")
    assert (len(task.items), rows) == (3, 3)


def test_quotes_whose_pairs_would_make_one_field_of_rows_are_text_between_tabs(tmp_path) -> None:
    rows = '"he said\tpositive\nshe said "yes"\tnegative\nall said"\tpositive\n'
    task, _, (_, count) = read(tmp_path, table("text\tlabel", "{}\t{}", after=rows), "mine.tsv")
    assert [item.input for item in task.items[3:]] == ['"he said', 'she said "yes"', 'all said"']
    assert count == 6


def test_json_in_cells_is_read_in_a_time_that_grows_with_its_length(tmp_path) -> None:
    cell = json.dumps({"a": [{"k": 'v "q" \\ x'}] * 1600}).replace('"', '""')
    before = time.perf_counter()
    task, _, _ = read(tmp_path, table(after=f'"{cell}",positive\n' * 30))
    assert len(task.items) == 33
    assert time.perf_counter() - before < 4


def test_only_the_line_under_the_header_is_a_rule_of_markdown(tmp_path) -> None:
    rule = "| --- | --- |"
    head = f"| text | label |\n{rule}"
    task, _, (_, rows) = read(tmp_path, table(head, "| {} | {} |", after=f"{rule}\n"), "mine.md")
    assert task.items == (*ITEMS, Item("---", "---"))
    assert rows == 4


def test_a_text_may_have_any_length(tmp_path) -> None:
    task, _, _ = read(tmp_path, table(after=f'"{"x" * 140_000}",negative\n'))
    assert len(task.items[-1].input) == 140_000


def test_a_field_under_no_name_is_a_bad_row_not_another_column(tmp_path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,text,label,\n1,good, yes,pos\n2,bad,neg,\n")
    (_, first), (_, second) = read_rows(path, ["text", "label"])
    assert isinstance(first, BadRow)
    assert second["label"] == "neg"


def test_labels_that_are_one_to_a_reader_are_named_as_a_pair(tmp_path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,Pos\nb,neg\nc,pos\nd,Neg\ne,Pos\nf,neg\n")
    with pytest.raises(PromptError, match="labels 'Pos' and 'pos' are one to a reader"):
        read_custom_dataset(path, "text", "label")


@pytest.mark.parametrize("name", ["wide.csv", "wide.json"])
def test_a_table_of_thousands_of_columns_is_refused_at_once(tmp_path, name) -> None:
    path = tmp_path / name
    names = [f"c{n}" for n in range(60_000)]
    rows = f"{','.join(names)}\n" if name.endswith("csv") else json.dumps([dict.fromkeys(names)])
    path.write_text(rows)
    with pytest.raises(PromptError, match="has 60,000 columns; at most 500 are read"):
        columns_of(path)


def test_an_error_lists_a_few_columns_at_a_readable_length(tmp_path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(",".join(f"{n}{'x' * 10_000}" for n in range(100)) + "\n1,2\n")
    with pytest.raises(PromptError, match="and 80 more") as caught:
        list(read_rows(path, ("text", "label")))
    assert len(str(caught.value)) < 1200
