"""Renders prompts of all forms as text or as chat messages.

Pure functions, without a tokenizer. Training rows and prompts at run time are rendered by the same
functions, so that a variant gets prompts as it saw them in training.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import PromptError
from models.types import Layout, Prompt


@dataclass(frozen=True, slots=True)
class Message:
    """The user's turn for a variant that reads chat.

    A template that knows two fields (instruction and input) reads those; any other reads `content`.
    """

    instruction: str
    input: str = ""

    @property
    def content(self) -> str:
        """Instruction and input as one text."""
        return _blocks(self.instruction, self.input)

    def as_dict(self) -> dict[str, str]:
        """Return the message as chat templates take it."""
        return {
            "role": "user",
            "content": self.content,
            "instruction": self.instruction,
            "input": self.input,
        }


def to_text(prompt: Prompt) -> str:
    """Render a prompt as flat text: the user's bytes, laid out by its form."""
    return _blocks(prompt.instruction, _question(prompt))


def to_message(prompt: Prompt) -> Message:
    """Render a prompt as one user message; without an instruction, the layout takes its place."""
    if not prompt.instruction:
        return Message(_question(prompt))
    return Message(prompt.instruction, _question(prompt))


def stop_text(prompt: Prompt) -> str | None:
    """Return the text that starts another demonstration; None for a prompt without a layout."""
    return None if prompt.layout is None else f"\n{prompt.layout.input_label}:"


def continued(text: str, answer: str) -> str:
    """Return an answer with the separator before it, as in training rows.

    After a cue that is a space, after the end of a line nothing, after anything else a newline.
    """
    if text.endswith("\n"):
        return answer
    return f" {answer}" if text.endswith(":") else f"\n{answer}"


def check_characters(text: str) -> None:
    """Refuse lone surrogates (half a character), which no tokenizer or server accepts.

    Raises:
        PromptError: the text contains a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"The text has half a character (a lone surrogate, {text[error.start]!r}) at "
            f"position {error.start}. Type it again, or take it out."
        ) from error


def _question(prompt: Prompt) -> str:
    """Render what follows the instruction: demonstrations and the input, or the bare input."""
    if prompt.layout is None:
        return prompt.input
    shots = [
        f"{_with_cue(prompt.layout, shot.input)} {shot.output}" for shot in prompt.demonstrations
    ]
    return _blocks(*shots, _with_cue(prompt.layout, prompt.input))


def _with_cue(layout: Layout, text: str) -> str:
    """Render one input in the task's layout, ending in the cue."""
    # No space after the cue: the tokenizer puts the space into the answer's first token, and after
    # a prompt that ends in a space the model needs a token that was rare there in training.
    return f"{layout.input_label}: {text}\n{layout.cue}:"


def _blocks(*texts: str) -> str:
    """Join the texts that are not empty, with a blank line between."""
    return "\n\n".join(text for text in texts if text)
