"""Libraries load neither torch's compiler nor code from the Hub, and say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import torch
from models.weights.quiet import quiet_libraries
quiet_libraries()
quiet_libraries()
import bitsandbytes
print(*sorted({"torch._inductor", "kernels"} & {*sys.modules}), torch.compile.__module__)
"""


def test_bitsandbytes_is_imported_without_a_compiler_and_without_a_kernel_of_the_hub(
    tmp_path,
) -> None:
    (tmp_path / "kernels.py").write_text("raise SystemExit('a kernel was loaded from the Hub')")
    path = os.pathsep.join([str(Path(__file__).parents[3]), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("torch\n", "", 0)
