"""Finds Chromium for the browser tests, and installs it where there is none.

`python -m tests.support.browser` is run before the tests and says which browser they will drive.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALLERS = {
    "apt-get": [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]],
    "dnf": [["dnf", "install", "-y", "-q", "chromium"]],
    "apk": [["apk", "add", "--quiet", "chromium"]],
    "pacman": [["pacman", "-Sy", "--noconfirm", "--quiet", "chromium"]],
}


def find_chromium() -> str | None:
    """The path of a Chromium: one on the PATH, or the one that Playwright installed."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    return _playwright_chromium()


def _playwright_chromium() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install_chromium() -> None:
    """Install Chromium through the system's package manager, or else through Playwright."""
    for commands in _system_installers():
        if all(subprocess.run(command, check=False).returncode == 0 for command in commands):
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def _system_installers() -> Iterator[list[list[str]]]:
    """Commands that may be run here: as root, or through a sudo that asks nothing."""
    if os.geteuid() == 0:
        prefix = []
    elif (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode == 0
    ):
        prefix = ["sudo", "-n"]
    else:
        return
    for manager, commands in INSTALLERS.items():
        if shutil.which(manager):
            yield [[*prefix, *command] for command in commands]


def main() -> None:
    """Make sure there is a browser and name it."""
    if find_chromium() is None:
        print("no Chromium here: installing one for the browser tests", flush=True)
        install_chromium()
    found = find_chromium()
    print(f"browser tests: {found or 'left out, no Chromium could be installed'}", flush=True)


if __name__ == "__main__":
    main()
