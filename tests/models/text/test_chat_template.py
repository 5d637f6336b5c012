"""Chat templates as they are found: rendered as transformers renders them, or told in a line."""

from __future__ import annotations

import re

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from models import Pin, Prompt, PromptError, TrioError, Variant, Weights
from models.text.encoder import Encoder

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
NO_TURN = CHATML[: CHATML.index("{% if add")]
JOKE = Prompt("Tell me a joke")
TOKENIZER = tiny.make_tokenizer()


def encoder(template: str, eos_ids=(), **options) -> Encoder:
    variant = Variant("instruct", "mine", Weights(Pin("x/y")), "chat")
    return Encoder(variant, TOKENIZER, template, eos_ids, **options)


def sent(template: str, prompt: Prompt = JOKE):
    return encoder(template).encode(prompt, "own")


@pytest.mark.parametrize("template", [CHATML, PARTS])
def test_a_template_that_reads_content_or_its_parts_shows_the_words(template) -> None:
    encoded = sent(template)
    text = "<bos><|im_start|>user\nTell me a joke<|im_end|>\n<|im_start|>assistant"
    assert encoded.text.strip() == text
    assert encoded.findings == ()
    assert sent(template, Prompt("Say <eos>")).text.count("Say <eos>") == 1


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ bos_token }}{% for m in messages %}{{ m.content }}", "line 1: .*endfor"),
        ("{{ bos_token }}\n{{ messages[0].content }", "line 2"),
        ("{% nonsense %}", "line 1: .*unknown tag 'nonsense'"),
    ],
)
def test_what_is_no_jinja_is_told_with_its_line(template, says) -> None:
    with pytest.raises(TrioError, match=f"template of mine is not valid Jinja: {says}") as caught:
        encoder(template)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{% if messages[0].role != 'system' %}"
            "{{ raise_exception('a system message must come first') }}{% endif %}",
            "a system message must come first",
        ),
        ("{{ messages[3].content.text }}", "has no attribute|list object has no element 3"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        ("{{ 1 // 0 }}", "zero"),
    ],
)
def test_a_template_that_refuses_is_told_in_its_own_words(template, says) -> None:
    with pytest.raises(PromptError, match=f"template of mine does not render .*{says}") as caught:
        sent(template)
    assert "\n" not in str(caught.value)


def findings(template: str) -> list[str]:
    found = sent(template).findings
    assert {finding.level for finding in found} <= {"error"}
    return [finding.text for finding in found]


def test_words_that_are_not_sent_are_an_error() -> None:
    (text,) = findings("{{ bos_token }}{{ messages[0].role }}: ")
    assert text.startswith("The chat template drops words of the prompt: 'tell me a joke'")
    (text,) = findings("{{ bos_token }}{{ messages[0].content[:7] }}")
    assert "'a joke' is not in what is sent" in text
    assert findings("{{ bos_token }}{{ messages[0].content | upper }}") == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ bos_token }}You are helpful to a user.", "help a user"),
        ("{{ bos_token }}{{ messages[0].content.split('\\n')[0] }}", "is 7 odd?\nis 7 odd?"),
        ("{{ bos_token }}user: {{ messages[0].content[:5] }}", "user user"),
    ],
)
def test_words_that_only_the_template_says_are_lost(template, words) -> None:
    (finding,) = sent(template, Prompt(words)).findings
    assert finding.text.startswith("The chat template drops words of the prompt")


def test_tokens_that_a_template_begins_turns_with_are_no_errors() -> None:
    bos = TOKENIZER.bos_token
    turns = f"{bos}user\n{{{{ messages[0].content }}}}\n{{% if add_generation_prompt %}}{bos}model"
    assert sent(turns + "{% endif %}").findings == ()
    (finding,) = sent(f"{bos}{bos}{{{{ messages[0].content }}}}").findings
    assert finding.text == "<bos> stands 2 times."
    opened = encoder(CHATML.replace("<|im_start|>assistant\n", "<eos>\n"), [TOKENIZER.eos_token_id])
    assert opened.encode(JOKE, "own").findings == ()


def test_an_end_of_text_before_blanks_is_an_end() -> None:
    chat = encoder("{{ bos_token }}{{ messages[0].content }}<eos>{{ ' ' }}", [1])
    (finding,) = chat.encode(JOKE, "own").findings
    assert finding.text.startswith("The prompt ends with <eos>")


