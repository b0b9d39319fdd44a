"""`xray predict` on a folder as a CD or another computer leaves it."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ml.commands.main import app
from ml.errors import XrayError
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
    assert "skipped 3 files:" in result.stderr
    assert all(name in result.stderr for name in others)


def test_names_of_any_encoding_stand_in_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    names = [b"Lungen\xe4rzte.png", b"\x8b\xb9.dcm", "胸部".encode(), b"line\nend.png"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(png(IMAGE))
    (folder / os.fsdecode(b"\xff.txt")).write_bytes(b"text")
    table = tmp_path / "answers.csv"
    result = CliRunner().invoke(app, ["predict", str(folder), "--csv", str(table)])
    assert result.exit_code == 0, result.output
    with table.open(newline="", encoding="utf-8") as lines:
        found = {row["path"].rpartition("/")[2] for row in csv.DictReader(lines)}
    assert found == {r"Lungen\xe4rzte.png", r"\x8b\xb9.dcm", "胸部", "line\nend.png"}
    assert r"\xff.txt" in result.stderr
    assert r"Lungen\xe4rzte.png" in CliRunner().invoke(app, ["predict", str(folder)]).stdout


def test_table_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(png(IMAGE))
    result = CliRunner().invoke(app, ["predict", str(image), "--csv", str(image / "a.csv")])
    assert isinstance(result.exception, XrayError)
    assert "Cannot write" in str(result.exception)


def test_damaged_images_of_a_folder_get_a_row_and_the_exit_status(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(IMAGE))
    (tmp_path / "b.png").write_bytes(b"nothing")
    result = CliRunner().invoke(app, ["predict", str(tmp_path)])
    assert "1 of 2 images" in str(result.exception)
    assert len(list(csv.DictReader(result.stdout.splitlines()))) == 2


def test_warning_of_the_header_stands_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raw.dcm"
    path.write_bytes(dicom(IMAGE, PresentationIntentType="FOR PROCESSING"))
    result = CliRunner().invoke(app, ["predict", str(path)])
    assert result.exit_code == 0
    assert "FOR PROCESSING" in result.stdout
