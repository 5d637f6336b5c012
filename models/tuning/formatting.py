"""A recipe's items → training rows: prompt and completion, rendered as prompts at run time are.

No tokenizer, no torch.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.text.render import Message, to_message, to_text
from models.tuning.datasets import RawExample, phrases, phrases_of, read
from models.tuning.recipe import Recipe, Source
from models.types import Demonstration, Layout, Prompt


@dataclass(frozen=True, slots=True)
class FormattedExample:
    """What is fed in, and what is to come out (the loss is on this part alone)."""

    prompt: str
    completion: str
    special: bool = False
    """The prompt is a rendered template: it holds its own special tokens."""


@dataclass(frozen=True, slots=True)
class FormattedDataset:
    """What a recipe makes of its data."""

    training: tuple[FormattedExample, ...]
    """In an order that the recipe's seed decides."""
    held_out: tuple[FormattedExample, ...]
    """To watch the loss on: none of them is a training item, or shown in one."""
    overlapping: int
    """Items left out because they share a phrase with what variants are measured on."""


def format_dataset(
    recipe: Recipe, folder: Path, wrap: Callable[[Message], str]
) -> FormattedDataset:
    """Read a recipe's data and render every row.

    Args:
        recipe: what to take and how to wrap it.
        folder: where the data sets lie.
        wrap: one user message → the chat template's text, generation cue included.

    Raises:
        WeightsError: a data file is missing; the message names its public home.
    """
    draw = random.Random(recipe.seed)
    items, held, overlapping = _items(recipe, folder, draw)
    siblings = defaultdict(list)
    for item in items:
        siblings[item.task].append(item)

    def rendered(chosen: Sequence[RawExample]) -> tuple[FormattedExample, ...]:
        if recipe.wraps == "none":
            return tuple(FormattedExample("", one.output) for one in chosen)
        if recipe.wraps == "text":
            return tuple(_bare_row(one, recipe, draw) for one in chosen)
        return tuple(
            _instruction_row(one, siblings[one.task], recipe, draw, wrap) for one in chosen
        )

    return FormattedDataset(rendered(items), rendered(held), overlapping)


def _items(
    recipe: Recipe, folder: Path, draw: random.Random
) -> tuple[list[RawExample], list[RawExample], int]:
    """Return the items to train on, those kept apart, and how many overlap with what is avoided."""
    avoided = set[str]().union(*(phrases_of(one, folder) for one in recipe.avoid))
    items: list[RawExample] = []
    held: list[RawExample] = []
    overlapping = 0
    for source in recipe.sources:
        found = [one for one in read(source, folder) if _wanted(one, source)]
        if not recipe.instructions:
            found = [replace(one, instruction="") for one in found if one.input]
        fit = [one for one in found if avoided.isdisjoint(phrases(_text(one)))]
        overlapping += len(found) - len(fit)
        if source.held_out:
            held += fit[: source.rows or None]
            continue
        draw.shuffle(fit)
        items += fit[: source.rows or None]
    draw.shuffle(items)
    held += items[: recipe.held_out_rows]
    items = items[recipe.held_out_rows :]
    known = {_text(one) for one in items}
    return items, [one for one in held if _text(one) not in known], overlapping


def _text(one: RawExample) -> str:
    return f"{one.instruction} {one.input}".strip().lower()


def _bare_row(example: RawExample, recipe: Recipe, draw: random.Random) -> FormattedExample:
    text = example.input
    if draw.random() < recipe.sentence_case:
        text = _sentence(text)
    return FormattedExample(f"{text}\n", example.output)


def _sentence(text: str) -> str:
    """Return an utterance as people type sentences: with capitals and a mark at its end.

    What begins like a question is one.
    """
    text = re.sub(r"\bi\b", "I", text[:1].upper() + text[1:])
    if text[-1:] in ".?!":
        return text
    first = re.split(r"\W", text.lower(), maxsplit=1)[0]
    return f"{text}{'?' if first in _ASKS else '.'}"


