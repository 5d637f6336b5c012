"""The arguments of `launch`: the page's look, and the features of Gradio that are disabled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from playground.ui import modules
from playground.ui.server.gate import HANDLERS, Gate
from playground.ui.server.uploads import MAX_FILE
from playground.ui.server.visitors import MAX_SESSIONS, MAX_THREADS

_STATIC = Path(__file__).parent / "static"


def look() -> dict[str, Any]:
    """Return the arguments of `launch` for the page's look and security."""
    # Gradio 6.31 bundles complete IBM Plex fonts only in these two weights: its 500 and 600 are
    # subsets with two of the 52 Latin letters.
    sans = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
    mono = gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700))
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.slate,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_sm,
        font=[sans, "system-ui", "sans-serif"],
        font_mono=[mono, "monospace"],
    ).set(
        block_border_width="0px",
        block_padding="0px",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_300",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        button_primary_background_fill="*neutral_900",
        button_primary_background_fill_hover="*neutral_700",
        button_primary_background_fill_dark="*neutral_100",
        button_primary_background_fill_hover_dark="*neutral_300",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_900",
    )
    return {
        "theme": theme,
        "css": (_STATIC / "style.css").read_text(encoding="utf-8"),
        "js": modules.listener("page", "start"),
        "head": modules.preloads(),
        "app_kwargs": {
            "routes": [modules.route()],
            "middleware": [Middleware(Gate)],
            "exception_handlers": HANDLERS,
        },
        "show_error": False,
        "max_threads": MAX_THREADS,
        "state_session_capacity": MAX_SESSIONS,
        "max_file_size": MAX_FILE,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
    }
