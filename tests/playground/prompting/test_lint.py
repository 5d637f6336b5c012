"""What is odd about a prompt is said, with a cure; what is not is let be."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from models import ROLES, Demonstration, EncodedPrompt, Finding, Layout, Prompt, find_trio
from models.backends.encoding import encode_for_all, load_trio_encoders
from models.text.findings import find_faults
from playground.cli.main import main
from playground.comparison import records
from playground.prompting.lint import lint
from playground.ui import answer_view

TRIO = find_trio()


@pytest.fixture(scope="module")
def encoders():
    return load_trio_encoders(TRIO, lambda progress: None)


@pytest.fixture
def findings_of(encoders):
    def texts(prompt: Prompt, format="own", tokens=64, trio=TRIO) -> dict[str, tuple]:
        sent = encode_for_all(encoders, trio, prompt, format, True)
        return {
            finding.text: (finding.level, finding.roles)
            for finding in lint(trio, prompt, sent, format, tokens)
        }

    return texts


def few(*shots: tuple[str, str], input: str = "a new film") -> Prompt:
    return Prompt(
        "", input, tuple(Demonstration(*shot) for shot in shots), Layout("Review", "Mood")
    )


BALANCED = (("x", "good"), ("y", "bad"), ("z", "good"), ("w", "bad"))


@pytest.mark.parametrize(
    "prompt",
    [Prompt("Tell me a joke"), Prompt("Say it again.", "hello"), few(*BALANCED),
     Prompt("", "a film", layout=Layout("Review", "Mood"))],
)  # fmt: skip
def test_what_is_well_has_no_findings(findings_of, prompt) -> None:
    assert findings_of(prompt) == {}


@pytest.mark.parametrize(
    ("prompt", "level", "says", "roles"),
    [
        (Prompt("Tell me a joke "), "error", "ends in a space", ("base",)),
        (Prompt("<start_of_turn>user hello"), "warning", "chat template", ROLES),
        (few(*BALANCED, ("a new film", "good")), "error", "the very input", ROLES),
        (few(("x", "good"), ("y", "good"), ("z", "good"), ("w", "bad")), "warning", "3 of 4", None),
        (few(("x", "good"), ("y", "good"), ("z", "good")), "warning", "3 of 3", None),
    ],
)  # fmt: skip
def test_what_is_odd_is_said(findings_of, prompt, level, says, roles) -> None:
    ((text, (its_level, its_roles)),) = findings_of(prompt).items()
    assert says in text
    assert its_level == level
    assert roles in (None, its_roles)


def test_the_same_bytes_leave_the_instruct_variant_without_its_template(findings_of) -> None:
    assert findings_of(Prompt("Tell me a joke"), "same") == {
        "The instruction-tuned variant is sent no chat template.": ("warning", ("instruct",))
    }


def test_a_base_with_a_template_is_an_error(findings_of, encoders) -> None:
    variants = tuple(
        replace(v, reads="chat" if v.role == "base" else v.reads) for v in TRIO.variants
    )
    findings = findings_of(Prompt("hello"), trio=replace(TRIO, variants=variants))
    assert list(findings.values()) == [("error", ("base",))]


def test_a_full_context_is_said_before_it_cuts(findings_of) -> None:
    small = replace(TRIO, max_context=40)
    assert "leave room for" in next(
        iter(findings_of(Prompt("word" + " word" * 8), tokens=32, trio=small))
    )
    assert "nearly fill" in next(
        iter(findings_of(Prompt("word" + " word" * 26), tokens=1, trio=small))
    )


def test_a_second_bos_and_a_missing_one_are_errors(encoders) -> None:
    base = encoders["base"]
    sent = base.encode(Prompt("hello"), "own")

    def texts_of(pieces) -> list[str]:
        prompt = Prompt("hello")
        faults = find_faults(prompt, sent.text, pieces, None, base.tokenization, base.eos_ids)
        return [finding.text for finding in faults]

    assert texts_of((sent.pieces[0], *sent.pieces)) == ["<bos> stands 2 times."]
    (text,) = texts_of(sent.pieces[1:])
    assert "is missing" in text


def test_labels_that_are_cut_otherwise_after_the_prompt_are_found(encoders) -> None:
    prompt = few(("x", "\ngood"), ("y", "bad"))
    assert (
        encoders["base"].encode(prompt, "own").findings == ()
    )  # after the cue there is no new line
    (finding,) = encoders["task"].encode(prompt, "own").findings
    assert finding.level == "error"
    assert finding.text == "The answer '\\ngood' changes the last token of this prompt."


def test_other_vocabularies_are_said() -> None:
    sent = {v.role: EncodedPrompt("x", (), vocabulary=v.role) for v in TRIO.variants}
    assert any(
        "vocabularies" in finding.text for finding in lint(TRIO, Prompt("x"), sent, "own", 1)
    )


def test_errors_come_first_and_the_command_fails_on_them(capsys) -> None:
    assert main(["prompt", "Tell me a joke", "--lint"]) == 0
    capsys.readouterr()
    assert main(["prompt", "Tell me a joke ", "--lint", "--format", "same"]) == 1
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("error", "warn"))
    ]
    assert [line.partition(",")[0] for line in lines] == ["error", "warning"]
    assert main(["prompt", "Tell me a joke ", "--lint", "--json"]) == 1
    (odd,) = json.loads(capsys.readouterr().out)["lint"]
    assert (odd["level"], odd["roles"]) == ("error", ["base"])


def test_a_digest_is_of_the_tokens(encoders) -> None:
    same = {
        records.digest(encoder.encode(Prompt("hello"), "same")) for encoder in encoders.values()
    }
    own = {records.digest(encoder.encode(Prompt("hello"), "own")) for encoder in encoders.values()}
    assert (len(same), len(own)) == (1, 3)


def test_what_the_base_is_not_sent_is_marked(encoders) -> None:
    sent = {
        role: encoder.encode(Prompt("hello there"), "own") for role, encoder in encoders.items()
    }
    tokens = answer_view.sent(sent["instruct"], sent["base"])["tokens"]
    assert "".join(token["text"] for token in tokens if not token["added"]) == "<bos>hello there"
    assert "".join(token["text"] for token in tokens) == sent["instruct"].text
    base_tokens = answer_view.sent(sent["base"], sent["base"])["tokens"]
    assert not any(token["added"] for token in base_tokens)


def test_equal_fingerprints_are_said_on_both_columns(fake) -> None:
    infos = fake.model_info()
    twin = replace(infos["task"], fingerprint=infos["base"].fingerprint)
    same = records.same_weights({**infos, "task": twin})
    assert same == {"base": ["task"], "task": ["base"], "instruct": []}
    notes = records.weights_notes({**infos, "task": twin})
    assert list(notes) == ["base", "task"]
    assert notes["base"].startswith("The same weights as task: equal fingerprints.")


def test_an_adapter_that_changes_nothing_is_told(fake) -> None:
    infos = fake.model_info()
    untrained = replace(infos["task"], adapter="fresh", changes_nothing=True)
    assert records.weights_notes({**infos, "task": untrained})["task"] == (
        "Every update of the adapter fresh is zero: it changes nothing, and this is the base."
    )
    assert records.weights_notes(infos) == {}


def test_a_finding_is_told_once_for_all_whom_it_concerns() -> None:
    odd = Finding("error", "odd", "mend it")
    sent = {v.role: EncodedPrompt("x", (), findings=(odd, odd)) for v in TRIO.variants}
    (finding,) = lint(TRIO, Prompt("x"), sent, "own", 1)
    assert finding.roles == ("base", "task", "instruct")
