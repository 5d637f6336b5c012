"""Recipes: all settings of an adapter's training, read from TOML and checked.

Reads no training data.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from models.errors import TrioError
from models.text_files import read_text

Reader = Literal[
    "clinc", "contexts", "creak", "dolly", "everyday", "jokes", "oasst", "p3", "passages", "poems",
    "rows", "seed", "superni",
]  # fmt: skip
FOLDER = Path(__file__).parent
ABOVE_ZERO = frozenset(
    ("alpha", "batch_rows", "clip_norm", "epochs", "learning_rate", "max_new_tokens",
     "max_tokens", "prompts", "rank", "repeat", "save_every")
)  # fmt: skip
"""Keys whose value must not be 0."""
SHARES = frozenset(("few_shot", "options", "other_wrapper", "sentence_case", "stop_at", "warmup"))
"""Keys whose value is at most 1."""


@dataclass(frozen=True, slots=True)
class Source:
    """A data set, and which of its rows are used."""

    reader: Reader
    file: str
    """Path in the data folder, or in the `data` folder beside the shipped recipes."""
    home: str
    """Where the original is published."""
    licence: str
    attribution: str
    rows: int = 0
    """Largest number of rows, drawn by the recipe's seed; 0 takes all."""
    repeat: int = 1
    """How often each of its rows is in an epoch, rendered anew each time."""
    min_output_chars: int = 1
    max_output_chars: int = 600
    max_input_chars: int = 1200
    drop_tasks: tuple[str, ...] = ()
    """Tasks or data sets of the source that are left out."""
    drop_words: tuple[str, ...] = ()
    """Rows whose instruction or input contains one of these are left out."""
    drop_repeating: bool = False
    """Whether rows whose output says four words in a row three times or more are left out."""
    options: bool = True
    """Whether answers of its rows may stand among options to choose from."""
    split: str = "train"
    """Name of the split, if the data set has splits."""
    held_out: bool = False
    """Whether all its rows are held out, to measure the loss on."""


@dataclass(frozen=True, slots=True)
class Decontamination:
    """A file of evaluation data: training rows that share eight successive words are left out."""

    file: str
    """Path in the data folder; read as text, line by line."""
    home: str
    only_tasks: tuple[str, ...] = ()
    """Data sets in a file of JSON lines to which this is limited; empty means the whole file."""


@dataclass(frozen=True, slots=True)
class Lora:
    """Shape of the adapter (Hu et al. 2106.09685)."""

    rank: int
    alpha: int
    layers: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


@dataclass(frozen=True, slots=True)
class Schedule:
    """The optimizer's steps."""

    learning_rate: float
    batch_rows: int
    epochs: int
    max_steps: int = 0
    """Number of steps after which training ends; 0 runs all epochs."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it falls to 0 as a cosine."""
    clip_norm: float = 1.0
    save_every: int = 50
    """Steps between two checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Schedule):
    """Hyperparameters of a training run."""

    max_tokens: int
    """Longer rows are left out, and counted."""
    prompt_weight: float = 0.0
    """Weight of a prompt's token in the loss; that of a completion's is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlikelihood(Schedule):
    """A second stage against answers that repeat themselves (`unlikelihood.py`)."""

    prompts: int
    """Number of training rows whose prompts the model answers itself."""
    max_new_tokens: int = 128
    """Most tokens of such an answer."""
    likelihood_weight: float = 0.2
    """Weight of the human answer's ordinary loss, mean over its tokens."""
    stop_at: float = 0.0
    """The stage ends after an epoch when at most this share of the answers to prompts of held-out
    rows repeats itself."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All settings of an adapter's training."""

    name: str
    wraps: Literal["text", "chat", "none"]
    """How prompts are rendered. "text": the bare input and a newline. "chat": an instruction in the
    chat template, or in some other wrappers. "none": no prompt, for continued pre-training."""
    base: str
    seed: int
    lora: Lora
    training: Training
    sources: tuple[Source, ...]
    held_out_rows: int = 0
    """Rows of all sources that are held out, to measure the loss on."""
    instructions: bool = True
    """False removes the instructions, and leaves out rows without an input (FLAN's ablation,
    2109.01652, §4.3)."""
    unlikelihood: Unlikelihood | None = None
    """The second stage; None if there is none."""
    avoid: tuple[Decontamination, ...] = ()
    """Evaluation data with which training rows must not overlap."""
    options: float = 0.0
    """Share of rows with a short answer that list answer options of their task."""
    few_shot: float = 0.0
    """Share of rows that begin with demonstrations, where the source has more rows of the task."""
    sentence_case: float = 0.0
    """Share of bare inputs written as a sentence, with a capital first and punctuation last."""
    other_wrapper: float = 0.0
    """Share of rows outside the chat template, so that instructions work without it, too."""


