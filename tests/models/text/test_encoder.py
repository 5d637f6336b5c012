"""Prompts as ids, ids as text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny

from models import Layout, Pin, Prompt, PromptError, TrioError, Variant, Weights
from models.text.detokenizer import Detokenizer, StopText
from models.text.encoder import Encoder

TEMPLATE_TEXT = "### Instruction:\n{}\n\n### Response:\n"
NASTY = (
    "naïve",
    "日本語のテキスト",
    "🙂👩‍👩‍👧",
    "שלום עולם",
    "a\x00b",
    "\n" * 50,
    "\u200d\u200b",
    "tab\there",
)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.make_tokenizer()


def encoder(tokenizer, reads="text", ends_with="", template=None) -> Encoder:
    variant = Variant("base", "b", Weights(Pin("x/y")), reads, ends_with)
    return Encoder(variant, tokenizer, template)


@pytest.fixture(scope="module")
def template():
    from scripted import TEMPLATE

    return TEMPLATE.read_text()


@pytest.mark.parametrize("format", ["own", "same"])
@pytest.mark.parametrize("reads", ["text", "chat"])
def test_there_is_exactly_one_bos_and_it_is_first(tokenizer, template, format, reads) -> None:
    sent = encoder(tokenizer, reads, template=template).encode(Prompt("Tell me a joke"), format)
    assert sent.ids[0] == tokenizer.bos_token_id
    assert sent.ids.count(tokenizer.bos_token_id) == 1
    assert sent.pieces[0].special
    assert sent.findings == ()


def test_a_prompt_is_read_without_counting_the_vocabulary(tokenizer, monkeypatch) -> None:
    text_encoder, sizes = encoder(tokenizer), []
    monkeypatch.setattr(type(tokenizer), "__len__", lambda self: sizes.append(self) or 90)
    assert len(text_encoder.encode(Prompt("Tell me a joke"), "own").ids) > 4
    assert not sizes  # to count 262,144 tokens takes as long as to feed a row one of them


@pytest.mark.parametrize("text", ["<bos>Hi<eos>", "a<pad>b", "<unk>"])
@pytest.mark.parametrize("reads", ["text", "chat"])
def test_a_special_token_that_someone_typed_is_text(tokenizer, template, text, reads) -> None:
    sent = encoder(tokenizer, reads, template=template).encode(Prompt(text), "own")
    assert [piece.special for piece in sent.pieces] == [True] + [False] * (len(sent.ids) - 1)
    assert sent.ids[0] == tokenizer.bos_token_id
    assert text in "".join(piece.text for piece in sent.pieces[1:])
    assert text in sent.text


@pytest.mark.parametrize("prompt", [Prompt("Repeat <eos>", "<eos>"), Prompt("Say", "<bos>")])
def test_a_special_token_in_the_input_is_text_too(tokenizer, template, prompt) -> None:
    sent = encoder(tokenizer, "chat", template=template).encode(prompt, "own")
    assert [piece.special for piece in sent.pieces] == [True] + [False] * (len(sent.ids) - 1)


TRIMS = "{{ bos_token }}Ask: {{ messages[0].content | trim }}\n"
TRIMS_EACH = "{{ bos_token }}{{ messages[0].instruction | trim }}|{{ messages[0].input | trim }}\n"


@pytest.mark.parametrize("template", [TRIMS, TRIMS_EACH])
@pytest.mark.parametrize("prompt", [Prompt(" <eos> x", "y \n"), Prompt("\nx ", " <bos> ")])
def test_a_special_token_beside_blanks_that_a_template_trims_is_text(
    tokenizer, template, prompt
) -> None:
    sent = encoder(tokenizer, "chat", template=template).encode(prompt, "own")
    assert [piece.special for piece in sent.pieces] == [True] + [False] * (len(sent.ids) - 1)


def test_a_special_token_that_cannot_be_told_from_the_templates_own_is_refused(tokenizer) -> None:
    chat_encoder = encoder(
        tokenizer, "chat", template="{{ bos_token }}{{ messages[0].content | upper }}"
    )
    assert chat_encoder.encode(Prompt("Say hello"), "own").text == "<bos>SAY HELLO"
    with pytest.raises(PromptError, match=r"<eos> is a control token of b, .* Take it out"):
        chat_encoder.encode(Prompt("Say <eos>"), "own")


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ bos_token }}Say <e{{ messages[0].content }}\n", Prompt("os> now")),
        ("{{ bos_token }}{{ messages[0].content }}os>\n", Prompt("Say <e")),
        ("{{ bos_token }}<e{{ messages[0].content }}>\n", Prompt("os")),
        (
            "{{ bos_token }}{{ messages[0].instruction }}{{ messages[0].input }}",
            Prompt("<e", "os>"),
        ),
    ],
)
def test_text_that_joins_the_templates_own_into_a_special_token_is_text(
    tokenizer, template, prompt
) -> None:
    sent = encoder(tokenizer, "chat", template=template).encode(prompt, "own")
    assert [piece.special for piece in sent.pieces] == [True] + [False] * (len(sent.ids) - 1)
    assert "".join(piece.text for piece in sent.pieces) == sent.text
    assert "<eos>" in sent.text


def test_the_templates_own_special_tokens_beside_typed_ones_are_parsed(tokenizer) -> None:
    template = "{{ bos_token }}{{ messages[0].content }}<eos><unk>"
    sent = encoder(tokenizer, "chat", template=template).encode(Prompt("<eos> <e"), "own")
    assert [piece.text for piece in sent.pieces if piece.special] == ["<bos>", "<eos>", "<unk>"]
    assert sent.text == "<bos><eos> <e<eos><unk>"


def test_a_special_token_that_changed_text_makes_is_refused(tokenizer) -> None:
    template = "{{ bos_token }}<e{{ messages[0].content | lower }}"
    with pytest.raises(PromptError, match=r"<eos> is a control token of b, .* Take it out"):
        encoder(tokenizer, "chat", template=template).encode(Prompt("OS> now"), "own")


def test_several_people_at_once_are_sent_what_each_would_be_alone(tokenizer, template) -> None:
    kinds = [encoder(tokenizer, reads, template=template) for reads in ("text", "chat")]
    prompts = [Prompt(f"{n}. Say <eos> and good night, {'very ' * n}kindly") for n in range(8)]
    alone = [[kind.encode(prompt, "own").ids for kind in kinds] for prompt in prompts]

    def ask(n: int) -> None:
        assert [kind.encode(prompts[n % 8], "own").ids for kind in kinds] == alone[n % 8]

    with ThreadPoolExecutor(4) as people:
        list(people.map(ask, range(1000)))


def test_the_template_is_not_tokenised_with_special_tokens_again(tokenizer, template) -> None:
    sent = encoder(tokenizer, "chat", template=template).encode(Prompt("Name three colours"), "own")
    assert sent.text == "<bos>" + TEMPLATE_TEXT.format("Name three colours")
    assert list(sent.ids) == tokenizer(sent.text, add_special_tokens=False)["input_ids"]


def test_the_template_shows_an_input_block_only_where_there_is_input(tokenizer, template) -> None:
    sent = encoder(tokenizer, "chat", template=template).encode(Prompt("Translate.", "sea"), "own")
    assert sent.text == ("<bos>### Instruction:\nTranslate.\n\n### Input:\nsea\n\n### Response:\n")


def test_same_bytes_are_the_users_bytes_for_everyone(tokenizer, template) -> None:
    prompt = Prompt("Tell me a joke")
    plain = encoder(tokenizer).encode(prompt, "same")
    task = encoder(tokenizer, ends_with="\n").encode(prompt, "same")
    chat = encoder(tokenizer, "chat", template=template).encode(prompt, "same")
    assert plain == task == chat
    assert plain.text == "<bos>Tell me a joke"


def test_a_variants_own_format_ends_as_its_training_rows_did(tokenizer) -> None:
    sent = encoder(tokenizer, ends_with="\n").encode(Prompt("Tell me a joke"), "own")
    assert sent.text == "<bos>Tell me a joke\n"


@pytest.mark.parametrize("text", NASTY)
def test_no_byte_of_the_prompt_is_lost(tokenizer, text) -> None:
    sent = encoder(tokenizer).encode(Prompt(text), "same")
    assert tokenizer.decode(sent.ids, skip_special_tokens=True) == text
    assert sent.text == f"<bos>{text}"


def test_half_a_character_is_refused_with_its_place(tokenizer) -> None:
    with pytest.raises(PromptError, match="position 2"):
        encoder(tokenizer).encode(Prompt("ab\ud800cd"), "same")


def test_chat_without_a_template_is_refused(tokenizer) -> None:
    with pytest.raises(TrioError, match="has a chat template"):
        encoder(tokenizer, "chat")


def test_stop_texts_belong_to_text_and_can_be_switched_off(tokenizer, template) -> None:
    prompt = Prompt("", "dull", layout=Layout("Review", "Sentiment"))
    assert encoder(tokenizer).encode(prompt, "own").stop_texts == ("\nReview:",)
    assert encoder(tokenizer).encode(prompt, "own", stop_texts=False).stop_texts == ()
    assert encoder(tokenizer, "chat", template=template).encode(prompt, "own").stop_texts == ()


@pytest.mark.parametrize("text", NASTY)
def test_text_grows_by_whole_characters(tokenizer, text) -> None:
    detokenizer = Detokenizer(tokenizer)
    parts = [detokenizer.add(id) for id in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert "".join(parts) + detokenizer.rest() == text
    assert not any("\ufffd" in part for part in parts)


def test_what_never_became_a_character_is_shown_at_the_end(tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer)
    half = tokenizer("é", add_special_tokens=False)["input_ids"][:1]
    assert [detokenizer.add(id) for id in half] == [""]
    assert detokenizer.rest() == "\ufffd"


def test_an_answer_ends_before_its_stop_text_however_it_arrives() -> None:
    for parts in (
        ["dull\nReview:", " x"],
        ["dull", "\n", "Rev", "iew", ": x"],
        list("dull\nReview: x"),
    ):
        stops, shown = StopText(("\nReview:",)), ""
        for part in parts:
            text, hit = stops.add(part)
            shown += text
            if hit:
                break
        assert (shown, hit) == ("dull", True)


def test_what_only_looked_like_a_stop_text_is_shown() -> None:
    stops = StopText(("\nReview:",))
    assert stops.add("a\nRev") == ("a", False)
    assert stops.add("olt") == ("\nRevolt", False)
    assert stops.add("\n") == ("", False)
    assert stops.rest() == "\n"


def test_no_stop_text_holds_nothing_back() -> None:
    assert StopText(()).add("a\nReview:") == ("a\nReview:", False)
