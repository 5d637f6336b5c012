"""The benchmark: every way is measured or says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from models.bench import optimisations
from models.bench.prompts import prompts
from models.bench.report import batch_speedup, ratios, row
from models.bench.run import QUICK, WAYS
from models.bench.subprocess_runner import ROOT, Child
from models.engine.options import EngineOptions


@pytest.mark.trio
def test_a_quick_run_measures_every_way_or_says_why_not() -> None:
    bench = ["-m", "playground", "bench", "--quick", "--json", "--llama-cpp", "/no/such/python"]
    ran = subprocess.run([sys.executable, *bench], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {*QUICK, "B6"}
    assert "/no/such/python" in rows["B5"]["skipped"]
    assert rows["B6"]["skipped"]
    for name in set(QUICK) - {"B5"}:
        assert rows[name]["tokens_per_s"] > 0, name
        assert rows[name]["first_token_s"] > 0, name
        assert rows[name]["memory_bytes"] > 4e8, name
    assert result["machine"]["cores"] >= 1
    assert 0 < result["step"]["share_of_limit"] < 1
    assert result["step"]["bytes"] > 5e7
    assert set(result["step"]["step_ms"]) == {"layers", "head", "sampling", "text"}
    assert result["ratios"]["tokens per second, engine / B0"] > 1


def test_a_child_that_cannot_load_says_why_and_ends() -> None:
    child = Child("llama_cpp", sys.executable, {"gguf": "/no/such/file", "ids": {}})
    with pytest.raises(RuntimeError, match=r"llama_cpp|/no/such/file"):
        child.ready()
    child.close()
    assert child._process.returncode == 0


def test_a_child_that_dies_is_an_error_and_no_wait() -> None:
    child = Child("no_such_way", sys.executable, {})
    with pytest.raises(RuntimeError, match="its process ended with code 1"):
        child.ready()
    child.close()


def test_a_row_is_the_median_of_its_rounds() -> None:
    rounds = [
        {
            "tokens": 30,
            "seconds": seconds,
            "first_token_s": seconds / 10,
            "memory_bytes": memory_bytes,
        }
        for seconds, memory_bytes in ((1.0, 5), (9.0, 7), (3.0, 6))
    ]
    result = row("engine", "this engine", rounds)
    assert (result["tokens_per_s"], result["first_token_s"], result["memory_bytes"]) == (
        10.0,
        0.3,
        7,
    )
    assert (result["seconds"], result["seconds_p95"], result["rounds"]) == (3.0, 9.0, 3)
    assert result["seconds_of_rounds"] == [1.0, 9.0, 3.0]


def test_ratios_are_of_the_baselines_that_ran() -> None:
    speeds = {"engine": 100.0, "one alone": 50.0, "two people": 120.0, "nine rows": 150.0, "B0": 20}
    speeds["no guesses"] = 80.0
    rows = {
        name: {"tokens_per_s": speed, "first_token_s": 0.1, "memory_bytes": 10,
               "seconds_of_rounds": [100 / speed, 300 / speed]}
        for name, speed in speeds.items()
    }  # fmt: skip
    result = ratios(rows)
    assert result["tokens per second, engine / B0"] == 5.0
    assert result["tokens per second, no guesses / B0"] == 4.0
    assert result["tokens per second of each of two / of one"] == 0.6
    assert result["the same texts, tokens per second of each of two / of one"] == pytest.approx(2.4)
    assert not any("B5" in name or "same texts, tokens per second, nine" in name for name in result)
    assert {module for module, _ in WAYS.values()} == {
        "triptych",
        "transformers_peft",
        "llama_cpp",
        "vllm",
    }


class ScriptedChild:
    """Answers in the seconds that it is given, one after the other; a wake-up takes none."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds, self.ways = iter(seconds), set()

    def run(self, way: str, new_tokens: int, turn: int = 0) -> dict[str, float]:
        self.ways.add(way)
        return {"seconds": 0.0 if new_tokens == 2 else next(self.seconds)}


def test_an_optimisation_s_gain_is_the_median_of_its_rounds_after_a_warm_up() -> None:
    engine, other = ScriptedChild([9.0, 1.0, 2.0, 4.0]), ScriptedChild([1.0, 2.0, 3.0, 4.0])
    assert optimisations._compare("nine rows", engine, other, rounds=3, new_tokens=8) == {
        "seconds": 2.0,
        "seconds_without": 3.0,
        "ratio": 1.5,
    }
    assert engine.ways == other.ways == {"nine rows"}


def test_every_optimisation_is_a_switch_that_bench_knows() -> None:
    assert set(optimisations.OTHER_WAYS) <= {option.name for option in fields(EngineOptions)}
    assert set(optimisations.WAYS) <= set(WAYS)


def test_several_people_s_texts_are_held_against_the_same_ones_alone() -> None:
    alone = [1.0, 2.0, 4.0, 8.0]  # of prompts 0, 1, 2, 3
    assert batch_speedup(alone, [3.5, 10.0, 100.0], 3) == pytest.approx((7 / 3.5 + 14 / 10) / 2)
    assert batch_speedup(alone[:1], [3.0], 3) is None
    nine = [1.0] * 9
    assert batch_speedup(nine, [*[2.0] * 8, 1.0], 3) == 1.5  # the last is of prompts 8, 0 and 1
    assert batch_speedup(nine, [0.5] * 9, 3) == 6.0


def test_prompts_differ_from_their_first_word_and_have_their_length() -> None:
    short, long = prompts(8), prompts(1, 1024)[0]
    assert len({(prompt.instruction + prompt.input)[:2] for prompt in short}) == 8
    assert [prompt.form for prompt in short[:3]] == ["instruction", "zero-shot", "few-shot"]
    assert len(long.instruction.split()) > 700
