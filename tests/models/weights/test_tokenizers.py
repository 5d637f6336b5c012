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
from models.backends.encoding import load_trio_encoders
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


def sent(folder: Path, role="instruct", text="Tell me a joke"):
    return preview(find_trio("tiny", folder / "trios.toml"), Prompt(text))[role]


def encoders(folder: Path) -> dict:
    return load_trio_encoders(find_trio("tiny", folder / "trios.toml"), lambda progress: None)


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


NAMED = {"tool_use": OTHER, "default": TURN}
MORE = "additional_chat_templates"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"chat_template": NAMED}),
        ("chat_template.json", {"chat_template": TURN}),
        ("chat_template.json", {"chat_template": NAMED}),
        (f"{MORE}/default.jinja", TURN),
    ],
)
def test_a_template_is_read_from_each_form_that_transformers_saved(
    folder, file, content, whole
) -> None:
    instruct = folder / "instruct"
    (instruct / "chat_template.jinja").unlink()
    if whole:
        save_tokenizer(instruct)
    (instruct / MORE).mkdir()
    if isinstance(content, dict):
        write(instruct / file, **content)
    else:
        (instruct / file).write_text(content)
    assert sent(folder).text == "<bos>user: Tell me a joke\nmodel:"
    assert sent(folder).sources["chat template"] == f"instruct/{file}"
    (instruct / "chat_template.jinja").write_text(TURN)
    (instruct / MORE / "tool_use.jinja").write_text(OTHER)
    assert sent(folder).text == "<bos>user: Tell me a joke\nmodel:"


def test_files_of_templates_without_a_default_are_told(folder) -> None:
    instruct = folder / "instruct"
    (instruct / "chat_template.jinja").unlink()
    (instruct / MORE).mkdir()
    (instruct / MORE / "rag.jinja").write_text(OTHER)
    with pytest.raises(WeightsError, match=f"{MORE} has the chat templates rag, and none named"):
        sent(folder)


def test_a_template_of_the_base_serves_an_adapter_with_a_tokenizer_alone(folder) -> None:
    instruct = folder / "instruct"
    (instruct / "chat_template.jinja").rename(folder / "base" / "chat_template.jinja")
    save_tokenizer(instruct)
    assert sent(folder).sources["chat template"] == "base/chat_template.jinja"


def test_tokens_that_an_adapters_own_tokenizer_does_not_name_are_the_bases(folder) -> None:
    instruct = folder / "instruct"
    save_tokenizer(instruct)
    (instruct / "chat_template.jinja").write_text(TURN)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (instruct / name).unlink(missing_ok=True)
    assert sent(folder).text.startswith("<bos>user:")
    assert sent(folder).ids[0] == 2
    assert sent(folder).sources["ends at <eos>"] == "base/tokenizer_config.json"
    write(instruct / "tokenizer_config.json", bos_token=None)  # it says that there is none
    assert sent(folder).text.startswith("user:")


def test_several_tokens_without_ids_are_refused(folder) -> None:
    listed = ["<|im_start|>", "<|im_end|>"]
    instruct = folder / "instruct"
    write(
        instruct / "special_tokens_map.json",
        additional_special_tokens=listed,
        eos_token="<|im_end|>",
    )
    with pytest.raises(WeightsError, match=r"adds <\|im_.*does not say with which ids"):
        sent(folder)


def test_an_end_of_text_among_numbered_tokens_has_its_own_id(folder) -> None:
    size = len(tiny.make_tokenizer())
    tiny.make_model("gemma3", size + 2).save_pretrained(folder / "base")
    decoder = {
        str(size): {"content": "<|im_start|>", "special": True},
        str(size + 1): {"content": "<|im_end|>", "special": True},
    }
    write(
        folder / "instruct" / "tokenizer_config.json",
        added_tokens_decoder=decoder,
        eos_token="<|im_end|>",
    )
    assert encoders(folder)["instruct"].eos_ids >= {size + 1}


def test_a_tokenizer_of_sentencepiece_alone_is_the_bases_or_is_told(folder) -> None:
    instruct = folder / "instruct"
    expected = sent(folder).ids
    for place in (instruct, folder / "base"):
        (place / "tokenizer.model").write_bytes(b"the same")
    assert sent(folder).ids == expected
    (instruct / "tokenizer.model").write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"has no fast form \(tokenizer\.json\)"):
        sent(folder)


def test_python_code_beside_a_tokenizer_is_not_run(folder) -> None:
    instruct = folder / "instruct"
    save_tokenizer(instruct)
    code = instruct / "own.py"
    code.write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    write(instruct / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})
    assert sent(folder).ids
    assert not (folder / "ran").exists()


def test_an_adapter_in_the_folder_of_its_base_has_its_own_files(folder) -> None:
    shutil.move(folder / "instruct", folder / "base" / "instruct")
    trio = folder / "trios.toml"
    trio.write_text(trio.read_text().replace("./instruct", "./base/instruct"))
    (folder / "base" / "instruct" / "chat_template.jinja").write_text(TURN)
    assert sent(folder).sources["chat template"] == "instruct/chat_template.jinja"
    assert sent(folder).sources["tokenizer"] == "base/tokenizer.json"


