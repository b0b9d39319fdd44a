"""Manifests and tables of labels as spreadsheets of several countries and systems write them."""

from pathlib import Path

import numpy as np
import pytest

from ml.data.importers.records import read_table
from ml.data.manifest import read_manifest
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
