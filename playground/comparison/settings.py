"""Says in a line with which settings answers were made."""

from __future__ import annotations

from models import Request, Sampling

_NAMES = {
    "top_p": "top-p",
    "top_k": "top-k",
    "min_p": "min-p",
    "repetition_penalty": "repetition penalty",
    "presence_penalty": "presence penalty",
    "frequency_penalty": "frequency penalty",
}


def settings_line(request: Request) -> str:
    """Return the settings that were in force, as `greedy · 64 tokens · task × 0.5`."""
    sampling, usual = request.sampling, Sampling()
    parts = ["greedy"]
    if sampling.temperature:
        parts = [f"temperature {sampling.temperature:g}", f"seed {sampling.seed}"]
    parts.append(f"{sampling.max_new_tokens} tokens")
    for field, name in _NAMES.items():
        value = getattr(sampling, field)
        if value != getattr(usual, field) and (sampling.temperature or "penalty" in name):
            parts.append(f"{name} {value:g}")
    parts += [f"{role} × {scale:g}" for role, scale in request.strengths.items() if scale != 1]
    if not request.stop_loops:
        parts.append("loops run on")
    return " · ".join(parts)
