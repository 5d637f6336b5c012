"""The doctor finds each fault where it is made for real, and finds none where all is well."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from huggingface_hub import constants

from models import Endpoint, Pin, Weights, find_trio, run_doctor
from models.cache.checked_files import RECORD, record_files
from models.cache.derived import DerivedFiles
from models.capabilities import SWITCH, withheld
from models.doctor import machine
from models.doctor.cache import examine_cache
from models.doctor.check import DoctorCheck
from models.doctor.engine import examine_steps
from models.doctor.machine import examine_machine, examine_packages
from models.doctor.network import examine_hub, examine_network, examine_port
from models.model_info import StepCheck
from models.weights.fetch import PREPARED_VERSION


def by_name(checks) -> dict[str, DoctorCheck]:
    return {check.name: check for check in checks}


@pytest.fixture
def port():
    """A port that a socket of this process has taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@contextmanager
def answering(text: str):
    """Serve one text at every address of a local port, which is yielded."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


# ---- the machine


def test_python_system_processor_and_memory_are_told() -> None:
    checks = by_name(examine_machine())
    assert list(checks) == ["Python", "System", "Processor", "Cores", "Memory", "Packages"]
    assert all(check.value for check in checks.values())
    assert all(check.advice for check in checks.values() if check.verdict != "ok")


def test_packages_that_are_missing_or_of_another_version_are_faults() -> None:
    text = (
        f"numpy=={version('numpy')}  # as it is\n\n# a comment\n"
        "numpy<1  # too new\nno-such-package-here>=1  # missing\n"
    )
    old, missing, right = examine_packages(text)
    assert right == DoctorCheck("Packages", f"numpy {version('numpy')}")
    assert (old.verdict, missing.verdict) == ("fault", "fault")
    assert old.value == f"numpy {version('numpy')}, required is <1"
    assert missing.value == "no-such-package-here missing, required is >=1"
    assert missing.advice == "Run: pip install -r requirements.txt."


def test_limits_of_a_container_are_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "usable_cpus", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    (tmp_path / "memory.max").write_text("2000000000\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    checks = by_name(examine_machine())
    assert "container limit 2" in checks["Cores"].value
    assert checks["Cores"].advice.startswith("Set OMP_NUM_THREADS=2")
    assert "container limit 2,000 MB, 1,500 MB available" in checks["Memory"].value
    assert checks["Memory"].verdict == "note"
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert "no container limit" in by_name(examine_machine())["Cores"].value


def test_parts_that_are_withheld_are_told_and_proc_is_not_needed(monkeypatch) -> None:
    monkeypatch.setenv(SWITCH, "proc,onednn")
    withheld.cache_clear()
    try:
        checks = by_name(examine_machine())
    finally:
        monkeypatch.undo()
        withheld.cache_clear()
    assert checks[SWITCH].value == "onednn, proc"
    assert checks["Memory"].value == "not told here"
    assert "not told here" in checks["Processor"].value


# ---- the network


def test_a_port_that_is_taken_is_a_fault(port) -> None:
    check = examine_port(port)
    assert check.verdict == "fault"
    assert check.value.startswith(f"{port}: ")
    assert f"--port {port + 1}" in check.advice


def test_a_free_port_and_one_where_the_page_is_served_are_none(port) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        free = closed.getsockname()[1]
    assert examine_port(free).verdict == "ok"
    with answering("<title>Triptych</title>") as own:
        assert examine_port(own) == DoctorCheck("Port", f"{own}: this page is served there already")
    with answering("another program") as other:
        assert examine_port(other).verdict == "fault"


def test_the_hub_is_asked_for_three_seconds_at_most(port, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")  # takes, never answers
    began = time.monotonic()
    check = examine_hub(needed=True)
    assert time.monotonic() - began < 3.5
    assert check.verdict == "fault"
    assert "does not answer (" in check.value
    assert examine_hub(needed=False).verdict == "note"
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert "ConnectError" in examine_hub(needed=False).value
    with answering("") as hub:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub}")
        assert examine_hub(needed=True).verdict == "ok"


def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    check = examine_hub(needed=True)
    assert (check.value, check.verdict) == ("not asked", "note")
    assert "HF_HUB_OFFLINE" in check.advice


def test_a_token_and_a_key_are_told_without_their_value(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("SERVER_KEY", "sk-secret")
    trio = find_trio()
    served = replace(trio.variants[0], source=Endpoint("http://127.0.0.1:1/v1", "m", "SERVER_KEY"))
    trio = replace(trio, variants=(served, *trio.variants[1:]))
    checks = list(examine_network(trio, 1))
    assert "secret" not in repr(checks)
    assert "there is one" in by_name(checks)["Hub token"].value
    assert by_name(checks)["Key of base"].verdict == "ok"
    monkeypatch.delenv("SERVER_KEY")
    assert by_name(examine_network(trio, 1))["Key of base"].verdict == "fault"


def test_only_a_trio_of_the_hub_needs_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    trio = find_trio()
    verdicts = []
    for source in ("package:x", str(tmp_path), "owner/name"):
        variants = tuple(replace(v, source=Weights(Pin(source))) for v in trio.variants)
        verdicts.append(
            by_name(examine_network(replace(trio, variants=variants), 1))["Hub"].verdict
        )
    assert verdicts == ["note", "note", "fault"]


# ---- the cache


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Path:
    """A cache folder with one prepared base in it."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))
    base = tmp_path / "some_gguf-0123456789ab"
    base.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (base / name).write_text("{}")
    weights = os.urandom(3_000_000)
    (base / "model.safetensors").write_bytes(weights)
    record_files(base, {"form": PREPARED_VERSION})
    return base


