"""Gradio's Blocks, whose every error is one line that says what would do."""

from __future__ import annotations

import inspect
import traceback
from typing import Any

import gradio as gr
from gradio.exceptions import InvalidPathError

NOT_UPLOADED = "A value names a file that was not uploaded here. Send the file, or a text."
UNEXPECTED = "This failed unexpectedly. The log has the whole story."


class Page(gr.Blocks):  # type: ignore[misc]
    """A page that hides the words of errors which are bugs, but never that there was one."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Check the number of values that are sent to an event.

        Raises:
            gr.Error: there are too few or too many.
        """
        if len(inputs) != len(block_fn.inputs):
            raise gr.Error(
                f"{block_fn.name} takes {len(block_fn.inputs)} values, and {len(inputs)} are sent: "
                f"{', '.join(_names(block_fn))}.",
                print_exception=False,
            )

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run an event's function; see `gr.Blocks.process_api`.

        Raises:
            gr.Error: it failed; what the error of a bug says stands in the log alone.
        """
        try:
            return dict(await super().process_api(*args, **kwargs))
        except gr.Error:
            raise
        except InvalidPathError as error:
            raise gr.Error(NOT_UPLOADED, print_exception=False) from error
        except Exception as error:
            traceback.print_exc()
            raise gr.Error(UNEXPECTED, print_exception=False) from error


def _names(block_fn: Any) -> list[str]:
    """Return the names of an event's values: an endpoint's arguments, or the fields' labels."""
    names = [name for name in inspect.signature(block_fn.fn).parameters if name != "request"]
    if len(names) == len(block_fn.inputs):
        return names
    return [str(field.label or field.get_block_name()) for field in block_fn.inputs]
