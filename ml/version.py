"""Which code made a model."""

import shutil
import subprocess
from importlib.metadata import version as installed_version
from pathlib import Path


def code_version() -> str:
    """The package's version, with the commit where the code lies in a git checkout."""
    installed = installed_version("xray-screening")
    if shutil.which("git") is None:
        return installed
    found = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = f"+{found.stdout.strip()}" if found.returncode == 0 else ""
    return installed + commit
