"""All that knows weights. Importing this loads no torch."""

from models.backends.base import Backend
from models.backends.merge_streams import merge_streams
from models.backends.open import open_backend, preview
from models.bench.run import run_bench
from models.errors import ModelError, PromptError, TrioError, WeightsError
from models.events import Event, Events, Queued, Ranked, Stop, Token
from models.logprobs import After, Likely
from models.model_info import HeadGate, Loaded, Memory, Progress
from models.request import Request
from models.text.render import to_text
from models.trios import DEFAULT, SHIPPED, find_trio, read_trios
from models.tuning import RunReport, TrainingRow, run_reports, tune
from models.tuning.datasets import phrases
from models.types import (
    FORMATS,
    FORMS,
    GREEDY,
    MAX_NEW_TOKENS,
    MAX_STRENGTH,
    NONE,
    ROLES,
    UNKNOWN_ID,
    Demonstration,
    Endpoint,
    Finding,
    Form,
    Format,
    Layout,
    Piece,
    Pin,
    Prompt,
    Reads,
    Role,
    Sampling,
    Sent,
    StopReason,
    Strengths,
    Trio,
    Variant,
    Weights,
)

__all__ = [
    "DEFAULT",
    "FORMATS",
    "FORMS",
    "GREEDY",
    "MAX_NEW_TOKENS",
    "MAX_STRENGTH",
    "NONE",
    "ROLES",
    "SHIPPED",
    "UNKNOWN_ID",
    "After",
    "Backend",
    "Demonstration",
    "Endpoint",
    "Event",
    "Events",
    "Finding",
    "Form",
    "Format",
    "HeadGate",
    "Layout",
    "Likely",
    "Loaded",
    "Memory",
    "ModelError",
    "Piece",
    "Pin",
    "Progress",
    "Prompt",
    "PromptError",
    "Queued",
    "Ranked",
    "Reads",
    "Request",
    "Role",
    "RunReport",
    "Sampling",
    "Sent",
    "Stop",
    "StopReason",
    "Strengths",
    "Token",
    "TrainingRow",
    "Trio",
    "TrioError",
    "Variant",
    "Weights",
    "WeightsError",
    "find_trio",
    "merge_streams",
    "open_backend",
    "phrases",
    "preview",
    "read_trios",
    "run_bench",
    "run_reports",
    "to_text",
    "tune",
]
