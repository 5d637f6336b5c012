"""A trio of folders, loaded and asked: everything below the page but the size of the model."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import closing
from dataclasses import replace

import pytest
import tiny
import torch
from scripted import eventually
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM

from models import (
    ROLES,
    Layout,
    Prompt,
    PromptError,
    Queued,
    Ranked,
    Request,
    Sampling,
    ScoreRequest,
    Stop,
    Token,
    WeightsError,
    find_trio,
    looped,
    open_backend,
)
from models.backends import model_group
from models.engine import language_model
from models.engine.layers.nf4 import has_nf4_matmul
from models.serving.compute_thread import submit

PROMPT = Prompt("Tell me a joke")


def stream_events(backend, prompt=PROMPT, **settings):
    return list(backend.stream(Request(prompt, Sampling(**settings))))


def test_every_variant_streams_tokens_and_stops_once(tiny_backend) -> None:
    events = [
        event
        for event in stream_events(tiny_backend, max_new_tokens=8)
        if not isinstance(event, Queued)
    ]
    stops = [event for event in events if isinstance(event, Stop)]
    assert {stop.role for stop in stops} == set(ROLES)
    assert len(stops) == 3
    for role in ROLES:
        mine = [event for event in events if event.role == role]
        assert isinstance(mine[-1], Stop)
        assert all(isinstance(event, Token) for event in mine[:-1])
        assert 1 <= len(mine) - 1 <= 8
        assert all(event.logprob <= 0 for event in mine[:-1])
        assert [event.at_s for event in mine] == sorted(event.at_s for event in mine)


def test_greedy_says_the_same_twice(tiny_backend) -> None:
    first, second = (
        [e.id for e in stream_events(tiny_backend) if isinstance(e, Token)] for _ in range(2)
    )
    assert first == second


def test_a_context_beyond_the_bases_is_refused(tiny_file) -> None:
    wide = replace(find_trio("tiny", tiny_file), max_context=513)
    with pytest.raises(WeightsError, match=r"asks for a context of 513 tokens, .* made for 512"):
        open_backend(wide)


def test_a_closed_trio_refuses(tiny_file) -> None:
    backend = open_backend(find_trio("tiny", tiny_file))
    backend.close()
    for ask in (
        lambda: next(backend.stream(Request(PROMPT, Sampling()))),
        lambda: backend.encode(PROMPT),
        lambda: next(backend.score(ScoreRequest(PROMPT))),
        backend.model_info,
        backend.memory,
    ):
        with pytest.raises(WeightsError, match="is closed"):
            ask()


def test_a_deadline_ends_all_and_says_so(tiny_backend) -> None:
    events = list(
        tiny_backend.stream(Request(PROMPT, Sampling(max_new_tokens=100), deadline_s=0.0))
    )
    assert {e.reason for e in events if isinstance(e, Stop)} <= {"deadline", "eos"}
    assert "deadline" in {e.reason for e in events if isinstance(e, Stop)}


def test_a_prompt_beyond_the_context_is_refused_before_any_work(tiny_backend) -> None:
    stream = tiny_backend.stream(Request(Prompt("joke " * 200), Sampling()))
    with pytest.raises(PromptError, match=r"tokens for base, and the context of tiny is 128"):
        next(stream)


def test_an_answer_ends_where_the_context_does(tiny_backend) -> None:
    long = Prompt("x" * 100)
    sent = tiny_backend.encode(long)
    events = stream_events(tiny_backend, long, max_new_tokens=500)
    for role in ROLES:
        tokens = sum(isinstance(event, Token) and event.role == role for event in events)
        assert tokens + len(sent[role].ids) <= 128


def test_two_people_at_once_get_what_each_gets_alone(tiny_backend) -> None:
    other = Prompt("Name three colours.")

    def texts(events) -> dict:
        tokens = [e for e in events if isinstance(e, Token)]
        return {role: [e.id for e in tokens if e.role == role] for role in ROLES}

    alone = [
        texts(stream_events(tiny_backend, prompt, max_new_tokens=40)) for prompt in (PROMPT, other)
    ]
    streams = [
        tiny_backend.stream(Request(prompt, Sampling(max_new_tokens=40)))
        for prompt in (PROMPT, other)
    ]
    answers = [[next(stream)] for stream in streams]
    for events_so_far, stream in zip(answers, streams, strict=True):
        events_so_far += list(stream)
    assert [texts(events) for events in answers] == alone


def test_closed_streams_leave_no_thread_and_no_work(tiny_backend) -> None:
    stream_events(tiny_backend)
    threads = threading.active_count()
    for _ in range(200):
        stream = tiny_backend.stream(Request(PROMPT, Sampling(max_new_tokens=100)))
        next(stream)
        stream.close()
    assert eventually(lambda: not tiny_backend.scheduler.open_requests)
    assert threading.active_count() == threads
    assert tiny_backend.groups[0].engine._active == []


@pytest.mark.parametrize(
    "no_memory",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_no_memory_for_one_answers_that_one_and_goes_on_serving(
    tiny_backend, monkeypatch, no_memory
) -> None:
    reserve, long = language_model.reserve, Prompt("joke " * 20)

    def short_of_memory(lengths):
        if max(lengths.values()) > 50:
            raise no_memory
        reserve(lengths)

    monkeypatch.setattr(language_model, "reserve", short_of_memory)
    events = stream_events(tiny_backend, long)
    assert [(e.reason, e.error) for e in events if isinstance(e, Stop)] == [
        ("error", "Out of memory: shorten the prompt, or ask for fewer tokens.")
    ] * 3
    short = stream_events(tiny_backend, Prompt("Hi"), max_new_tokens=4)
    assert "error" not in {e.reason for e in short if isinstance(e, Stop)}


def test_an_error_of_the_engine_reaches_who_asked_and_the_next_is_served(
    tiny_backend, monkeypatch
) -> None:
    engine = tiny_backend.groups[0].engine
    start_step = engine.start_step
    monkeypatch.setattr(engine, "start_step", lambda rows: [][0])
    with pytest.raises(IndexError):
        stream_events(tiny_backend)
    monkeypatch.setattr(engine, "start_step", start_step)
    assert len([e for e in stream_events(tiny_backend) if isinstance(e, Stop)]) == 3
    assert engine._active == []


def test_different_adapters_have_different_fingerprints(tiny_backend) -> None:
    assert len({info.fingerprint for info in tiny_backend.model_info().values()}) == 3


def test_loading_holds_up_nobody_for_longer_than_a_step(tiny_file, monkeypatch) -> None:
    order: list[str] = []

    def noted(name):
        function = getattr(model_group, name)

        def step(*args):
            order.append(name)
            submit(order.append, "another's step")
            return function(*args)

        monkeypatch.setattr(model_group, name, step)

    def files(*args):
        assert submit(bool).result(timeout=30) is False  # the worker has its hands free
        order.append("files")
        return load_encoders(*args)

    load_encoders = model_group.load_encoders
    monkeypatch.setattr(model_group, "load_encoders", files)
    for name in ("load_finite", "_build_engine", "_choose_head"):
        noted(name)
    open_backend(find_trio("tiny", tiny_file)).close()
    others = "another's step"
    assert order == [
        "files",
        "load_finite",
        others,
        "_build_engine",
        others,
        "_choose_head",
        others,
    ]


def test_a_head_with_a_soft_cap_tells_what_the_model_itself_tells(tiny_file, tmp_path) -> None:
    def capped(folder):
        path = folder / "base" / "config.json"
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "final_logit_softcapping": 0.5})
        )

    with closing(open_backend(changed(tiny_file, tmp_path, capped))) as backend:
        *_, scores = backend.score(ScoreRequest(Prompt("To boil an egg"), top=20))
    p = [token.p for after in scores["base"].distributions for token in after.top]
    assert max(p) / min(p) < 2.8  # e: logits from -0.5 to 0.5


def test_a_second_loading_has_the_same_fingerprints(tiny_backend, tiny_file) -> None:
    assert open_backend(find_trio("tiny", tiny_file)).model_info() == tiny_backend.model_info()


def test_three_variants_hold_one_base(tiny_backend) -> None:
    memory = tiny_backend.memory()
    base_file = tiny_backend.trio.variants[0].source.base.source + "/model.safetensors"
    from safetensors.torch import load_file

    tensors = load_file(base_file)
    embedding = tensors["model.embed_tokens.weight"].numel()
    rest = sum(tensor.numel() for tensor in tensors.values()) - embedding
    weight_bytes = 2 if has_nf4_matmul() else 4  # bf16, or what a plain processor computes in
    assert memory.base_bytes >= 2 * embedding + weight_bytes * rest
    assert memory.base_bytes < (2 * embedding + weight_bytes * rest) * 1.1 + 4096
    assert memory.head_bytes == 0  # nothing to win on a vocabulary of a few hundred
    assert memory.kv_bytes_per_token == 2 * 2 * 1 * 16 * weight_bytes


def test_variants_with_weights_of_their_own_answer_in_turns(tiny_file, tmp_path) -> None:
    text = tiny_file.read_text().replace('base = "./base"\nadapter = "./task"', 'base = "./other"')
    folder = shutil.copytree(tiny_file.parent, tmp_path / "copy")
    shutil.copytree(folder / "base", folder / "other")
    (folder / "trios.toml").write_text(text)
    config = folder / "instruct" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tiny_file.parent), str(folder)))
    backend = open_backend(find_trio("tiny", folder / "trios.toml"))
    events = stream_events(backend, max_new_tokens=6)
    assert {event.role for event in events if isinstance(event, Stop)} == set(ROLES)
    base, task = (
        [e.id for e in list(events) if isinstance(e, Token) and e.role == role]
        for role in ("base", "task")
    )
    same = list(backend.stream(Request(PROMPT, Sampling(max_new_tokens=6), "same")))
    alike = [[e.id for e in same if isinstance(e, Token) and e.role == r] for r in ("base", "task")]
    assert alike[0] == alike[1]  # the same weights twice, asked the same bytes
    one_base = open_backend(find_trio("tiny", tiny_file)).memory().base_bytes
    assert backend.memory().base_bytes < 1.1 * one_base  # and held once, for they are equal
    assert base
    assert task


def test_a_third_base_holds_what_it_shares_with_the_second(tiny_file, tmp_path) -> None:
    folder = tmp_path / "copy"
    for name in ("base", "second", "third"):
        shutil.copytree(tiny_file.parent / "base", folder / name)
    for name in ("second", "third"):
        tiny.make_model("gemma3", 363, seed=5).save_pretrained(folder / name)
    text = '[trio.three]\ntitle = "Three"\nprecision = "none"\nmax_context = 128\n'
    for role, name in zip(ROLES, ("base", "second", "third"), strict=True):
        text += f'[trio.three.{role}]\nname = "{name}"\nbase = "./{name}"\nreads = "text"\n'
    (folder / "trios.toml").write_text(text)
    one_base = open_backend(find_trio("tiny", tiny_file)).memory().base_bytes
    base_bytes = open_backend(find_trio("three", folder / "trios.toml")).memory().base_bytes
    assert 1.5 * one_base < base_bytes < 2.2 * one_base


def changed(tiny_file, tmp_path, change):
    folder = shutil.copytree(tiny_file.parent, tmp_path / "copy")
    for config in folder.glob("*/adapter_config.json"):
        config.write_text(config.read_text().replace(str(tiny_file.parent), str(folder)))
    change(folder)
    return find_trio("tiny", folder / "trios.toml")


def other_base(folder):
    path = folder / "task" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "acme/other"
    path.write_text(json.dumps(config))


def truncate(folder):
    path = folder / "task" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def scaled_logits(folder):
    shape = json.loads((folder / "base" / "config.json").read_text())
    names = "vocab_size hidden_size intermediate_size num_hidden_layers num_key_value_heads"
    kept = {name: shape[name] for name in (*names.split(), "num_attention_heads", "head_dim")}
    config = GraniteConfig(**kept, logits_scaling=4.0, max_position_embeddings=512)
    GraniteForCausalLM(config).save_pretrained(folder / "base")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (scaled_logits, r"output head does not compute .* by itself \(off by 300%\): .* granite"),
        (
            other_base,
            r"task was trained on acme/other, but its base here is .*\. .* same_base = true",
        ),
        (truncate, r"The adapter in .*task cannot be loaded"),
        (lambda f: (f / "task" / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda f: shutil.rmtree(f / "task"), "holds no adapter"),
        (lambda f: shutil.rmtree(f / "base"), "holds no model"),
        (lambda f: (f / "base" / "tokenizer.json").write_text("{"), "tokenizer"),
        (lambda f: (f / "base" / "model.safetensors").write_bytes(b"x" * 99), "cannot be loaded"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tiny_file, tmp_path, change, says) -> None:
    with pytest.raises(WeightsError, match=says) as caught:
        open_backend(changed(tiny_file, tmp_path, change))
    assert "\n" not in str(caught.value)


def test_a_stop_text_ends_a_text_variant(tiny_backend) -> None:
    prompt = Prompt("", "dull", layout=Layout("Review", "Sentiment"))
    assert tiny_backend.encode(prompt)["base"].stop_texts == ("\nReview:",)
    assert tiny_backend.encode(prompt)["instruct"].stop_texts == ()


def test_an_answer_that_goes_round_is_ended_where_it_is_asked(tiny_backend) -> None:
    request = Request(Prompt("Tell me a joke"), Sampling(100, repetition_penalty=0.5))

    def answers(**changes) -> tuple[dict, dict]:
        events = list(tiny_backend.stream(replace(request, **changes)))
        ids = {
            role: [e.id for e in events if isinstance(e, Token) and e.role == role]
            for role in ROLES
        }
        return ids, {e.role: e.reason for e in events if isinstance(e, Stop)}

    ids, reasons = answers(stop_loops=True)
    longer, whole_reasons = answers()
    assert "loop" not in whole_reasons.values()
    assert "loop" in reasons.values()  # a random model that repeats itself goes round
    for role, reason in reasons.items():
        assert ids[role] == longer[role][: len(ids[role])]
        if reason == "loop":
            assert looped(ids[role])
            assert not looped(ids[role][:-1])
        else:
            assert ids[role] == longer[role]


def whole(backend, text: str, **settings) -> tuple[dict, dict]:
    """A plain text's ids, and what is expected after each of its tokens."""
    *_, scores = backend.score(ScoreRequest(Prompt(text), **settings))
    ids = {role: [piece.id for piece in score.pieces] for role, score in scores.items()}
    return ids, {role: list(score.distributions) for role, score in scores.items()}


