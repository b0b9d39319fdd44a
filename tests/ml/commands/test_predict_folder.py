"""`xray predict` on a folder as a CD or another computer leaves it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ml.commands.main import app
from tests.support.images import dicom, encode, png, synthetic_image

IMAGE = synthetic_image(np.random.default_rng(3), 96, 80)


def test_folder_is_read_by_contents(tmp_path: Path) -> None:
    folder = tmp_path / "cd"
    folder.mkdir()
    deep = IMAGE.astype(np.uint16) * 16
    images = {"a.png": png(IMAGE), "IM0001": dicom(deep, bits=12), "x.bmp": encode(IMAGE, "BMP")}
    others = {"._a.png": b"\0\5\x16\7", "DICOMDIR": bytes(128) + b"DICM", "notes.txt": b"text"}
    for name, content in (images | others).items():
        (folder / name).write_bytes(content)
    table = tmp_path / "new" / "folder" / "answers.csv"
    result = CliRunner().invoke(app, ["predict", str(folder), "--csv", str(table)])
    assert result.exit_code == 0, result.output
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {Path(row["path"]).name for row in rows} == set(images)
    assert all(row["error"] == "" for row in rows)
    assert "skipped 3 files" in result.stderr
    assert all(name in result.stderr for name in others)


def test_warning_of_the_header_stands_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raw.dcm"
    path.write_bytes(dicom(IMAGE, PresentationIntentType="FOR PROCESSING"))
    result = CliRunner().invoke(app, ["predict", str(path)])
    assert result.exit_code == 0
    assert "FOR PROCESSING" in result.stdout
