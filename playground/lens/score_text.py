"""Scores texts with a trio, and reports the variants that cannot score and text that is cut."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing

from models import (
    AS_TRAINED,
    GREEDY,
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
    ScoreRequest,
    Scores,
    Strengths,
    TokenPiece,
    Unavailable,
    check_format,
)
from playground.comparison.compare import begin, follow
from playground.lens.token_scores import SHOWN_TOP, LossSummary, available, summarise
from playground.prompting.forms import check_text


def score_text(
    trio: Backend,
    prompt: Prompt,
    *,
    format: Format = "same",
    answer: Sequence[TokenPiece] = (),
    top: int = SHOWN_TOP,
    sampling: Sampling = GREEDY,
    strengths: Strengths = AS_TRAINED,
) -> Generator[Scores]:
    """Yield the variants' scores of a prompt and its continuation, as they grow.

    Args:
        trio: the trio that scores the text.
        prompt: the prompt.
        format: each variant in its own format, or the same bytes to all.
        answer: tokens that follow the prompt, the same for all variants.
        top: number of most likely tokens to return of each distribution.
        sampling: settings for the probabilities after the sampler.
        strengths: scales of the adapters.

    Raises:
        PromptError: the prompt cannot be encoded, the variants' vocabularies differ although there
            is an answer, or no variant has scores.
    """
    if answer:
        check_vocabularies(_known(trio, prompt, format))
    continuation = {variant.role: answer for variant in trio.trio.variants}
    request = ScoreRequest(prompt, format, continuation, top, sampling, strengths)
    for scores in trio.score(request):
        yield scores
        reasons = [result.reason for result in scores.values() if isinstance(result, Unavailable)]
        if len(reasons) == len(trio.trio.variants):
            unique = "; ".join(dict.fromkeys(reasons))
            raise PromptError(f"Nobody tells what a text costs: {unique}")


def _known(trio: Backend, prompt: Prompt, format: Format) -> dict[Role, EncodedPrompt]:
    """Return the encoded prompts of the variants that are tokenized here; may be empty."""
    check_format(format)
    return {
        role: encoded for role, encoded in trio.encode(prompt, format).items() if encoded.pieces
    }


def locally_encoded(trio: Backend, prompt: Prompt, format: Format) -> dict[Role, EncodedPrompt]:
    """Return the encoded prompts of the variants that are tokenized here, not on a server.

    Raises:
        PromptError: the prompt cannot be encoded, or all variants are on servers.
    """
    sent = _known(trio, prompt, format)
    if not sent:
        raise PromptError("Every variant of this trio is an endpoint, whose tokens are not known.")
    return sent


def cost(
    trio: Backend,
    prompt: Prompt,
    format: Format,
    word: str,
    strengths: Strengths = AS_TRAINED,
) -> dict[Role, LossSummary]:
    """Return the loss of a word after a prompt; a space is inserted between them if there is none.

    Raises:
        PromptError: the prompt cannot be encoded, or leaves no room for the word.
    """
    sent = locally_encoded(trio, prompt, format)
    pieces = {
        role: trio.encoders[role].following(
            encoded, word if encoded.text[-1:].isspace() or word[:1].isspace() else f" {word}"
        )
        for role, encoded in sent.items()
    }
    request = ScoreRequest(prompt, format, pieces, strengths=strengths, roles=list(sent))
    *_, scores = trio.score(request)
    costs = {}
    for role, known in available(scores).items():
        losses = [loss for loss in known.losses[known.prompt_tokens :] if loss is not None]
        costs[role] = summarise(losses, sum(len(piece.data) for piece in pieces[role]))
    return costs


def forced_prefix_ids(
    trio: Backend, prompt: Prompt, format: Format, text: str
) -> dict[Role, list[int]]:
    """Tokenize a text as it stands after each variant's prompt, for `Request.forced_prefix`.

    Raises:
        PromptError: the prompt or the text cannot be encoded, or a variant is an endpoint.
    """
    if not text:
        return {}
    sent = locally_encoded(trio, prompt, format)
    if note := endpoints_note(trio):
        raise PromptError(f"Not every variant can be given a beginning. {note}")
    return {
        role: [piece.id for piece in trio.encoders[role].following(encoded, text)]
        for role, encoded in sent.items()
    }


def prompt_of(text: str) -> Prompt:
    """Make a prompt of a plain text of any length.

    Raises:
        PromptError: the text is empty, or not a string.
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
    strengths: Strengths = AS_TRAINED,
    wanted: Callable[[], bool] = lambda: True,
) -> tuple[TokenPiece, ...]:
    """Have one variant answer greedily, and return the tokens of its answer.

    Args:
        trio: the trio of the variant.
        prompt: the prompt.
        role: the variant that answers; None returns no tokens.
        format: each variant in its own format, or the same bytes to all.
        max_new_tokens: limit of the answer.
        strengths: scales of the adapters.
        wanted: called after each token; if it returns False, the answer so far is returned.

    Raises:
        ModelError: there is no such variant, or it cannot answer.
    """
    if role is None:
        return ()
    sent = locally_encoded(trio, prompt, format)
    if not isinstance(role, str) or role not in sent:  # a list is not hashable
        raise PromptError(
            f"{role!r} is no variant whose tokens are known. There are: {', '.join(sent)}."
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
    return trio.encoders[role].pieces(answers[role].ids)


def endpoints_note(trio: Backend) -> str:
    """Return a note on the variants that cannot continue given tokens; empty if all can."""
    roles = [v.role for v in trio.trio.variants if isinstance(v.source, Endpoint)]
    if not roles:
        return ""
    return f"Left out: {' and '.join(roles)}. An endpoint cannot be made to go on from tokens."


def missing_scores(trio: Backend, scores: Scores) -> str:
    """Return a note on the scores that are missing, and why; empty if none is."""
    notes = []
    for variant in trio.trio.variants:
        result = scores.get(variant.role, Unavailable("it was not waited for"))
        if isinstance(result, Unavailable):
            notes.append(f"Left out: {variant.role}: {result.reason.rstrip('.')}.")
        elif isinstance(variant.source, Endpoint):
            next_alone = len(result.pieces) == 1
            notes.append(
                f"{variant.role} is a server: it tells "
                + (
                    "what comes next alone."
                    if next_alone
                    else "no ranks, and tokens as it cuts them."
                )
            )
    return " ".join(notes)


def check_vocabularies(sent: Mapping[Role, EncodedPrompt]) -> None:
    """Check that equal token ids mean equal tokens for all variants.

    Raises:
        PromptError: the vocabularies differ.
    """
    if len({encoded.vocabulary for encoded in sent.values()}) > 1:
        raise PromptError(
            "The variants of this trio have different vocabularies: the ids of one mean other "
            "texts to another, so that no answer can be read by all."
        )
