"""Lines of CSV files that people open in spreadsheets."""

import csv
import io
from collections.abc import Iterable

# What makes a spreadsheet take a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_line(values: Iterable[str]) -> str:
    """One line; a text that begins like a formula gets an apostrophe before it."""
    text = io.StringIO(newline="")
    harmless = [f"'{value}" if value.startswith(_FORMULA) else value for value in values]
    csv.writer(text, lineterminator="\n").writerow(harmless)
    return text.getvalue()