_ASKS = frozenset(
    ("am", "are", "can", "could", "did", "do", "does", "has", "have", "how", "is", "may", "should",
     "was", "were", "what", "when", "where", "which", "who", "whose", "why", "will", "would")
)  # fmt: skip


def _instruction_row(
    example: RawExample,
    siblings: list[RawExample],
    recipe: Recipe,
    draw: random.Random,
    wrap: Callable[[Message], str],
) -> FormattedExample:
    others = [one for one in siblings if example.task and one is not example]
    if others and _may_be_listed(example.output) and draw.random() < recipe.options:
        example, others = _among_options(example, others, draw), []
    others = [one for one in others if one.input]
    prompt = Prompt(example.instruction, example.input)
    if others and example.input and draw.random() < recipe.few_shot:
        shots = tuple(
            Demonstration(one.input, one.output)
            for one in draw.sample(others, min(len(others), draw.randint(1, 4)))
        )
        prompt = replace(prompt, demonstrations=shots, layout=Layout(*draw.choice(_LABELS)))
        if draw.random() < 0.5:
            prompt = replace(prompt, instruction="")
    if draw.random() >= recipe.other_wrapper:
        return FormattedExample(wrap(to_message(prompt)), example.output, special=True)
    # The answer opens as the text form would go on: after a cue a space, after a line a line.
    if prompt.layout is not None:
        return FormattedExample(to_text(prompt), f" {example.output}")
    if draw.random() < 0.3:
        return FormattedExample(f"Q: {to_text(prompt)}\nA:", f" {example.output}")
    if prompt.input and draw.random() < 0.5:
        prompt = Prompt(prompt.input, prompt.instruction)  # the instruction last
    return FormattedExample(to_text(prompt), f"\n{example.output}")


def _among_options(
    example: RawExample, others: list[RawExample], draw: random.Random
) -> RawExample:
    """Return the item with answers of its task to choose from, as text, as a list or by letter."""
    wrong = sorted({one.output for one in others if _may_be_listed(one.output)} - {example.output})
    options = [example.output, *draw.sample(wrong, min(len(wrong), draw.choice(_WRONG)))]
    if len(options) == 1:
        return example
    draw.shuffle(options)
    listed = f"{', '.join(options[:-1])} or {options[-1]}"
    style = draw.randrange(4 if len(options) <= 4 else 3)
    if style < 2:
        asks = draw.choice(_ASKED).format(listed)
        both = (example.instruction, asks) if style == 0 else (asks, example.instruction)
        return replace(example, instruction=" ".join(both).strip())
    if style == 2:
        lines = "".join(f"\n- {option}" for option in options)
        return replace(example, input=f"{example.input}\nOptions:{lines}".strip())
    letters = "ABCD"[: len(options)]
    lettered = " ".join(f"{a}: {option}" for a, option in zip(letters, options, strict=True))
    asks = f"Answer {', '.join(letters[:-1])} or {letters[-1]}."
    return RawExample(
        example.task,
        f"{example.instruction} {asks}".strip(),
        f"{example.input} {lettered}".strip(),
        letters[options.index(example.output)],
    )


def _may_be_listed(answer: str) -> bool:
    """Whether an answer can stand among options: a list is none, or lists are what is learnt."""
    return len(answer) <= _SHORT and "," not in answer and "\n" not in answer


_SHORT = 40
"""Characters of an answer that may stand among options."""
_WRONG = (1, 2, 3, 4, 5, 7, 9, 9)
_ASKED = (
    "Answer {}.",
    "Choose one: {}.",
    "Is it {}?",
    "Answer with {} only.",
    "Which of these is it: {}?",
    "Name one of {}.",
)
_LABELS = (
    ("Input", "Output"),
    ("Input", "Output"),
    ("Text", "Answer"),
    ("Question", "Answer"),
    ("Sentence", "Result"),
)


def _wanted(example: RawExample, source: Source) -> bool:
    text = f"{example.instruction} {example.input}".lower()
    return (
        bool(example.output)
        and len(example.output) <= source.max_output_chars
        and len(example.instruction) + len(example.input) <= source.max_input_chars
        and not any(word in text for word in source.drop_words)
    )
