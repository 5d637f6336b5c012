"""An adapter brings its own tokenizer, chat template and ends; what it lacks is the base's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny

from models import (
    Prompt,
    Request,
    Sampling,
    TrioError,
    WeightsError,
    find_trio,
    open_backend,
    preview,
)
from models.events import Stop, Token

TURN = "{{ bos_token }}user: {{ messages[0].content }}\nmodel:"
OTHER = "{{ bos_token }}asked: {{ messages[0].content }}\nsays:"


@pytest.fixture
def folder(tiny_file, tmp_path) -> Path:
    """Return a copy of the tiny trio, whose adapters can be changed."""
    copy = shutil.copytree(tiny_file.parent, tmp_path / "copy")
    for config in copy.glob("*/adapter_config.json"):
        config.write_text(config.read_text().replace(str(tiny_file.parent), str(copy)))
    return copy


def write(path: Path, **values) -> None:
    """Add settings to a JSON file, which may not be there yet."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | values))


def save_tokenizer(folder: Path, template: str | None = None, **settings) -> None:
    tokenizer = tiny.make_tokenizer()
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def sent(folder: Path):
    return preview(find_trio("tiny", folder / "trios.toml"), Prompt("Tell me a joke"))["instruct"]


def test_the_shipped_layout_is_told_with_its_files(folder) -> None:
    assert dict(sent(folder).sources) == {
        "tokenizer": "base/tokenizer.json",
        "chat template": "instruct/chat_template.jinja",
        "ends at <eos>": "base/tokenizer_config.json",
    }


@pytest.mark.parametrize("whole", [True, False])
def test_a_template_in_the_adapters_tokenizer_config_is_read(folder, whole) -> None:
    instruct = folder / "instruct"
    (instruct / "chat_template.jinja").unlink()
    if whole:
        save_tokenizer(instruct)
    write(instruct / "tokenizer_config.json", chat_template=TURN)
    assert sent(folder).text == "<bos>user: Tell me a joke\nmodel:"
    assert sent(folder).sources["chat template"] == "instruct/tokenizer_config.json"
    (instruct / "chat_template.jinja").write_text(OTHER)  # as transformers, the file comes first
    assert sent(folder).text == "<bos>asked: Tell me a joke\nsays:"
    assert sent(folder).sources["chat template"] == "instruct/chat_template.jinja"


def test_of_named_templates_the_default_is_used(folder) -> None:
    instruct = folder / "instruct"
    (instruct / "chat_template.jinja").unlink()
    named = [{"name": "tool_use", "template": OTHER}, {"name": "default", "template": TURN}]
    write(instruct / "tokenizer_config.json", chat_template=named)
    assert sent(folder).text == "<bos>user: Tell me a joke\nmodel:"
    write(instruct / "tokenizer_config.json", chat_template=named[:1])
    with pytest.raises(
        WeightsError, match="has the chat templates tool_use, and none named default"
    ):
        sent(folder)


def test_an_adapters_own_tokens_are_one_token_each(folder) -> None:
    instruct, base = folder / "instruct", folder / "base"
    rows = json.loads((base / "config.json").read_text())["vocab_size"]
    tokenizer = tiny.make_tokenizer()
    (instruct / "chat_template.jinja").write_text("{{ bos_token }}<turn>{{ messages[0].content }}")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.save_pretrained(instruct)
    assert len(tokenizer) == rows + 1
    with pytest.raises(WeightsError, match=rf"instruct .*adds <turn> \({rows}\), .* {rows} rows"):
        sent(folder)
    tiny.make_model("gemma3", rows + 8).save_pretrained(base)  # padded, as many bases are
    encoded = sent(folder)
    assert encoded.pieces[1].text == "<turn>"
    assert encoded.pieces[1].special
    assert encoded.sources["tokenizer"] == "instruct/tokenizer.json"


def test_ends_are_the_adapters_own(folder) -> None:
    trio = find_trio("tiny", folder / "trios.toml")
    request = Request(Prompt("Tell me a joke"), Sampling(6), "same", strengths={})

    def answers() -> dict[str, tuple[list[int], str]]:
        backend = open_backend(trio)
        events = list(backend.stream(request))
        stops = {event.role: event.reason for event in events if isinstance(event, Stop)}
        ids = {
            role: [e.id for e in events if isinstance(e, Token) and e.role == role]
            for role in stops
        }
        backend.close()
        return {role: (ids[role], stops[role]) for role in stops}

    before = answers()
    last = before["instruct"][0][2]
    write(folder / "instruct" / "generation_config.json", eos_token_id=[last, 1])
    after = answers()
    assert after["instruct"] == (
        before["instruct"][0][: before["instruct"][0].index(last) + 1],
        "eos",
    )
    assert after["base"] == before["base"]
    ends = [part for part in sent(folder).sources if part.startswith("ends at")]
    assert len(ends) == 2
    assert "instruct/generation_config.json" in sent(folder).sources.values()


def test_the_end_of_an_adapters_tokenizer_counts(folder) -> None:
    save_tokenizer(folder / "instruct", TURN, eos_token="<pad>")
    sources = sent(folder).sources
    assert sources["ends at <pad>"] == "instruct/tokenizer_config.json"
    assert sources["ends at <eos>"] == "base/generation_config.json"  # the base's model ends there


def test_a_setting_without_a_tokenizer_is_told_from_the_adapter(folder) -> None:
    write(folder / "instruct" / "special_tokens_map.json", eos_token={"content": "<pad>"})
    sources = sent(folder).sources
    assert sources["ends at <pad>"] == "instruct/special_tokens_map.json"
    assert sources["tokenizer"] == "base/tokenizer.json"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tokenizer_config.json", "{", "tokenizer_config.json cannot be read"),
        ("tokenizer_config.json", "[]", "holds list, not an object"),
        ("tokenizer.json", "{", "The tokenizer in .*instruct cannot be read"),
        ("generation_config.json", "nonsense", "generation_config.json cannot be read"),
        ("generation_config.json", '{"eos_token_id": -1}', "eos_token_id has -1; ids go from 0"),
        ("generation_config.json", '{"eos_token_id": [1, true]}', "eos_token_id has True"),
        ("generation_config.json", '{"eos_token_id": 999999}', "eos_token_id has 999999"),
        ("chat_template.jinja", "{{ 'é' }}", "chat_template.jinja cannot be read: 'utf-8'"),
        ("chat_template.jinja", "{% for %}", "not valid Jinja"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(folder, name, text, says) -> None:
    (folder / "instruct" / name).write_text(text, encoding="latin-1")
    with pytest.raises((WeightsError, TrioError), match=says) as caught:
        sent(folder)
    assert "\n" not in str(caught.value)