def test_the_loss_of_each_token_is_that_of_the_model_itself(tiny_backend, tiny_file) -> None:
    text = "To boil an egg, put it into boiling water. " * 3  # more than a chunk
    ids, distributions = whole(tiny_backend, text)
    folder = tiny_file.parent
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    own = torch.tensor([ids["base"]])
    with torch.no_grad():
        logprobs = base(own).logits[0].log_softmax(-1)
        mean = float(base(own, labels=own).loss)
    expected = -logprobs[:-1].gather(1, own[0, 1:, None])[:, 0]
    losses = [after.loss for after in distributions["base"]]
    # The backend computes in bf16; to the fourth place it is tested on the engine.
    assert losses[:-1] == pytest.approx(expected.tolist(), abs=1e-2)
    assert losses[-1] is None
    assert sum(losses[:-1]) / len(losses[:-1]) == pytest.approx(mean, abs=1e-3)
    assert [after.loss for after in distributions["task"]] != losses


def test_the_likeliest_tokens_hold_the_mass_that_the_model_gives_them(
    tiny_backend, tiny_file
) -> None:
    sampling = Sampling(temperature=0.7, top_k=3)
    ids, distributions = whole(tiny_backend, "To boil an egg", top=8, sampling=sampling)
    base = AutoModelForCausalLM.from_pretrained(tiny_file.parent / "base", dtype=torch.float32)
    with torch.no_grad():
        logits = base(torch.tensor([ids["base"]])).logits[0, -1]
    last = distributions["base"][-1]
    p = logits.softmax(-1)
    assert [token.p for token in last.top] == pytest.approx(
        p[[token.id for token in last.top]].tolist(), abs=2e-3
    )
    assert [token.p for token in last.top] == sorted((token.p for token in last.top), reverse=True)
    assert last.remaining == pytest.approx(1 - sum(token.p for token in last.top))
    assert sum(token.sampled for token in last.top) == pytest.approx(1, abs=1e-4)
    assert [token.sampled > 0 for token in last.top] == [True] * 3 + [False] * 5
    assert len(distributions["base"]) == len(ids["base"])


