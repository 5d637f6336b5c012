"""Makes a `Prompt` in one of three forms from the fields that a person fills in.

- instruction: an imperative that states the task, then the input, if there is one;
- zero-shot: no imperative and no demonstrations, only the input in the task's layout, which ends
  with a cue (`Review: …` and, on the next line, `Sentiment:`). FLAN also calls an instruction
  without demonstrations zero-shot; here the word never means that;
- few-shot: k demonstrations in that layout, then the input and the cue; an instruction may stand
  above them.

All mistakes in the fields are found here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from models import (
    FORMS,
    Demonstration,
    Form,
    Layout,
    Prompt,
    PromptError,
    half_character,
    to_text,
)

MAX_CHARACTERS = 20_000


def make_prompt(
    form: Form,
    *,
    instruction: str = "",
    input: str = "",
    demonstrations: Iterable[Demonstration] = (),
    layout: Layout | None = None,
) -> Prompt:
    """Make the one prompt that all variants get.

    Raises:
        PromptError: a field that the form needs is empty, a field that it does not have is filled,
            or the prompt is too long.
    """
    for name, text in (("instruction", instruction), ("input", input)):
        check_text(name, text)
    if form not in FORMS:
        raise PromptError(f"There is no prompt form {form!r}. There are: {', '.join(FORMS)}.")
    shots = tuple(demonstrations)
    if form == "instruction":
        _require(instruction, "The instruction is empty. Type what the models are to do.")
        if shots:
            raise PromptError("The instruction form holds no demonstrations; use few-shot.")
        if layout:
            raise PromptError("The instruction form has no labels and no cue; use another form.")
        prompt = Prompt(instruction, input)
    else:
        _require(input, "The input is empty. Type the text that the models are to go on from.")
        prompt = Prompt(instruction, input, shots, _layout(layout or Layout()))
        _check_shots(form, prompt)
    length = len(to_text(prompt))
    if length > MAX_CHARACTERS:
        raise PromptError(
            f"The prompt is {length:,} characters, and at most {MAX_CHARACTERS:,} are taken. "
            "Shorten it."
        )
    return prompt


def parse_demonstration(text: str | Demonstration) -> Demonstration:
    """Parse a demonstration of the form `input => output`; a `Demonstration` is returned as it is.

    Raises:
        PromptError: there is no `=>`, or one of its sides is empty.
    """
    if isinstance(text, Demonstration):
        return text
    check_text("example", text)
    input, arrow, output = text.partition("=>")
    if not arrow or not input.strip() or not output.strip():
        raise PromptError(f"The example {text!r} is not of the form 'input => output'.")
    return Demonstration(input.strip(), output.strip())


def _check_shots(form: Form, prompt: Prompt) -> None:
    shots = prompt.demonstrations
    if form == "zero-shot":
        if prompt.instruction.strip():
            raise PromptError("The zero-shot form holds no instruction; use another form for one.")
        if shots:
            raise PromptError("The zero-shot form holds no demonstrations; use few-shot.")
    elif not shots:
        raise PromptError("The few-shot form needs at least one demonstration. Add a row.")
    for number, shot in enumerate(shots, 1):
        if not shot.input.strip() or not shot.output.strip():
            raise PromptError(f"Demonstration {number} has an empty side. Fill it, or remove it.")


def _layout(layout: Layout) -> Layout:
    check_text("label of the input", layout.input_label)
    check_text("cue", layout.cue)
    _require(layout.input_label, "The label of the input is empty. 'Input' will do.")
    _require(layout.cue, "The cue is empty. 'Output' will do.")
    return layout


def check_text(name: str, value: object) -> None:
    """Check that a field is text.

    Raises:
        PromptError: the value is not a string, or has a lone surrogate.
    """
    if not isinstance(value, str):
        raise PromptError(f"The {name} is {value!r}; it must be text.")
    if half := half_character(value):
        raise PromptError(f"The {name} has half a character ({half!r}). Type it again, in UTF-8.")


def _require(text: str, message: str) -> None:
    if not text.strip():
        raise PromptError(message)
