"""Labels and beginnings are tokenized as they stand after the prompt, whatever the tokenizer."""

from __future__ import annotations

import json
from functools import cache

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from transformers import PreTrainedTokenizerFast

from models import Demonstration, Layout, Pin, Prompt, Variant, Weights
from models.text.encoder import Encoder
from models.text.render import continued

WORDS = "Review: the film was good Sentiment: positive negative hello there Tell me a joke Well, hi"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPECIALS = ["<unk>", "<s>", "</s>"]


def _sentence_piece(style: str) -> Tokenizer:
    """Return a tokenizer that puts a space before a text: a normalizer, or a pre-tokenizer."""
    words = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = BpeTrainer(
        vocab_size=900,
        special_tokens=SPECIALS + BYTES,
        show_progress=False,
        initial_alphabet=["▁", "\n"],
    )
    words.train_from_iterator([WORDS] * 20, trainer)
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    learnt, own = json.loads(words.to_str()), json.loads(tokenizer.to_str())
    own["model"] |= {key: learnt["model"][key] for key in ("vocab", "merges")}
    tokenizer = Tokenizer.from_str(json.dumps(own | {"added_tokens": learnt["added_tokens"]}))
    if style == "normalizer":
        replace = normalizers.Replace(" ", "▁")
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=style, split=False)
    strip = decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
    )
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=80, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([WORDS] * 20, trainer)
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    trainer = WordPieceTrainer(vocab_size=120, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator([WORDS] * 20, trainer)
    return tokenizer


KINDS = {
    "byte level": lambda: None,
    "normalizer": lambda: _sentence_piece("normalizer"),
    "metaspace first": lambda: _sentence_piece("first"),
    "metaspace always": lambda: _sentence_piece("always"),
    "unigram": _unigram,
    "word piece": _word_piece,
}


@cache
def encoder(kind: str, reads: str = "text") -> Encoder:
    if (raw := KINDS[kind]()) is None:
        tokenizer = tiny.make_tokenizer()
    else:
        bos = raw.token_to_id("<s>")
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", bos)]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    variant = Variant("base", "b", Weights(Pin("x/y")), reads)
    return Encoder(
        variant, tokenizer, "{{ bos_token }}user: {{ messages[0].content }}{{ eos_token }}"
    )


PROMPTS = [
    Prompt("", "the film was good", layout=Layout("Review", "Sentiment")),
    Prompt("", "hi", (Demonstration("hello there", "negative"),), Layout("Review", "Sentiment")),
    Prompt("Tell me a joke"),
    Prompt("Tell me a joke\n"),
    Prompt("Well,"),
]


def together(own: Encoder, sent, text: str) -> list[int]:
    """Return the ids of prompt and text as one text, without the prompt's."""
    plain = sent.text.removeprefix(own.tokenizer.bos_token)
    return own.tokenizer(plain + text)["input_ids"][len(sent.ids) :]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_label_has_the_tokens_that_it_has_in_the_text(kind, prompt) -> None:
    own = encoder(kind)
    sent = own.encode(prompt, "own")
    for label in ("positive", "negative", "hello there"):
        expected = together(own, sent, continued(sent.text, label))
        assert own.continuation(sent, label) == expected
    assert [piece.id for piece in own.following(sent, " Well,")] == together(own, sent, " Well,")


def test_a_word_after_a_prompt_is_one_token_where_its_text_has_one() -> None:
    own = encoder("normalizer")
    sent = own.encode(PROMPTS[0], "own")
    tokens = own.tokenizer.convert_ids_to_tokens(own.continuation(sent, "positive"))
    assert tokens == ["▁positive"]  # by itself it is ▁ and ▁positive


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_after_a_template_that_ends_in_a_special_token(kind) -> None:
    own = encoder(kind, "chat")
    sent = own.encode(Prompt("hi"), "own")
    assert sent.pieces[-1].special
    rendered = own.tokenizer(sent.text + "positive", add_special_tokens=False)["input_ids"]
    ids = [piece.id for piece in own.following(sent, "positive")]
    assert ids == rendered[len(sent.ids) :]


PLAIN = ("byte level", "normalizer", "metaspace first", "metaspace always")
"""Tokenizers whose tokens are the text, with its spaces."""


@pytest.mark.parametrize("kind", [*PLAIN, "unigram"])
def test_a_text_that_would_change_the_prompts_last_token_gets_no_space(kind) -> None:
    own = encoder(kind)
    following = own.following(own.encode(Prompt("hel"), "own"), "lo there")  # hello is a token
    assert "".join(piece.text for piece in following) == "lo there"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reads", ["text", "chat"])
def test_a_control_token_that_someone_typed_is_text_in_every_vocabulary(kind, reads) -> None:
    own = encoder(kind, reads)
    bos, eos = own.tokenizer.bos_token, own.tokenizer.eos_token
    sent = own.encode(Prompt(f"{bos}say {eos} {eos}now"), "own")
    ids = (own.tokenizer.bos_token_id, own.tokenizer.eos_token_id)
    assert [id for id in sent.ids if id in ids] == [ids[0], ids[1]][: 1 + (reads == "chat")]
    assert not {*ids} & {piece.id for piece in own.following(sent, f"lo{eos}")}
    assert not {*ids} & {piece.id for piece in own.tokens(f"{eos}{bos}")}


@pytest.mark.parametrize("kind", PLAIN)
def test_control_tokens_that_are_text_get_no_spaces(kind) -> None:
    own = encoder(kind, "chat")
    eos = own.tokenizer.eos_token
    sent = own.encode(Prompt(f"say {eos}now"), "own")
    text = "".join(piece.text for piece in sent.pieces[1:-1])
    assert text.lstrip() == f"user: say {eos}now"
    assert "".join(piece.text for piece in own.following(sent, f"lo{eos}")) == f"lo{eos}"


@given(
    st.sampled_from(list(KINDS)),
    st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=6).map(" ".join),
    st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=3).map(" ".join),
)
def test_prompt_and_label_are_the_text_of_both(kind, text, label) -> None:
    own = encoder(kind)
    sent = own.encode(Prompt("", text, layout=Layout("Review", "Sentiment")), "own")
    ids = [*sent.ids, *own.continuation(sent, label)]
    plain = sent.text.removeprefix(own.tokenizer.bos_token)
    assert ids == own.tokenizer(f"{plain} {label}")["input_ids"]


@pytest.mark.parametrize("kind", PLAIN)
def test_the_texts_of_tokens_are_the_text_with_its_spaces(kind) -> None:
    text = "hello there Tell me a joke"
    pieces = encoder(kind).tokens(text)
    assert "".join(piece.text for piece in pieces).strip() == text
    assert b"".join(piece.data for piece in pieces).decode().strip() == text
