"""The errors that a person can act on.

ModelError
├── TrioError       a trio file, or a variant in it, is not as it must be
├── WeightsError    weights, an adapter or a tokenizer cannot be had, or do not fit
└── PromptError     a prompt or a setting cannot be sent

Each says in one line where, what was found and what would do. All else is a bug and keeps its
traceback.
"""


class ModelError(Exception):
    """Something a person can act on; the message is meant to be read by them."""


class TrioError(ModelError):
    """A trio file, or a variant in it, is not as it must be."""


class WeightsError(ModelError):
    """Weights, an adapter or a tokenizer cannot be had, or do not fit."""


class PromptError(ModelError):
    """A prompt or a setting cannot be sent."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library could not get memory; torch has no one type for it on all devices."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def first_line(error: Exception) -> str:
    """Return the first line of what a library says; its name where it says nothing."""
    return (str(error).strip() or repr(error)).splitlines()[0]
