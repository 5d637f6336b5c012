"""Reads the JSON files that lie beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.errors import WeightsError, first_line


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; an empty one if the file is missing.

    Raises:
        WeightsError: it cannot be read, or holds no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path} holds {type(values).__name__}, not an object.")
    return values
