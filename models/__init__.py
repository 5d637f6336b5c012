"""All that knows weights. Importing this loads no torch."""

from models.backends.base import Backend
from models.backends.merge_streams import merge_streams
from models.backends.open import open_backend, preview
from models.bench.run import run_bench
from models.errors import ModelError, PromptError, TrioError, WeightsError
from models.events import Event, Events, Queued, Ranked, Stop, Token
from models.logprobs import TokenDistribution, TopToken
from models.model_info import HeadGate, Memory, ModelInfo, Progress
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
    EncodedPrompt,
    Endpoint,
    Finding,
    Form,
    Format,
    Layout,
    Pin,
    Prompt,
    Reads,
    Role,
    Sampling,
    StopReason,
    Strengths,
    TokenPiece,
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
    "Backend",
    "Demonstration",
    "EncodedPrompt",
    "Endpoint",
    "Event",
    "Events",
    "Finding",
    "Form",
    "Format",
    "HeadGate",
    "Layout",
    "Memory",
    "ModelError",
    "ModelInfo",
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
    "Stop",
    "StopReason",
    "Strengths",
    "Token",
    "TokenDistribution",
    "TokenPiece",
    "TopToken",
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
