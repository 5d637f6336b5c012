"""What rounds of a benchmark come to: medians, and the ratios that the engine is held to. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from models.bench.prompts import TURNS


def row(name: str, what: str, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the medians of one way's rounds, and the most that its process held after any.

    Args:
        name: of the way.
        what: it is, in words.
        rounds: what each measured: {"tokens", "seconds", "memory_bytes"}, of a server of its own
            {"server_bytes"}, and of most {"first_token_s"}.
    """
    seconds = sorted(one["seconds"] for one in rounds)
    found = {
        "name": name,
        "what": what,
        "tokens_per_s": rounds[0]["tokens"] / statistics.median(seconds),
        "seconds": statistics.median(seconds),
        "seconds_p95": seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))],
        "rounds": len(rounds),
        "seconds_of_rounds": [one["seconds"] for one in rounds],
        "memory_bytes": max(one.get("server_bytes", one["memory_bytes"]) for one in rounds),
    }
    firsts = [one["first_token_s"] for one in rounds if "first_token_s" in one]
    return {**found, "first_token_s": statistics.median(firsts)} if firsts else found


def ratios(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return what the engine is held to, by its own rows and the baselines'.

    Args:
        rows: of `row`, by name: the engine's own, and of the baselines B0 at the least.
    """
    speed = {name: one["tokens_per_s"] for name, one in rows.items()}
    found = {
        f"tokens per second, {own} / {name}": speed[own] / speed[name]
        for own, others in (
            ("engine", ("no guesses", "B0", "B2", "B5", "B6")),
            ("no guesses", ("B0", "B2", "B5", "B6")),
        )
        for name in others
        if name in speed
    }
    first = {name: rows[name]["first_token_s"] for name in ("engine", "one alone")}
    found["tokens per second, nine rows / engine"] = speed["nine rows"] / speed["engine"]
    if "nine, no guesses" in speed:
        nine = speed["nine, no guesses"] / speed["no guesses"]
        found["tokens per second, nine rows / three, no guesses in either"] = nine
    found["tokens per second of each of two / of one"] = speed["two people"] / 2 / speed["engine"]
    seconds = {
        name: rows[name]["seconds_of_rounds"] for name in ("engine", "two people", "nine rows")
    }
    if nine_s := together(seconds["engine"], seconds["nine rows"], 3):
        found["the same texts, tokens per second, nine rows / engine"] = nine_s
    if two_s := together(seconds["engine"], seconds["two people"], 2):
        found["the same texts, tokens per second of each of two / of one"] = two_s / 2
    found["first token, engine / one alone"] = first["engine"] / first["one alone"]
    found["memory, engine / B0"] = rows["engine"]["memory_bytes"] / rows["B0"]["memory_bytes"]
    return found


def together(one: Sequence[float], several: Sequence[float], people: int) -> float | None:
    """Return how much less time several people's texts take at once than one after the other.

    How much a text repeats itself, and so how fast it comes, differs from prompt to prompt: the
    median of one person's rounds is of other texts than the median of several people's.

    Args:
        one: seconds of one person's rounds; round n answers prompt n.
        several: of several people's; round n answers prompt n and those that follow it.
        people: how many.

    Returns:
        The median over the rounds of several; None if no round's prompts were all answered alone.
    """
    found = []
    for n, seconds in enumerate(several):
        prompts = [(n + k) % TURNS for k in range(people)]
        if max(prompts) < len(one):
            found.append(sum(one[at] for at in prompts) / seconds)
    return statistics.median(found) if found else None


def limit(engine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the bytes that a step reads, and the share of the memory's speed that it reaches."""
    own = next(one for one in rows if one["name"] == "no guesses")
    steps_per_s = own["tokens_per_s"] / 3
    read = engine["bytes_per_step"] * steps_per_s
    return {
        "bytes": engine["bytes_per_step"],
        "steps_per_s": steps_per_s,
        "memory_bytes_per_s": engine["read_bytes_per_s"],
        "share_of_limit": read / engine["read_bytes_per_s"],
    }
