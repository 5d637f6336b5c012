"""Baseline: vLLM's server on the bf16 base with both adapters, three requests at once."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.bench.subprocess_runner import Way, resident_bytes, serve

START_S = 300.0


def _prepare(setup: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Way]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", setup["base"], "--served-model-name", "base", "--dtype", "bfloat16"]
    command += ["--max-model-len", "2048", "--enable-lora", "--max-loras", "2"]
    command += ["--lora-modules", *(f"{role}={path}" for role, path in setup["adapters"].items())]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    if not setup["cuda"]:
        command.append("--enforce-eager")
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the server
    server = subprocess.Popen(
        command,
        stdout=log,
        stderr=log,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )
    atexit.register(os.killpg, server.pid, signal.SIGKILL)  # ends its worker processes, too
    end = time.monotonic() + START_S
    while not _up(f"http://127.0.0.1:{port}/health"):
        if server.poll() is not None or time.monotonic() > end:
            log.seek(0)
            errors = [line for line in log.read().splitlines() if "rror" in line]
            raise RuntimeError(errors[-1].strip() if errors else "its server did not start")
        time.sleep(1.0)

    def at_once(new_tokens: int, turn: int = 0) -> dict[str, Any]:
        began, ids_of = time.monotonic(), setup["ids"][turn]
        with ThreadPoolExecutor(3) as pool:
            replies = [
                pool.submit(_complete, port, model, ids, new_tokens)
                for model, ids in ids_of.items()
            ]
            firsts = [reply.result() - began for reply in replies]
        seconds = time.monotonic() - began
        total = new_tokens * len(ids_of)
        server_bytes = sum(map(resident_bytes, _family(server.pid)))
        first = firsts[list(ids_of).index("base")]
        return {
            "tokens": total,
            "seconds": seconds,
            "first_token_s": first,
            "server_bytes": server_bytes,
        }

    at_once(2)
    return {"version": _version()}, {"B6": at_once}


def _version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except ImportError:
            continue
    return "unknown"


def _up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _complete(port: int, model: str, ids: list[int], new_tokens: int) -> float:
    """Request one answer, and return the time at which its first token came."""
    body = {
        "model": model,
        "prompt": ids,
        "max_tokens": new_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    first = 0.0
    with urllib.request.urlopen(request, timeout=600) as lines:
        for line in lines:
            if line.startswith(b"data: ") and not first:
                first = time.monotonic()
    return first


def _family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    pids = [pid]
    for parent in pids:
        children = Path(f"/proc/{parent}/task/{parent}/children")
        if children.exists():
            pids += [int(child) for child in children.read_text().split()]
    return pids


if __name__ == "__main__":
    serve(_prepare)
