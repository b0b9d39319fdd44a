"""What tests of several features share."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