def test_what_an_adapters_config_puts_around_texts_takes_part(folder) -> None:
    plain = [piece.text for piece in sent(folder, "task").pieces]
    config = folder / "task" / "tokenizer_config.json"
    write(config, add_bos_token=False)
    assert [piece.text for piece in sent(folder, "task").pieces] == plain[1:]
    told = sent(folder, "task").sources
    assert told["add_bos_token false"] == "task/tokenizer_config.json"
    assert told["tokenizer"] == "base/tokenizer.json"
    config.write_text('{"add_eos_token": true}')  # and what begins texts stays
    encoded = sent(folder, "task")
    assert [piece.text for piece in encoded.pieces] == [*plain, "<eos>"]
    assert encoded.findings[0].text.startswith("The prompt ends with <eos>")
    assert [piece.text for piece in sent(folder, "base").pieces] == plain[:-1]
    assert encoders(folder)["base"].tokenizer is not encoders(folder)["task"].tokenizer


@pytest.mark.parametrize("way", ["added_tokens.json", "decoder", "listed"])
def test_tokens_that_an_adapter_adds_without_a_tokenizer_take_part(folder, way) -> None:
    instruct, base = folder / "instruct", folder / "base"
    rows = json.loads((base / "config.json").read_text())["vocab_size"]
    file = instruct / "tokenizer_config.json"
    if way == "added_tokens.json":
        file = instruct / way
        write(file, **{"<turn>": rows, "<eos>": 1})
    elif way == "decoder":
        write(file, added_tokens_decoder={rows: {"content": "<turn>"}, "1": {"content": "<eos>"}})
    else:
        write(file, additional_special_tokens=["<turn>", {"content": "<eos>"}])
    (instruct / "chat_template.jinja").write_text("{{ bos_token }}<turn>{{ messages[0].content }}")
    told = rf"instruct \({file}\) adds <turn> \({rows}\), for which .* {rows} rows"
    with pytest.raises(WeightsError, match=told):
        sent(folder)
    tiny.make_model("gemma3", rows + 8).save_pretrained(base)
    assert sent(folder).pieces[1].text == "<turn>"
    assert sent(folder).pieces[1].special == (way == "listed")
    assert sent(folder).sources["adds <turn>"] == f"instruct/{file.name}"
    assert not any("adds" in part for part in sent(folder, "task").sources)


def test_a_token_that_has_another_id_than_told_is_an_error(folder) -> None:
    write(folder / "instruct" / "added_tokens.json", **{"<pad>": 7})
    with pytest.raises(WeightsError, match=r"added_tokens.json has <pad> as token 7; .* it is 0"):
        sent(folder)


def test_a_setting_that_adds_a_token_is_told_with_its_file(folder) -> None:
    config = folder / "instruct" / "tokenizer_config.json"
    write(config, eos_token="<turn>")
    with pytest.raises(WeightsError, match=rf"instruct \({config}\) adds <turn>"):
        sent(folder)


def test_a_tokenizer_that_is_the_bases_is_held_once(folder) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / "base" / name, folder / "instruct" / name)
    write(folder / "task" / "tokenizer_config.json", eos_token="<eos>", add_bos_token=True)
    loaded = encoders(folder)
    assert loaded["base"].tokenizer is loaded["task"].tokenizer is loaded["instruct"].tokenizer
    assert dict(sent(folder).sources) == {
        "tokenizer": "instruct/tokenizer.json",
        "chat template": "instruct/chat_template.jinja",
        "ends at <eos>": "instruct/tokenizer_config.json",
    }
    assert sent(folder, "task").sources["ends at <eos>"] == "task/tokenizer_config.json"
    assert sent(folder, "task").sources["tokenizer"] == "base/tokenizer.json"
    write(folder / "instruct" / "special_tokens_map.json", eos_token="<pad>")
    loaded = encoders(folder)
    assert loaded["base"].tokenizer is not loaded["instruct"].tokenizer


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


@pytest.mark.parametrize("templates", [5, [5], [{"name": "default"}], {"default": 5}])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_what_is_no_template_is_told_with_its_file(folder, name, templates) -> None:
    (folder / "instruct" / "chat_template.jinja").unlink()
    write(folder / "instruct" / name, chat_template=templates)
    with pytest.raises(WeightsError, match=f"{name}: chat_template is neither a text nor texts"):
        sent(folder)


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
        ("tokenizer_config.json", '{"eos_token": 5}', "instruct/tokenizer_config.json: eos_token"),
        (
            "special_tokens_map.json",
            '{"bos_token": {"id": 1}}',
            "map.json: bos_token has {'id': 1}",
        ),
        ("tokenizer_config.json", '{"add_bos_token": "no"}', "add_bos_token is 'no'; true or"),
        ("added_tokens.json", '{"<a>": "b"}', "added_tokens.json: <a> has 'b'"),
        ("added_tokens.json", "[1]", "added_tokens.json holds list, not an object"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": [1]}',
            "added_tokens_decoder is \\[1\\]",
        ),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"a": "<b>"}}', "has 'a', which is no"),
        ("tokenizer_config.json", '{"extra_special_tokens": "<a>"}', "is '<a>'; a list of tokens"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(folder, name, text, says) -> None:
    (folder / "instruct" / name).write_text(text, encoding="latin-1")
    with pytest.raises((WeightsError, TrioError), match=says) as caught:
        sent(folder)
    assert "\n" not in str(caught.value)
