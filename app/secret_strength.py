"""Whether a secret is too weak to be used, and the one that is created where none is given."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

SHORTEST_SECRET = 32  # characters
# Long strings of few characters, repetitions and placeholders are no secrets.
_FEWEST_CHARACTERS = 10
_PLACEHOLDERS = ("changeme", "change-me", "change_me", "password", "example", "secret")


def secret_fault(secret: str) -> str | None:
    """Why a secret is too weak; None where nothing is found against it."""
    if len(secret) < SHORTEST_SECRET:
        return f"needs at least {SHORTEST_SECRET} characters"
    if len(set(secret)) < _FEWEST_CHARACTERS:
        return f"needs at least {_FEWEST_CHARACTERS} different characters"
    if any(word in secret.lower() for word in _PLACEHOLDERS):
        return "is a placeholder"
    # A string that is a repetition is found in its double before its end.
    if (secret + secret).find(secret, 1) < len(secret):
        return "repeats itself"
    return None


def stored_secret(path: Path) -> str:
    """Read the secret, or create it; processes that start at once agree on one.

    Raises:
        ValueError: the file is there but holds no secret.
    """
    if not path.exists():
        _private_folder(path.parent)
        created = path.with_name(f".{path.name}.{os.getpid()}")
        created.touch(mode=0o600)
        created.write_text(secrets.token_hex(32), encoding="ascii")
        # The complete file gets the name, unless another process was first.
        with suppress(FileExistsError):
            os.link(created, path)
        created.unlink()
    found = path.read_text(encoding="ascii").strip()
    if len(found) < SHORTEST_SECRET:
        raise ValueError(f"{path} holds no secret key. Delete it, and a new one is created.")
    return found


def _private_folder(path: Path) -> None:
    """Create a folder that no other user of this machine can read."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