def test_a_prepared_base_is_told_with_its_size(prepared) -> None:
    checks = by_name(examine_cache(find_trio()))
    assert checks["Cache folder"].verdict == "ok"
    first = next(check for check in examine_cache(find_trio()) if check.name == "Prepared base")
    assert first == DoctorCheck("Prepared base", "some_gguf-0123456789ab, 3 MB, as it was written")
    assert checks["Prepared base"].value.endswith("not there yet")  # the embedded trio's own


def test_zeros_inside_the_weights_are_found(prepared) -> None:
    with (prepared / "model.safetensors").open("r+b") as file:
        file.seek(2_000_000)
        file.write(bytes(64))
    check = base_check()
    assert check.verdict == "fault"
    assert "model.safetensors does not hold what was written" in check.value
    assert check.advice == "The next start prepares it anew."
    check = base_check(needed=False)
    assert check.verdict == "note"
    assert check.advice == f"The trio does not need it: {prepared} may be deleted."


def base_check(needed=True) -> DoctorCheck:
    trio = find_trio()
    if needed:
        base = Weights(Pin("package:some_gguf", "0123456789ab"))
        variants = tuple(replace(variant, source=base) for variant in trio.variants)
        trio = replace(trio, variants=variants)
    return next(check for check in examine_cache(trio) if check.name == "Prepared base")


def test_what_is_missing_or_unreadable_or_old_is_found(prepared) -> None:
    record_files(prepared, {"form": 1})
    assert "it was prepared by another version" in base_check().value
    record_files(prepared, {"form": PREPARED_VERSION})
    (prepared / "tokenizer.json").unlink()
    assert "tokenizer.json cannot be read: No such file" in base_check().value
    (prepared / RECORD).write_text("[]")
    assert f"{RECORD} cannot be read" in base_check().value


def test_what_is_kept_for_faster_starts_is_read_whole(prepared) -> None:
    derived = DerivedFiles("base", {})
    assert "Kept for faster starts" not in by_name(examine_cache(find_trio()))
    derived.write(lambda folder: {"bytes": (folder / "weights").write_bytes(bytes(10**6))})
    check = by_name(examine_cache(find_trio()))["Kept for faster starts"]
    assert (check.verdict, check.value) == ("ok", "1 MB in 1 folders, as they were written")
    (derived.folder / "weights").write_bytes(b"1" * 10**6)
    check = by_name(examine_cache(find_trio()))["Kept for faster starts"]
    assert check.verdict == "fault"
    assert "weights does not hold what was written" in check.value


