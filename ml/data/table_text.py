"""The text of tables: read as spreadsheets write them, and written so that they run no formula.

A cell that a spreadsheet would take for a formula gets an apostrophe before it, and loses it when
it is read again.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_SEPARATORS = (",", ";", "\t")
# What begins like a formula, behind any apostrophes; a plain number is none.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_table_text(path: Path) -> tuple[str, str]:
    """Read a table's file.

    Returns:
        Its text without a byte order mark, line ends as they are, and the separator of its header.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
    text = content.decode(encoding)
    header = text.partition("\n")[0]
    return text, max(_SEPARATORS, key=header.count)


def portable_path(name: str) -> str:
    """A relative path as a table of Windows or of any other system has it, with slashes."""
    return name.replace("\\", "/")


def safe_cell(text: str) -> str:
    """A cell as tables have it: no spreadsheet takes it for a formula."""
    is_formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def plain_cell(text: str) -> str:
    """The text of a cell that `safe_cell` wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def plain_rows(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of a table with the texts of their cells."""
    return [
        # Cells beyond the header are a list, cells that are missing are None.
        {name: plain_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        for row in rows
    ]


def csv_line(cells: Iterable[str]) -> str:
    """One line of a CSV, with its end; every cell is safe."""
    text = io.StringIO(newline="")
    # Written with both characters, the writer quotes a cell that has either of them.
    csv.writer(text, lineterminator="\r\n").writerow([safe_cell(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """A CSV with a header; every cell is safe, and one that a row lacks is empty."""
    lines = (csv_line([row.get(name, "") for name in columns]) for row in rows)
    return csv_line(columns) + "".join(lines)
