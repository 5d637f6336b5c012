"""Examples → training rows: prompt and completion, rendered as prompts are at run time.

Knows no tokenizer and no torch.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import TrioError
from models.text.render import Message, to_message, to_text
from models.tuning.datasets import phrases, phrases_of, read
from models.tuning.raw_example import RawExample
from models.tuning.recipe import Recipe, Source
from models.types import Demonstration, Layout, Prompt


@dataclass(frozen=True, slots=True)
class FormattedExample:
    """One training row as text; the loss is on the completion alone."""

    prompt: str
    completion: str
    special: bool = False
    """Whether the prompt is a rendered chat template, which has its own special tokens."""


@dataclass(frozen=True, slots=True)
class FormattedDataset:
    """The training rows of a recipe."""

    training: tuple[FormattedExample, ...]
    """Shuffled by the recipe's seed."""
    held_out: tuple[FormattedExample, ...]
    """Rows to measure the loss on; none is a training row, or a demonstration in one."""
    filtered: int
    """Number of examples left out by the filters of their sources."""
    overlapping: int
    """Number of examples left out by decontamination."""


@dataclass(frozen=True, slots=True)
class ChosenExamples:
    """The examples of a recipe before they are rendered; its fields are those of the rows."""

    training: list[RawExample]
    held_out: list[RawExample]
    filtered: int
    overlapping: int


def format_dataset(
    recipe: Recipe, folder: Path, wrap: Callable[[Message], str]
) -> FormattedDataset:
    """Read a recipe's data and render every row.

    Args:
        recipe: the data sets, and how to render them.
        folder: folder of the data sets.
        wrap: renders a user message by the chat template, with the generation cue.

    Raises:
        WeightsError: a data file is missing; the message names its public home.
        TrioError: nothing is left of a source, or every row is held out.
    """
    draw = random.Random(recipe.seed)
    chosen = _examples(recipe, folder, draw)
    siblings = defaultdict(list)
    for item in chosen.training:
        siblings[item.task].append(item)

    def rendered(examples: Sequence[RawExample]) -> tuple[FormattedExample, ...]:
        if recipe.wraps == "none":
            return tuple(FormattedExample("", example.output) for example in examples)
        if recipe.wraps == "text":
            return tuple(_bare_row(example, recipe, draw) for example in examples)
        return tuple(
            _instruction_row(example, siblings[example.task], recipe, draw, wrap)
            for example in examples
        )

    return FormattedDataset(
        rendered(chosen.training), rendered(chosen.held_out), chosen.filtered, chosen.overlapping
    )


def _examples(recipe: Recipe, folder: Path, draw: random.Random) -> ChosenExamples:
    avoided_phrases = set[str]().union(*(phrases_of(avoid, folder) for avoid in recipe.avoid))
    items: list[RawExample] = []
    repeats: dict[RawExample, int] = {}
    held_out: list[RawExample] = []
    filtered = overlapping = 0
    for source in recipe.sources:
        published = list(read(source, folder))
        examples = [
            replace(example, options=source.options)
            for example in published
            if _wanted(example, source)
        ]
        clean = [row for row in examples if avoided_phrases.isdisjoint(phrases(_text(row)))]
        filtered += len(published) - len(examples)
        overlapping += len(examples) - len(clean)
        taken = _sample(clean, source, recipe.seed)
        if not recipe.instructions:
            taken = [replace(example, instruction="") for example in taken if example.input]
        if not taken:
            no_input = ", and none of the others has an input" if clean else ""
            raise TrioError(
                f"{recipe.name}: no row of {source.file} is left of {len(published):,}: "
                f"{len(published) - len(examples):,} are left out by its settings, "
                f"{len(examples) - len(clean):,} overlap with evaluation data{no_input}. Loosen "
                "the settings, or take the source out."
            )
        if source.held_out:
            held_out += taken
            continue
        draw.shuffle(taken)
        items += taken
        if source.repeat > 1:
            repeats |= dict.fromkeys(taken, source.repeat)
    draw.shuffle(items)
    held_out += items[: recipe.held_out_rows]
    items = items[recipe.held_out_rows :]
    if not items:
        raise TrioError(
            f"{recipe.name}: every row is held out. Lower held_out_rows, which is "
            f"{recipe.held_out_rows}, or name a source that is not held out."
        )
    seen = {example.item for example in items}
    if repeats:
        items += [row for row in items for _ in range(repeats.get(row, 1) - 1)]
        draw.shuffle(items)
    apart = [example for example in held_out if example.item not in seen]
    return ChosenExamples(items, apart, filtered, overlapping)


def _sample(examples: list[RawExample], source: Source, seed: int) -> list[RawExample]:
    """Return a source's examples, or as many as it gives; which, no other source changes.

    So a recipe without instructions takes of the same examples as one with them.
    """
    if source.held_out or not source.rows:
        return examples[: source.rows or None]
    draw = random.Random(f"{seed} {source.reader} {source.file}")
    return draw.sample(examples, min(source.rows, len(examples)))


