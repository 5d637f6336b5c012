"""Asking a trio what texts cost it: what can be read, by whom, and as much as fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from models import (
    FORMATS,
    GREEDY,
    NONE,
    Backend,
    EncodedPrompt,
    Endpoint,
    Format,
    ModelError,
    Prompt,
    PromptError,
    Request,
    Role,
    Sampling,
    Strengths,
    TokenPiece,
)
from playground.comparison.compare import begin, follow
from playground.lens.readings import LIKELIEST, LossSummary, Readings, TokenScores, loss_summary
from playground.prompting.forms import check_text


def read(
    trio: Backend,
    prompt: Prompt,
    *,
    format: Format = "same",
    answer: Sequence[TokenPiece] = (),
    likeliest: int = LIKELIEST,
    sampling: Sampling = GREEDY,
    strengths: Strengths = NONE,
    why: dict[Role, str] | None = None,
) -> Iterator[Readings]:
    """Yield the variants' readings of a prompt and of what follows it, as they grow.

    Args:
        trio: what reads.
        prompt: what was asked.
        format: each variant in its own format, or the same bytes to all.
        answer: tokens that follow the prompt, the same for all.
        likeliest: tokens told of each distribution.
        sampling: for the probabilities after the sampler.
        strengths: scales of the adapters.
        why: is filled with why a server tells nothing.

    Raises:
        PromptError: it cannot be sent, the answer's tokens mean something else to a variant, or
            nobody tells.
    """
    sent = known(trio, prompt, format)
    if answer:
        check_vocabularies(sent)
    pieces = {role: (*one.pieces, *answer) for role, one in sent.items()}
    ids = {role: [piece.id for piece in some] for role, some in pieces.items()}
    readings: Readings = {}
    for found in trio.read(ids, likeliest, sampling, strengths) if sent else ():
        readings = {
            role: TokenScores(role, pieces[role], len(sent[role].pieces), tuple(after))
            for role, after in found.items()
        }
        yield readings
    said = b"".join(piece.data for piece in answer).decode(errors="replace")
    for told in trio.told(prompt, format, said, likeliest):
        heard = {
            role: TokenScores(role, one.pieces, one.prompt_tokens, one.after)
            for role, one in told.items()
            if not isinstance(one, str)
        }
        whole = {**readings, **heard}
        yield {v.role: whole[v.role] for v in trio.trio.variants if v.role in whole}
        if why is not None:
            why.update({role: one for role, one in told.items() if isinstance(one, str)})
        if not whole and len(told) == len(trio.trio.variants):
            reasons = dict.fromkeys(one for one in told.values() if isinstance(one, str))
            raise PromptError(f"Nobody tells what a text costs: {'; '.join(reasons)}")


def known(trio: Backend, prompt: Prompt, format: Format) -> dict[Role, EncodedPrompt]:
    """Return what those variants are sent whose tokens are known; there may be none.

    Raises:
        PromptError: it cannot be sent.
    """
    if format not in FORMATS:
        raise PromptError(f"There is no format {format!r}. There are: {', '.join(FORMATS)}.")
    return {role: one for role, one in trio.sent(prompt, format).items() if one.pieces}


def readable(trio: Backend, prompt: Prompt, format: Format) -> dict[Role, EncodedPrompt]:
    """Return what those variants are sent whose tokens are known.

    Raises:
        PromptError: it cannot be sent, or there is no such variant.
    """
    sent = known(trio, prompt, format)
    if not sent:
        raise PromptError("Every variant of this trio is an endpoint, whose tokens are not known.")
    return sent


def cost(trio: Backend, prompt: Prompt, format: Format, word: str) -> dict[Role, LossSummary]:
    """Return what a word would cost next; it begins with a space where the text needs one.

    Raises:
        PromptError: it cannot be sent, or the prompt leaves no room for it.
    """
    sent = readable(trio, prompt, format)
    pieces = {
        role: trio.tokens(word if one.text[-1:].isspace() or word[:1].isspace() else f" {word}")[
            role
        ]
        for role, one in sent.items()
    }
    ids = {role: [*one.ids, *(piece.id for piece in pieces[role])] for role, one in sent.items()}
    *_, found = trio.read(ids)
    costs = {}
    for role, after in found.items():
        loss = [one.loss for one in after[len(sent[role].ids) - 1 : -1] if one.loss is not None]
        costs[role] = loss_summary(loss, sum(len(piece.data) for piece in pieces[role]))
    return costs


def beginning(trio: Backend, prompt: Prompt, format: Format, text: str) -> list[int]:
    """Return the ids of a text that every answer is to begin with; none for none.

    Raises:
        PromptError: the ids would mean something else to a variant, or a variant is an endpoint.
    """
    if not text:
        return []
    known = readable(trio, prompt, format)
    if left := left_out(trio):
        raise PromptError(f"Not every variant can be given a beginning. {left}")
    check_vocabularies(known)
    return [piece.id for piece in next(iter(trio.tokens(text).values()))]


def prompt_of(text: str) -> Prompt:
    """Make a prompt of a plain text, of any length.

    Raises:
        PromptError: it is empty, or no text.
    """
    check_text("text", text)
    if not text:
        raise PromptError("The text is empty. Type what the variants are to read.")
    return Prompt(text)


def answer_of(
    trio: Backend,
    prompt: Prompt,
    role: Role | None,
    format: Format,
    max_new_tokens: int,
    strengths: Strengths = NONE,
    wanted: Callable[[], bool] = lambda: True,
) -> tuple[TokenPiece, ...]:
    """Have one variant answer greedily, and return its answer's tokens; none for None.

    Args:
        trio: what answers.
        prompt: what is asked.
        role: who answers.
        format: in its own format, or as all are sent it.
        max_new_tokens: of the answer.
        strengths: scales of the adapters.
        wanted: asked after each token; what was said before it is unwanted is returned.

    Raises:
        ModelError: there is no such variant, or it cannot answer.
    """
    if role is None:
        return ()
    known = readable(trio, prompt, format)
    if not isinstance(role, str) or role not in known:  # a list cannot be looked up
        raise PromptError(
            f"{role!r} is no variant whose tokens are known. There are: {', '.join(known)}."
        )
    request = Request(prompt, Sampling(max_new_tokens), format, strengths=strengths, roles=[role])
    answers = begin(trio, request)
    with closing(follow(answers, trio.stream(request))) as states:
        for state in states:
            answers = state
            if not wanted():
                break
    if answers[role].error:
        raise ModelError(f"{role}: {answers[role].error}")
    return trio.pieces(answers[role].ids)[role]


def left_out(trio: Backend) -> str:
    """Return which variants cannot be given tokens, and why; nothing if all can."""
    roles = [one.role for one in trio.trio.variants if isinstance(one.source, Endpoint)]
    if not roles:
        return ""
    return f"Left out: {' and '.join(roles)}. An endpoint cannot be made to go on from tokens."


def untold(trio: Backend, readings: Readings, why: Mapping[Role, str]) -> str:
    """Return what servers did not tell of what was read, and why; nothing if all was told."""
    parts = []
    for variant in trio.trio.variants:
        one = readings.get(variant.role)
        if one is None:
            reason = why.get(variant.role, "it was not waited for").rstrip(".")
            parts.append(f"Left out: {variant.role}: {reason}.")
        elif isinstance(variant.source, Endpoint):
            alone = len(one.pieces) == 1
            parts.append(
                f"{variant.role} is a server: it tells "
                + ("what comes next alone." if alone else "no ranks, and tokens as it cuts them.")
            )
    return " ".join(parts)


def fitting(trio: Backend, text: str) -> tuple[str, str]:
    """Return as much of a plain text as fits the context, and what to say of the rest.

    The cut is between two tokens of the first variant whose tokens are known.

    Raises:
        PromptError: it holds something that is no text.
    """
    check_text("text", text)
    room = trio.trio.max_context - 1
    known = trio.tokens(text, opening=True)
    if not known:
        return text, ""
    pieces = next(iter(known.values()))
    if len(pieces) <= room:
        return text, ""
    kept = len(b"".join(piece.data for piece in pieces[:room]).decode(errors="ignore"))
    return text[:kept], (
        f"{len(pieces):,} tokens are more than the context of {trio.trio.max_context:,}: the "
        f"first {kept:,} characters are read, the last {len(text) - kept:,} are not."
    )


def check_vocabularies(sent: Mapping[Role, EncodedPrompt]) -> None:
    """Refuse to have one variant's tokens read by others to whom the ids mean something else.

    Raises:
        PromptError: the vocabularies are not equal.
    """
    if len({one.vocabulary for one in sent.values()}) > 1:
        raise PromptError(
            "The variants of this trio have different vocabularies: the ids of one mean other "
            "texts to another, so that no answer can be read by all."
        )
