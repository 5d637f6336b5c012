"""Errors that a user can fix.

ModelError
├── TrioError       a trio file, or a variant in it, is invalid
├── WeightsError    weights, an adapter or a tokenizer are missing, damaged or do not match
└── PromptError     a prompt or a setting is invalid

Each message says in one line where the problem is, what was found and what to do. Any other
exception is a bug and keeps its traceback.
"""


class ModelError(Exception):
    """A problem that a user can fix; the message is written for the user."""


class TrioError(ModelError):
    """A trio file, or a variant in it, is invalid."""


class WeightsError(ModelError):
    """Weights, an adapter or a tokenizer are missing, damaged or do not match."""


class PromptError(ModelError):
    """A prompt or a setting is invalid."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means out of memory, for which torch has no single type on all devices."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its repr if the message is empty.

    If the line only announces the reason, as "Error(s) in loading state_dict:" and the status of a
    request do, the next line is added to it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    announces = lines[0].endswith(":") or "(Request ID: " in lines[0]
    return " ".join(lines[: 2 if announces else 1])
