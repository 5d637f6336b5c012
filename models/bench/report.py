"""Summarises a benchmark's rounds: medians, ratios, share of memory bandwidth. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from models.bench.prompts import TURNS


def row(name: str, what: str, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the medians of one way's rounds, and the largest memory of its process.

    Args:
        name: name of the way.
        what: description of the way.
        rounds: the result of each round: {"tokens", "seconds", "memory_bytes"}, for most ways
            {"first_token_s"}, and {"server_bytes"} if a separate server holds the weights.
    """
    seconds = sorted(measured["seconds"] for measured in rounds)
    result = {
        "name": name,
        "what": what,
        "tokens_per_s": rounds[0]["tokens"] / statistics.median(seconds),
        "seconds": statistics.median(seconds),
        "seconds_p95": seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))],
        "rounds": len(rounds),
        "seconds_of_rounds": [measured["seconds"] for measured in rounds],
        "memory_bytes": max(
            measured.get("server_bytes", measured["memory_bytes"]) for measured in rounds
        ),
    }
    firsts = [measured["first_token_s"] for measured in rounds if "first_token_s" in measured]
    return {**result, "first_token_s": statistics.median(firsts)} if firsts else result


def ratios(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return ratios between the engine's own ways, and between the engine and the baselines.

    Args:
        rows: results of `row`, by name; of the baselines, B0 must be included.
    """
    speed = {name: row["tokens_per_s"] for name, row in rows.items()}
    result = {
        f"tokens per second, {ours} / {name}": speed[ours] / speed[name]
        for ours, theirs in (
            ("engine", ("no guesses", "B0", "B2", "B5", "B6")),
            ("no guesses", ("B0", "B2", "B5", "B6")),
        )
        for name in theirs
        if name in speed
    }
    first = {name: rows[name]["first_token_s"] for name in ("engine", "one alone")}
    result["tokens per second, nine rows / engine"] = speed["nine rows"] / speed["engine"]
    if "nine, no guesses" in speed:
        nine = speed["nine, no guesses"] / speed["no guesses"]
        result["tokens per second, nine rows / three, no guesses in either"] = nine
    result["tokens per second of each of two / of one"] = speed["two people"] / 2 / speed["engine"]
    seconds = {
        name: rows[name]["seconds_of_rounds"] for name in ("engine", "two people", "nine rows")
    }
    if nine_s := batch_speedup(seconds["engine"], seconds["nine rows"], 3):
        result["the same texts, tokens per second, nine rows / engine"] = nine_s
    if two_s := batch_speedup(seconds["engine"], seconds["two people"], 2):
        result["the same texts, tokens per second of each of two / of one"] = two_s / 2
    result["first token, engine / one alone"] = first["engine"] / first["one alone"]
    result["memory, engine / B0"] = rows["engine"]["memory_bytes"] / rows["B0"]["memory_bytes"]
    return result


def batch_speedup(alone: Sequence[float], several: Sequence[float], people: int) -> float | None:
    """Return the speedup of answering several people's prompts at once over one after the other.

    The same texts are compared, since speed differs from prompt to prompt: the more a text repeats
    itself, the faster it is generated.

    Args:
        alone: seconds of one person's rounds; round n answers prompt n.
        several: seconds of several people's rounds; round n answers prompt n and the next ones.
        people: number of people.

    Returns:
        The median over the rounds of `several`; None if no round's prompts are all in `alone`.
    """
    speedups = []
    for n, seconds in enumerate(several):
        prompts = [(n + k) % TURNS for k in range(people)]
        if max(prompts) < len(alone):
            speedups.append(sum(alone[n] for n in prompts) / seconds)
    return statistics.median(speedups) if speedups else None


def bandwidth_use(engine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the bytes that a step reads, and the share of the read bandwidth that it uses."""
    way = next(way for way in rows if way["name"] == "no guesses")
    steps_per_s = way["tokens_per_s"] / 3
    read = engine["bytes_per_step"] * steps_per_s
    return {
        "bytes": engine["bytes_per_step"],
        "steps_per_s": steps_per_s,
        "memory_bytes_per_s": engine["read_bytes_per_s"],
        "share_of_limit": read / engine["read_bytes_per_s"],
    }