def test_a_strength_of_nothing_reads_as_the_base(tiny_backend) -> None:
    _, distributions = whole(
        tiny_backend, "To boil an egg", top=4, strengths={"task": 0.0, "instruct": 0.5}
    )
    assert distributions["task"] == distributions["base"]
    assert distributions["instruct"] != distributions["base"]
    loaded = tiny_backend.model_info({"task": 0.0, "instruct": 0.5})
    assert loaded["task"].fingerprint == loaded["base"].fingerprint
    prints = [
        info.fingerprint for info in (loaded["instruct"], tiny_backend.model_info()["instruct"])
    ]
    assert len({*prints, loaded["base"].fingerprint}) == 3


def test_a_strength_of_nothing_says_what_the_base_says(tiny_backend) -> None:
    stream = tiny_backend.stream(
        Request(PROMPT, Sampling(12), "same", strengths={"task": 0, "instruct": 0})
    )
    tokens = {role: [] for role in ROLES}
    for event in stream:
        if isinstance(event, Token):
            tokens[event.role].append((event.id, event.logprob))
    assert tokens["task"] == tokens["instruct"] == tokens["base"] != []


@pytest.mark.parametrize("strengths", [{"base": 0.5}, {"task": 1.6}, {"task": -1}, {"task": "1"}])
def test_a_strength_that_cannot_be_is_refused(tiny_backend, strengths) -> None:
    with pytest.raises(PromptError):
        next(tiny_backend.stream(Request(PROMPT, Sampling(2), strengths=strengths)))