def test_a_turn_that_is_not_opened_is_an_error() -> None:
    (text,) = findings(NO_TURN)
    assert text.startswith("The chat template does not open the model's turn")
    assert findings(CHATML) == findings(PARTS) == []
    always = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}"
        "<|model|>{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
    )
    assert findings(always) == []
    shown = "{% if m.role != 'user' %}<think>{% endif %}{{ m.content }}"
    thinks = CHATML.replace("{{ m.content }}", shown)
    assert findings(thinks) == []  # earlier answers are shown with what the next one brings itself


ONE_TURN = (
    "{{ bos_token }}{% if messages | length > 1 %}{{ raise_exception('One turn only') }}"
    "{% endif %}user: {{ messages[0].content }}\n"
)


def test_a_turn_that_cannot_be_checked_is_told() -> None:
    (finding,) = sent(ONE_TURN).findings
    assert finding.level == "warning"
    assert finding.text == (
        "Whether the chat template opens the model's turn could not be checked: it refuses an "
        "answer after the prompt: One turn only"
    )
    asked = "{% if add_generation_prompt %}model:{% endif %}"
    assert sent(ONE_TURN + asked).findings == ()


def test_a_template_that_only_begins_answers_is_checked_as_it_renders() -> None:
    refusal = "{% if not add_generation_prompt %}{{ raise_exception('no') }}{% endif %}"
    assert sent(CHATML + refusal).findings == ()
    (text,) = findings(NO_TURN + refusal)
    assert text.startswith("The chat template does not open the model's turn")


def test_a_template_that_reads_parts_of_prompts_and_text_of_answers_is_checked() -> None:
    mixed = NO_TURN.replace(
        "{{ m.content }}", "{{ m.content[0].text if m.role == 'user' else m.content.strip() }}"
    )
    (text,) = findings(mixed)
    assert text.startswith("The chat template does not open the model's turn")


def test_a_beginning_that_a_template_lacks_is_a_warning() -> None:
    (finding,) = encoder(CHATML.removeprefix("{{ bos_token }}")).encode(JOKE, "own").findings
    assert finding.level == "warning"  # some makers train so
    assert "the chat template writes none" in finding.text
    assert "unless the variant was trained without it" in finding.cure


def test_private_use_characters_of_a_prompt_are_found_where_they_are_sent() -> None:
    prompt = Prompt("\ue000 is an icon", "\ue001 and \ue002")
    assert encoder(CHATML).encode(prompt, "own").findings == ()
    assert "\ue000 is an icon" in encoder(CHATML).encode(prompt, "own").text


def test_a_prompt_that_ends_with_the_end_of_text_is_an_error() -> None:
    eos = TOKENIZER.eos_token_id
    chat = encoder("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", [eos])
    (finding,) = chat.encode(Prompt("Hello"), "own").findings
    assert finding.level == "error"
    assert finding.text.startswith("The prompt ends with <eos>, which ends a text")


PIECES = st.sampled_from(
    [
        "{{ bos_token }}", "{{ messages[0].content }}", "{{ messages[0].content | trim }}",
        "{% for m in messages %}", "{% endfor %}", "{{ m.role }}", "{{ m.content }}",
        "{% if add_generation_prompt %}", "{% endif %}", "{{ raise_exception('no') }}", "}}", "{%",
        "{{ messages[0].content[0].text }}", "<|im_end|>", "\n", "{{ eos_token }}", "{{ 1 / 0 }}",
    ]
)  # fmt: skip


@given(st.lists(PIECES, min_size=1, max_size=8).map("".join))
def test_any_template_renders_or_is_refused_in_a_line(template) -> None:
    """Nothing passes without a word: what is sent has the user's words, or an error says not."""
    prompt = Prompt("Tell me")
    refusal, encoded = "", None
    try:
        encoded = sent(template, prompt)
    except (TrioError, PromptError) as error:
        refusal = str(error)
    if encoded is None:
        assert re.fullmatch(r"The chat template of mine .+", refusal)
        return
    shown = all(word in encoded.text for word in ("Tell", "me"))
    assert shown or any("drops words" in finding.text for finding in encoded.findings)
