"""The model of the GPU that programs of this process would use, without importing torch."""

import os
import shutil
import subprocess
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")
_ASK = ["--query-gpu=name", "--format=csv,noheader"]
_NO_DEVICE = ("", "-1", "NoDevFiles")


def gpu_name() -> str:
    """The model of the first GPU that CUDA may use; empty without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = "0" if visible is None else visible.partition(",")[0].strip()
    if first in _NO_DEVICE:
        return ""
    names = _names_by_driver() or _names_by_program()
    number = int(first) if first.isdecimal() else 0
    return names[number] if number < len(names) else ""


def _names_by_driver() -> list[str]:
    names = []
    for path in sorted(_DRIVER.glob("*/information")):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return names


def _names_by_program() -> list[str]:
    """The names by `nvidia-smi`, where the driver shows no files, as under Windows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        asked = subprocess.run([program, *_ASK], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in asked.stdout.splitlines()] if asked.returncode == 0 else []
