"""All that knows weights. Importing this loads no torch."""

from models.backend import Backend
from models.bench import bench
from models.errors import ModelError, PromptError, TrioError, WeightsError
from models.events import Event, Events, Queued, Ranked, Stop, Token
from models.loaded import HeadGate, Loaded, Memory, Progress
from models.merged import merged
from models.open import open_backend, preview
from models.prompt import to_text
from models.request import Request
from models.tokens import After, Likely
from models.trios import DEFAULT, SHIPPED, find_trio, read_trios
from models.tuning import Trained, TrainingRow, trained, tune
from models.tuning.readers import phrases
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
    "Sampling",
    "Sent",
    "Stop",
    "StopReason",
    "Strengths",
    "Token",
    "Trained",
    "TrainingRow",
    "Trio",
    "TrioError",
    "Variant",
    "Weights",
    "WeightsError",
    "bench",
    "find_trio",
    "merged",
    "open_backend",
    "phrases",
    "preview",
    "read_trios",
    "to_text",
    "trained",
    "tune",
]