def _text(example: RawExample) -> str:
    return f"{example.instruction} {example.input} {example.output}"


def _bare_row(example: RawExample, recipe: Recipe, draw: random.Random) -> FormattedExample:
    text = example.input
    if draw.random() < recipe.sentence_case:
        text = _sentence(text)
    return FormattedExample(f"{text}\n", example.output)


def _sentence(text: str) -> str:
    """Return an utterance with a capital at its beginning and punctuation at its end.

    If its first word is one that begins questions, it ends with a question mark.
    """
    text = re.sub(r"\bi\b", "I", text[:1].upper() + text[1:])
    if text[-1:] in ".?!":
        return text
    first = re.split(r"\W", text.lower(), maxsplit=1)[0]
    return f"{text}{'?' if first in _QUESTION_WORDS else '.'}"


_QUESTION_WORDS = frozenset(
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
    # Each item is shown once, and never demonstrates itself in another wording.
    others = {other.item: other for other in siblings if example.task}
    others.pop(example.item, None)
    same_task = list(others.values())
    if same_task and _may_be_listed(example) and draw.random() < recipe.options:
        example, same_task = _among_options(example, same_task, draw), []
    same_task = [other for other in same_task if other.input]
    prompt = Prompt(example.instruction, example.input)
    if prompt == Prompt():  # a plain text
        return FormattedExample("", example.output)
    if same_task and example.input and draw.random() < recipe.few_shot:
        shots = tuple(
            Demonstration(other.input, other.output)
            for other in draw.sample(same_task, min(len(same_task), draw.randint(1, 4)))
        )
        prompt = replace(prompt, demonstrations=shots, layout=Layout(*draw.choice(_LAYOUTS)))
        if draw.random() < 0.5:
            prompt = replace(prompt, instruction="")
    if draw.random() >= recipe.other_wrapper:
        return FormattedExample(wrap(to_message(prompt)), example.output, special=True)
    # The completion starts with its separator: a space after a cue, else a newline.
    if prompt.layout is not None:
        return FormattedExample(to_text(prompt), f" {example.output}")
    if draw.random() < 0.3:
        return FormattedExample(f"Q: {to_text(prompt)}\nA:", f" {example.output}")
    if prompt.input and draw.random() < 0.5:
        prompt = Prompt(prompt.input, prompt.instruction)  # the instruction last
    return FormattedExample(to_text(prompt), f"\n{example.output}")


def _among_options(
    example: RawExample, same_task: list[RawExample], draw: random.Random
) -> RawExample:
    """Return the example with answer options of its task: in a sentence, as a list or by letter."""
    outputs = {other.output for other in same_task if _may_be_listed(other)}
    wrong = sorted(outputs - {example.output})
    options = [example.output, *draw.sample(wrong, min(len(wrong), draw.choice(_WRONG)))]
    if len(options) == 1:
        return example
    draw.shuffle(options)
    listed = f"{', '.join(options[:-1])} or {options[-1]}"
    style = draw.randrange(4 if len(options) <= 4 else 3)
    if style < 2:
        instruction = draw.choice(_ASK_FOR_OPTION).format(listed)
        parts = [example.instruction, instruction]
        if style == 1:
            parts.reverse()
        return replace(example, instruction=" ".join(parts).strip())
    if style == 2:
        lines = "".join(f"\n- {option}" for option in options)
        return replace(example, input=f"{example.input}\nOptions:{lines}".strip())
    letters = "ABCD"[: len(options)]
    lettered = " ".join(f"{a}: {option}" for a, option in zip(letters, options, strict=True))
    instruction = f"Answer {', '.join(letters[:-1])} or {letters[-1]}."
    return RawExample(
        example.task,
        f"{example.instruction} {instruction}".strip(),
        f"{example.input} {lettered}".strip(),
        letters[options.index(example.output)],
    )


def _may_be_listed(example: RawExample) -> bool:
    """Whether an answer can be an option: its source allows it, it is short, and no list itself."""
    answer = example.output
    return example.options and len(answer) <= _SHORT and "," not in answer and "\n" not in answer


_SHORT = 40
"""Most characters of an answer that can be an option."""
_WRONG = (1, 2, 3, 4, 5, 7, 9, 9)
"""Numbers of wrong options, one of which is drawn."""
_ASK_FOR_OPTION = (
    "Answer {}.",
    "Choose one: {}.",
    "Is it {}?",
    "Answer with {} only.",
    "Which of these is it: {}?",
    "Name one of {}.",
)
_LAYOUTS = (
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
        and source.min_output_chars <= len(example.output) <= source.max_output_chars
        and len(example.instruction) + len(example.input) <= source.max_input_chars
        and not any(word in text for word in source.drop_words)
        and not (source.drop_repeating and _repeats(example.output))
    )


def _repeats(text: str) -> bool:
    """Whether four words in a row are said three times or more."""
    words = text.lower().split()
    runs = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    return max(runs.values(), default=0) >= 3