def find_recipe(name: str) -> Path:
    """Find a recipe by its path, or a shipped recipe by its name; return its path.

    Raises:
        TrioError: there is no such recipe.
    """
    for path in (Path(name), FOLDER / f"{name}.toml"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
    raise TrioError(f"There is no recipe {name!r}. Shipped: {shipped}; or name a TOML file.")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        TrioError: the file is not TOML, a key is unknown or missing, or a value has a wrong type.
    """
    try:
        table = tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise TrioError(f"{path.name}: cannot be read as TOML: {error}.") from error
    where = path.name
    _check_keys(Recipe, table, where)
    table["lora"] = _fill(Lora, table.get("lora", {}), f"{where}: lora")
    table["training"] = _fill(Training, table.get("training", {}), f"{where}: training")
    if "unlikelihood" in table:
        table["unlikelihood"] = _fill(Unlikelihood, table["unlikelihood"], f"{where}: unlikelihood")
    table["sources"] = tuple(
        _fill(Source, source, f"{where}: sources[{n}]")
        for n, source in enumerate(_list(table, "sources", where))
    )
    table["avoid"] = tuple(
        _fill(Decontamination, avoided, f"{where}: avoid[{n}]")
        for n, avoided in enumerate(_list(table, "avoid", where))
    )
    recipe: Recipe = _fill(Recipe, table, where)
    if not recipe.sources:
        raise TrioError(f"{where}: no [[sources]]: a recipe needs at least one data set.")
    return recipe


def _list(table: dict[str, Any], key: str, where: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise TrioError(f"{where}: {key} is {value!r}; it must be tables, each [[{key}]].")
    return value


def _check_keys(kind: Any, table: dict[str, Any], where: str) -> None:
    """Refuse unknown and missing keys of a dataclass."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in table:
        if key not in fields:
            raise TrioError(f"{where}: unknown key {key!r}. Known keys: {', '.join(fields)}.")
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in table:
            raise TrioError(f"{where}: key {name!r} is missing.")


def _fill(kind: Any, table: dict[str, Any], where: str) -> Any:
    """Build a dataclass from a TOML table, after checking its keys and the types of its values."""
    if not isinstance(table, dict):
        raise TrioError(f"{where} must be a table, not {table!r}.")
    _check_keys(kind, table, where)
    types = get_type_hints(kind)
    return kind(**{k: _checked(value, types[k], where, k) for k, value in table.items()})


def _checked(value: Any, kind: Any, where: str, key: str) -> Any:
    """Check a value against the type of its field, and return it; lists become tuples.

    Raises:
        TrioError: the value is not of the field's type.
    """
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")
    if kind == tuple[str, ...]:
        value = tuple(value) if isinstance(value, list) else value
        fits = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        wanted = "a list of texts"
    elif get_origin(kind) is Literal:
        fits = value in get_args(kind)
        wanted = _choice(get_args(kind))
    elif kind in (int, float):
        number = int | float if kind is float else int
        fits = isinstance(value, number) and not isinstance(value, bool)
        fits = fits and (value > 0 if key in ABOVE_ZERO else value >= 0)
        fits = fits and (value <= 1 if key in SHARES else value < math.inf)
        wanted += " above 0" if key in ABOVE_ZERO else " from 0"
        wanted += " to 1" if key in SHARES else ""
    else:  # tables were checked when they were filled
        fits = kind not in (bool, str) or isinstance(value, kind)
    if not fits:
        raise TrioError(f"{where}: {key} is {value!r}; it must be {wanted}.")
    return value


def _choice(names: tuple[str, ...]) -> str:
    """Return the allowed names as messages list them: up to three with quotes, more without."""
    if len(names) > 3:
        return f"one of {', '.join(names)}"
    return f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