def test_an_answer_goes_on_from_how_it_began(tiny_backend) -> None:
    def ids(**settings) -> list[int]:
        stream = tiny_backend.stream(Request(PROMPT, Sampling(12), roles=["instruct"], **settings))
        return [event.id for event in stream if isinstance(event, Token)]

    answer = ids()
    assert ids(forced_prefix={"instruct": answer[:5]})[: len(answer) - 5] == answer[5:]
    other = [(id + 1) % 60 for id in answer[:5]]
    assert ids(forced_prefix={"instruct": other}) != answer[5:]
    with pytest.raises(PromptError):
        ids(forced_prefix={"instruct": [5] * 5000})


def test_a_text_that_there_is_no_memory_for_is_refused(tiny_backend, monkeypatch) -> None:
    def no_memory(*args):
        raise MemoryError

    engine = tiny_backend.groups[0].engine
    with monkeypatch.context() as patch:
        patch.setattr(engine, "score_chunk", no_memory)
        with pytest.raises(PromptError, match="Out of memory: shorten the text"):
            list(tiny_backend.score(ScoreRequest(PROMPT)))
    assert list(tiny_backend.score(ScoreRequest(PROMPT)))


def test_a_text_beyond_the_context_is_refused(tiny_backend) -> None:
    words = tiny_backend.encoders["base"].tokens(" egg" * 200)
    with pytest.raises(PromptError, match=r"tokens for base; it must have from 1 to 128"):
        next(tiny_backend.score(ScoreRequest(PROMPT, continuation={"base": words})))


