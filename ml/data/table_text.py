"""The text of a table as spreadsheets write it: any of three separators, UTF-8 or UTF-16."""

import codecs
from pathlib import Path

_SEPARATORS = (",", ";", "\t")
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
