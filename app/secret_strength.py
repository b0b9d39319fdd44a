"""Whether a secret is too weak to be used."""

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