def test_labels_are_ranked_before_the_first_token(tiny_backend) -> None:
    labels = ("egg", "boiling water", "egg cup")
    stream = tiny_backend.stream(
        Request(PROMPT, Sampling(max_new_tokens=3), labels=labels, roles=["task"])
    )
    ranked, *others = [event for event in stream if not isinstance(event, Queued)]
    assert isinstance(ranked, Ranked)
    assert ranked.role == "task"
    assert len(ranked.logprobs) == 3
    assert max(ranked.logprobs) < 0
    assert {type(event) for event in others} == {Token, Stop}
    with pytest.raises(PromptError, match="A label is empty"):
        next(tiny_backend.stream(Request(PROMPT, Sampling(), labels=(" ",))))
    with pytest.raises(PromptError, match=r"The labels are \d+ tokens, and the prompt leaves"):
        next(tiny_backend.stream(Request(PROMPT, Sampling(), labels=("egg " * 200,))))


def test_a_label_that_another_begins_with_is_ranked_with_its_end(tiny_backend) -> None:
    encoder = tiny_backend._encoders["task"]
    sent = tiny_backend.encode(PROMPT)["task"]
    short, long = encoder.continuations(sent, ["egg", "egg cup"])
    assert short[-1] == long[-1] == encoder.tokenizer.eos_token_id
    assert long[: len(short) - 1] == short[:-1]
    other = encoder.continuations(sent, ["egg", "pan"])
    assert encoder.tokenizer.eos_token_id not in [ids[-1] for ids in other]
