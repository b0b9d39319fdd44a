"""Manifests and tables of labels as spreadsheets of several countries and systems write them."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from ml.data.importers.records import read_table
from ml.data.manifest import read_manifest
from ml.data.table_text import csv_line, csv_text, plain_cell, safe_cell
from tests.support import REPOSITORY
from tests.support.images import png, synthetic_image

ROWS = [("Image", "LABEL", " source", "patient"), ("a\\1.png", "covid", "s", "p1")]
KINDS = [
    (",", "utf-8"),
    (";", "utf-8-sig"),
    ("\t", "utf-16"),
]


@pytest.mark.parametrize(("separator", "encoding"), KINDS)
def test_manifest_of_a_spreadsheet_is_read(tmp_path: Path, separator: str, encoding: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(synthetic_image(np.random.default_rng(0), 90, 80)))
    text = "\r\n".join(separator.join(row) for row in ROWS)
    (tmp_path / "manifest.csv").write_bytes(text.encode(encoding))
    (record,) = read_manifest(tmp_path)
    assert record.path == tmp_path / "a" / "1.png"
    assert (record.label, record.source, record.patient) == ("covid", "s", "p1")


@pytest.mark.parametrize(("separator", "encoding"), KINDS)
def test_table_of_labels_is_read(tmp_path: Path, separator: str, encoding: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(f"File{separator}Label\r\nü.dcm{separator}normal\r\n".encode(encoding))
    assert read_table(path, ("label",)) == [{"file": "ü.dcm", "label": "normal"}]


@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://evil.example","x")',
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "'=1",
        "''=1",
    ],
)
def test_formula_is_harmless_in_a_table_and_whole_when_read(text: str) -> None:
    line = csv_line([text])
    (cell,) = next(csv.reader(io.StringIO(line, newline="")))
    assert cell == f"'{text}"
    assert plain_cell(cell) == text


@pytest.mark.parametrize(
    "text", ["", "covid", "-1.5", "+3", "1e-9", "-2E+10", "'s-Hertogenbosch", "a=b"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert safe_cell(text) == plain_cell(text) == text


def test_manifest_with_formulas_is_safe_and_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    row = {"image": "a.png", "label": "covid", "source": "=1+1", "patient": "-p", "finding": "@x"}
    (tmp_path / "manifest.csv").write_text(csv_text(list(row), [row]))
    assert "'=1+1,'-p,'@x" in (tmp_path / "manifest.csv").read_text()
    (record,) = read_manifest(tmp_path)
    assert (record.source, record.patient, record.finding) == ("=1+1", "-p", "@x")
    # A manifest that was written by hand without apostrophes is read the same way.
    (tmp_path / "manifest.csv").write_text((tmp_path / "manifest.csv").read_text().replace("'", ""))
    assert read_manifest(tmp_path) == [record]


def test_no_other_code_writes_csv() -> None:
    for package in ("app", "ml"):
        for path in (REPOSITORY / package).rglob("*.py"):
            if path.name != "table_text.py":
                assert not re.search(r"csv\.(Dict)?[Ww]riter", path.read_text()), path