def test_a_cache_folder_that_cannot_be_written_is_a_fault(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "file" / "cache"))
    folder, base = examine_cache(find_trio())
    assert folder.verdict == "fault"
    assert "cannot be written: Not a directory" in folder.value
    assert folder.advice.startswith("Set TRIPTYCH_CACHE to a folder")
    assert base.verdict == "note"


def test_a_cache_folder_that_is_not_there_yet_is_none(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "a folder" / "deep"))
    folder, _ = examine_cache(find_trio())
    assert folder.verdict == "ok"
    assert not (tmp_path / "a folder").exists()


# ---- the trio


def examine(trio) -> dict[str, DoctorCheck]:
    return by_name(run_doctor(trio, 0, lambda progress: None))


def test_a_trio_is_opened_and_its_kernels_speed_and_memory_are_told(tiny_file, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    checks = examine(find_trio("tiny", tiny_file))
    assert checks["Trio"].value == "tiny: 3 variants on 1 base"
    parts = ("Device", "Weights", "Linear layers", "Output head", "Embedding", "Attention",
             "CUDA graph", "Speed", "Memory of the trio")  # fmt: skip
    assert all(checks[part].value and checks[part].verdict != "fault" for part in parts)
    assert " steps/s of 3 rows" in checks["Speed"].value
    assert "GB/s" in checks["Speed"].value


def test_why_no_faster_kernel_is_used_is_told(tiny_file, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv(SWITCH, "bnb_kernels,fbgemm")
    withheld.cache_clear()
    try:
        check = examine(find_trio("tiny", tiny_file))["Linear layers"]
    finally:
        monkeypatch.undo()
        withheld.cache_clear()
    assert check.value == "8 × float32 by oneDNN"
    assert check.advice == (
        "Products in 4 bits are taken away by TRIPTYCH_WITHOUT; there is no FBGEMM, so that "
        "weights take twice as much as in float16."
    )


def test_a_trio_that_cannot_be_opened_is_a_fault_with_the_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    trio = find_trio()
    variants = tuple(replace(v, source=Weights(Pin(str(tmp_path)))) for v in trio.variants)
    check = examine(replace(trio, variants=variants))["Trio"]
    assert check.verdict == "fault"
    assert "config.json" in check.advice


def test_an_unforeseen_error_is_a_fault_to_report(tiny_file, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def broken(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr("models.backends.local.load_group", broken)
    check = examine(find_trio("tiny", tiny_file))["Trio"]
    assert check.advice == "Report this line: RuntimeError: no kernel image is available"


def test_a_captured_step_that_differs_is_a_fault() -> None:
    right = StepCheck(3, 256, True, 0.002, 0.05, 18, 18)
    wrong = replace(right, rows=4, fault="its logits are off by 52.6% of the largest")
    eager = replace(right, captured=False)
    verdicts = [check.verdict for check in examine_steps([right, wrong, eager])]
    assert verdicts == ["ok", "fault", "note"]
    (check,) = examine_steps([wrong])
    assert check.value.startswith("4 rows, 256 cached tokens: captured; logits differ by 0.20%")
    assert check.value.endswith("its logits are off by 52.6% of the largest")


def test_a_package_that_is_missing_is_a_fault_and_the_rest_is_examined(monkeypatch) -> None:
    def examine(*args):
        raise ImportError("No module named 'huggingface_hub'")
        yield

    monkeypatch.setattr("models.doctor.run.examine_network", examine)
    trio = find_trio()
    server = Endpoint("http://127.0.0.1:1/v1", "m")
    served = replace(trio, variants=tuple(replace(v, source=server) for v in trio.variants))
    checks = by_name(run_doctor(served, 1, lambda progress: None))
    assert checks["Network"].verdict == "fault"
    assert "huggingface_hub" in checks["Network"].value
    assert {"Python", "Cache folder", "Trio"} <= checks.keys()
