"""Reads trios from TOML files, and checks them."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from models.errors import TrioError
from models.request import ENDPOINT_FIELDS
from models.text_files import read_text
from models.types import ROLES, Endpoint, Pin, Precision, Role, Trio, Variant, Weights

SHIPPED: Final = Path(__file__).with_name("trios.toml")
DEFAULT: Final = "gemma-270m"
TRIOS_VARIABLE: Final = "TRIPTYCH_TRIOS"
"""Environment variable that names further trio files."""
_QUOTES: Final = "A path with backslashes stands in single quotes."
_TRIO_KEYS = ("title", "precision", "max_context", *ROLES)
_ENDPOINT_KEYS = ("endpoint", "key", "model", "request")
_VARIANT_KEYS = ("adapter", "base", "ends_with", "name", "reads", "same_base", *_ENDPOINT_KEYS)


def trio_files() -> tuple[Path, ...]:
    """Return the shipped trio file, and those that `TRIPTYCH_TRIOS` names.

    They are separated as the folders in `PATH` are. A relative one is relative to the current
    folder; the paths in a file are relative to the file's own.
    """
    names = os.environ.get(TRIOS_VARIABLE, "").split(os.pathsep)
    return (SHIPPED, *(Path(name).expanduser().resolve() for name in names if name))


def read_trios(*paths: Path) -> dict[str, Trio]:
    """Read every trio of files; without any, of `trio_files`.

    Raises:
        TrioError: a file is not TOML, or a trio in it is invalid or has the name of another one;
            the message says where.
    """
    trios: dict[str, Trio] = {}
    files: dict[str, Path] = {}
    for path in dict.fromkeys(paths or trio_files()):
        for name, trio in _read_file(path).items():
            if name in trios:
                raise TrioError(
                    f"{path}: trio.{name} has the name of a trio in {files[name]}. Rename it."
                )
            trios[name], files[name] = trio, path
    return trios


def _read_file(path: Path) -> dict[str, Trio]:
    try:
        tables = tomllib.loads(read_text(path))
    except FileNotFoundError as error:
        raise TrioError(f"There is no trio file {path}.") from error
    except (OSError, ValueError) as error:
        is_path = "Unescaped" in str(error) or "hex value" in str(error)
        cure = f" {_QUOTES}" if is_path else ""
        raise TrioError(f"{path.name}: cannot be read as TOML: {error}.{cure}") from error
    _check_keys(tables, ("trio",), path.name)
    trios = _table(tables, "trio", path.name)
    return {name: _trio(name, trios, path) for name in trios}


def find_trio(name: str = DEFAULT, path: Path | None = None) -> Trio:
    """Return the trio with a name, from a file or from any of `trio_files`.

    Raises:
        TrioError: there is no such trio, or a file is invalid.
    """
    paths = (path,) if path else trio_files()
    trios = read_trios(*paths)
    if name not in trios:
        where = " and ".join(dict.fromkeys(map(str, paths)))
        raise TrioError(f"There is no trio {name!r} in {where}. There are: {', '.join(trios)}.")
    return trios[name]


def _trio(name: str, trios: dict[str, Any], path: Path) -> Trio:
    where = f"{path.name}: trio.{name}"
    table = _table(trios, name, where)
    _check_keys(table, _TRIO_KEYS, where)
    precision: Precision = _one_of(table, "precision", ("nf4", "none"), "nf4", where)
    context = table.get("max_context", 4096)
    if not isinstance(context, int) or isinstance(context, bool) or context < 16:
        raise TrioError(f"{where}: max_context is {context!r}; it must be a whole number from 16.")
    variants = tuple(_variant(role, table, where, path.parent) for role in ROLES)
    title = _text(table, "title", where, name)
    return Trio(name, title, variants, precision, context, "max_context" in table)


def _variant(role: Role, trio: dict[str, Any], where: str, folder: Path) -> Variant:
    where = f"{where}.{role}"
    if role not in trio:
        raise TrioError(f"{where} is missing: a trio has a base, a task and an instruct variant.")
    table = _table(trio, role, where)
    _check_keys(table, _VARIANT_KEYS, where)
    return Variant(
        role=role,
        name=_text(table, "name", where),
        source=_source(table, where, folder),
        reads=_one_of(table, "reads", ("text", "chat"), "text", where),
        ends_with=_text(table, "ends_with", where, ""),
    )


def _source(table: dict[str, Any], where: str, folder: Path) -> Weights | Endpoint:
    if "endpoint" in table:
        if conflicts := [key for key in ("base", "adapter", "same_base") if key in table]:
            raise TrioError(
                f"{where}: has an endpoint and {conflicts[0]!r}; it must be one of the two."
            )
        url = _text(table, "endpoint", where)
        try:
            address = urlsplit(url)
            valid = address.scheme in ("http", "https") and address.hostname and address.port != 0
            path = address.path.rstrip("/")
        except ValueError:  # the port is not a number, or the host no address
            valid = None
        if not valid or re.search(r"[@#\s]", url) or path.endswith("/completions"):
            raise TrioError(
                f"{where}: endpoint is {url.partition('?')[0]!r}; it must be like "
                "http://host:8000/v1, with no user or password in it, no #, no space, and no "
                "/chat/completions at its end."
            )
        url = address._replace(path=path).geturl()
        key = _text(table, "key", where, "")
        if key and not key.isidentifier():
            raise TrioError(f"{where}: key must be the name of an environment variable.")
        return Endpoint(url, _text(table, "model", where), key, _request(table, where))
    if "same_base" in table and "adapter" not in table:
        raise TrioError(f"{where}: 'same_base' is of an adapter, and there is none.")
    for key in _ENDPOINT_KEYS:
        if key in table:
            raise TrioError(f"{where}: {key!r} is of an endpoint, and there is none.")
    adapter = read_pin(_text(table, "adapter", where), folder) if "adapter" in table else None
    base = read_pin(_text(table, "base", where), folder)
    return Weights(base, adapter, _flag(table, "same_base", where))


def _request(variant: dict[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    """Read which request fields a server takes by other names, or not at all."""
    if "request" not in variant:
        return ()
    table, where = _table(variant, "request", where), f"{where}.request"
    _check_keys(table, ENDPOINT_FIELDS, where)
    for field, name in table.items():
        if name is not False and not (isinstance(name, str) and name.isidentifier()):
            raise TrioError(f"{where}: {field} is {name!r}; it must be another name, or false.")
    names = {**{field: field for field in ENDPOINT_FIELDS}, **table}
    sent = ["model", "messages", "prompt", *filter(None, names.values())]
    if doubled := next((name for name in sent if sent.count(name) > 1), None):
        raise TrioError(f"{where}: two fields would be sent as {doubled!r}. Rename one of them.")
    return tuple((field, name or "") for field, name in table.items())


def read_pin(text: str, folder: Path) -> Pin:
    """Read `package:NAME@sha256`, `owner/name@revision`, or a path relative to `folder`.

    `~`, backslashes and drives are of paths, as is more than the one slash of a Hub id.

    Raises:
        TrioError: it holds a control character, as TOML reads a backslash before b, n or t.
    """
    if re.search(r"[\x00-\x1f]", text):
        raise TrioError(f"{text!r} is no path and no Hub id. {_QUOTES}")
    source, _, revision = text.partition("@")
    drive = re.match(r"[A-Za-z]:[\\/]", text)
    is_id = source.count("/") < 2 or "://" in source
    if drive or text.startswith((".", "/", "~")) or "\\" in text or not is_id:
        path = os.path.expanduser(text if drive else text.replace("\\", "/"))
        return Pin(str((folder / path).resolve()))
    return Pin(source, revision or None)


def _check_keys(table: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            known = ", ".join(sorted(keys))
            raise TrioError(f"{where}: unknown key {key!r}. Known keys: {known}.")


def _table(tables: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    table = tables.get(key)
    if not isinstance(table, dict):
        raise TrioError(f"{where}: {key!r} must be a table, not {table!r}.")
    return table


def _text(table: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        problem = "missing" if value is None else f"{value!r}, not text"
        raise TrioError(f"{where}: key {key!r} is {problem}.")
    return value


def _flag(table: dict[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise TrioError(f"{where}: {key} is {value!r}; it must be true or false.")
    return value


def _one_of(
    table: dict[str, Any], key: str, allowed: tuple[str, ...], default: str, where: str
) -> Any:
    value = table.get(key, default)
    if value not in allowed:
        raise TrioError(f"{where}: {key} is {value!r}; it must be one of: {', '.join(allowed)}.")
    return value
