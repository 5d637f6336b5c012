"""The embedded trio on its real weights."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from scripted import eventually

from models import ROLES, Layout, Prompt, Request, Sampling, Stop, Token
from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.fused_linear import FusedLinear
from models.engine.layers.multi_lora import MultiLoraLinear
from models.engine.layers.packed_matmul import has_fbgemm
from models.engine.sampling.lm_head import ScreenedHead
from models.serving.compute_thread import submit
from models.text.detokenizer import Detokenizer
from playground.comparison.compare import compare
from playground.prompting.gallery import read_gallery

pytestmark = pytest.mark.trio


def test_the_three_tunings_do_what_each_was_trained_for(real) -> None:
    answers = compare(real, "Tell me a joke", max_new_tokens=48)
    assert answers["base"].text.startswith(", and I")
    assert answers["base"].stopped == "length"
    assert (answers["task"].text, answers["task"].stopped) == ("small talk / tell joke", "eos")
    capital = compare(real, "What is the capital of France?", max_new_tokens=48)
    assert capital["base"].stopped == "length"
    assert (capital["instruct"].text.strip(". "), capital["instruct"].stopped) == ("Paris", "eos")


def test_three_columns_hold_one_base_in_4_bit(real) -> None:
    memory, infos = real.memory(), real.model_info()
    assert {info.precision for info in infos.values()} == {"nf4"}
    assert len({info.fingerprint for info in infos.values()}) == 3
    # 168 M parameters of embedding in 8 bits, a scale in float16 for each 32; 100 M in 4 bits and
    # a scale in bf16 for each 64, or, where the processor has no such product, in float16, with
    # 640 columns filled up to 1,024, or, for want of FBGEMM, in float32.
    four, narrow = has_avx512bf16(), has_fbgemm()
    layers = 53.3e6 if four else 278.4e6 if narrow else 401.2e6
    assert memory.base_bytes == pytest.approx(34 / 32 * 167.8e6 + layers, rel=0.01)
    # With FBGEMM second halves stand in what fills up the base's columns where those number 640.
    adapters = 23.4e6 if four else 12.4e6 if narrow else 46.9e6
    assert memory.adapter_bytes == pytest.approx(adapters, rel=0.01)
    # The head's copy: a byte for each weight, and five numbers for each row of 640.
    assert memory.head_bytes == pytest.approx((1 + 20 / 640) * 167.8e6, rel=0.001)


def test_a_step_takes_the_fast_ways(real) -> None:
    (group,) = real.groups
    kinds = [type(module) for module in group.engine.lm.model.modules()]
    assert kinds.count(FusedLinear) == 2 * 18  # q, k, v and gate, up of every layer
    assert kinds.count(MultiLoraLinear) == 4 * 18
    gate = real.model_info()["base"].head
    assert gate.used
    assert isinstance(group.engine.lm.head, ScreenedHead)
    assert kinds.count(DequantizedLinear) == (0 if has_avx512bf16() else 4 * 18)
    assert gate.top1 == 1
    assert gate.kl < 0.01
    assert abs(gate.loss_screened - gate.loss_exact) < 0.02


def test_one_thread_and_two_answer_the_same_to_the_bit(real, monkeypatch) -> None:
    (group,) = real.groups
    monkeypatch.setattr(group.engine, "on_step", lambda *step: None)  # which sets their number
    before = submit(torch.get_num_threads).result()
    answers = []
    try:
        for count in (1, 2):
            submit(torch.set_num_threads, count).result()
            group.engine.prefix_cache.caches.clear()
            for settings in (Sampling(24), Sampling(24, temperature=0.9, top_p=0.9, seed=3)):
                request = Request(Prompt("Name three things that float on water."), settings)
                answers.append([e for e in real.stream(request) if isinstance(e, Token)])
    finally:
        submit(torch.set_num_threads, before).result()

    def bits(tokens):
        return sorted((token.role, n, token.id, token.logprob) for n, token in enumerate(tokens))

    assert [bits(tokens) for tokens in answers[:2]] == [bits(tokens) for tokens in answers[2:]]
    assert len(answers[0]) > 24


def test_replayed_steps_answer_as_ordinary_ones_to_the_bit(real, monkeypatch) -> None:
    (group,) = real.groups
    replays, text = group.engine.lm.replays, "List ten animals, one after the other. A dog, a cat"

    def tokens(sampling) -> list:
        events = list(real.stream(Request(Prompt(text), sampling)))
        return [(e.role, e.id, e.logprob) for e in events if isinstance(e, Token)]

    for sampling in (Sampling(60), Sampling(40, temperature=1.0, seed=1)):
        answers = [sorted(tokens(sampling)) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(replays, "stopped", True)
            answers.append(sorted(tokens(sampling)))
        assert answers[0] == answers[1] == answers[2]
    assert replays.count > 1
    assert replays.reason == ""


def test_company_changes_no_token_and_no_log_probability(real) -> None:
    prompts = [Prompt(text) for text in ("Name three colours.", "Tell me a joke", "To boil an egg")]
    settings = [Sampling(16), Sampling(16, temperature=1.0, top_p=0.9, seed=3), Sampling(12)]
    pairs = list(zip(prompts, settings, strict=True))

    def tokens(first, stream):
        triples = [(e.role, e.id, e.logprob) for e in (first, *stream) if isinstance(e, Token)]
        return sorted(triples, key=lambda triple: triple[0])

    alone = [
        tokens(next(stream), stream) for stream in (real.stream(Request(*pair)) for pair in pairs)
    ]
    streams = [real.stream(Request(*pair)) for pair in pairs]
    forced_prefix = [(next(stream), stream) for stream in streams]
    together = [tokens(first, stream) for first, stream in forced_prefix]
    assert together == alone  # each row's sums are made in one order, whatever stands beside it


def test_what_was_asked_before_changes_no_token_and_no_log_probability(real) -> None:
    (group,) = real.groups
    shared = "The path goes up past the mill and down again to the water. " * 12
    first, second = Prompt(f"{shared}Who is in a hurry?"), Prompt(f"{shared}Where does it go?")

    def tokens_of(prompt) -> list:
        events = list(real.stream(Request(prompt, Sampling(12))))
        assert eventually(lambda: not real.scheduler.open_requests)
        tokens = [(e.role, e.id, e.logprob) for e in events if isinstance(e, Token)]
        return sorted(tokens, key=lambda token: token[0])

    def fresh(prompt) -> list:
        group.engine.prefix_cache.caches.clear()
        return tokens_of(prompt)

    expected = fresh(second)
    once = fresh(first)
    assert (
        sum(len(slot.ids) for slot in group.engine.prefix_cache.caches) >= 3 * 128
    )  # or nothing is shared
    assert tokens_of(first) == once
    assert tokens_of(second) == expected


def test_bytes_that_change_what_was_shown_end_nothing(real) -> None:
    tokenizer = real.groups[0].encoders[0].tokenizer
    ids = [455, 419, 382, 30546, 1596, 2134]  # bytes that never were text, and then words
    detokenizer = Detokenizer(tokenizer)
    text = "".join(detokenizer.add(id) for id in ids) + detokenizer.rest()
    assert text.endswith(tokenizer.decode(ids[-2:]))
    assert detokenizer._stream is None  # or these bytes would prove nothing


@pytest.mark.parametrize("text", ["a\x00b", "🙂" * 40, "שלום עולם", "\n" * 10_000, "<eos><bos>"])
def test_any_text_is_answered(real, text) -> None:
    text = text.strip("\n") or f"x{text}"  # nothing but white space is an empty prompt
    answers = compare(real, text, max_new_tokens=2)
    assert {answers[role].new_tokens for role in ROLES} <= {1, 2}


def test_a_stop_text_cuts_where_another_review_would_begin(real) -> None:
    shots = next(e for e in read_gallery().compare if e.name == "Sentiment, few-shot")
    layout = Layout("Review", "Sentiment")
    prompt = Prompt("", shots.input, shots.demonstrations, layout)
    events = list(real.stream(Request(prompt, Sampling(max_new_tokens=24))))
    base = "".join(e.text for e in events if isinstance(e, Token | Stop) and e.role == "base")
    reason = next(e.reason for e in events if isinstance(e, Stop) and e.role == "base")
    assert base.strip() in ("positive", "negative")
    assert reason == "stop"
    free = list(real.stream(Request(prompt, Sampling(max_new_tokens=24), stop_texts=False)))
    assert "Review:" in "".join(e.text for e in free if isinstance(e, Token) and e.role == "base")
