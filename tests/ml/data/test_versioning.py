"""A frozen data set: its hash names the content, its summary says what is in it."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ml.commands.data import data_app
from ml.data.manifest import DEMONSTRATION, DEMONSTRATION_FOLDER, read_manifest
from ml.data.splits import Split, split_of
from ml.data.versioning import CONTACT_SHEET, SUMMARY, freeze, read_version, verify_version
from ml.errors import DataError
from ml.gan.synthesis.folder import PRIVACY_CHECKS, PRIVACY_CHECKS_OF_0_1
from tests.ml.data.test_near_duplicates import textured_image
from tests.support import REPOSITORY
from tests.support.images import jpeg, png

COLUMNS = ("image", "label", "source", "patient", "view", "lung_mask", "synthetic")
DEMONSTRATION_SET = REPOSITORY / "ml/demonstration"
GENERATOR = "ab" * 32
LABELS = ("covid", "pneumonia", "normal")
PATIENTS = {
    part: next(f"p{number}" for number in range(99) if split_of(f"p{number}") is part)
    for part in Split
}

Rows = list[dict[str, str]]


def write_manifest(folder: Path, rows: Rows) -> None:
    with (folder / "manifest.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def image_row(folder: Path, seed: int, **cells: str) -> dict[str, str]:
    """A different image for each seed, and its row."""
    image = f"images/{seed}.png"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / image).write_bytes(png(textured_image(seed)))
    usual = {"image": image, "label": LABELS[seed % 3], "source": "s", "patient": f"p{seed}"}
    return usual | cells


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Nine images of three classes, one with a lung mask."""
    folder = tmp_path / "set"
    rows = [image_row(folder, seed) for seed in range(9)]
    (folder / "mask.png").write_bytes(png(np.zeros((256, 224), np.uint8)))
    rows[0]["lung_mask"] = "mask.png"
    write_manifest(folder, rows)
    return folder


def rows_of(folder: Path) -> Rows:
    with (folder / "manifest.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_summary_says_what_is_in_the_set(data_set: Path) -> None:
    summary = freeze(data_set)
    records = read_manifest(data_set)
    assert summary == read_version(data_set)
    assert summary.as_json() == json.loads((data_set / SUMMARY).read_text())
    assert (summary.images, summary.patients) == (9, 9)
    assert summary.by_label == dict.fromkeys(LABELS, 3)
    assert summary.by_source == {"s": dict.fromkeys(LABELS, 3)}
    assert sum(sum(counts.values()) for counts in summary.by_split.values()) == 9
    assert set(summary.by_split) == {image.split.value for image in records}
    assert (summary.duplicates, summary.leaks, summary.conflicts) == (0, 0, 0)
    assert (summary.synthetic, summary.demonstration) == (0, 0)


def test_duplicates_leaks_and_conflicts_are_counted_and_named(tmp_path: Path) -> None:
    rows = [
        image_row(tmp_path, 0, patient=PATIENTS[Split.TRAIN]),
        image_row(tmp_path, 1, patient=PATIENTS[Split.TEST], label="covid"),
        image_row(tmp_path, 2, patient=PATIENTS[Split.TRAIN]),
    ]
    # The same image, stored again.
    (tmp_path / "images" / "1.png").write_bytes(jpeg(textured_image(0), quality=90))
    write_manifest(tmp_path, rows)
    summary = freeze(tmp_path)
    assert (summary.duplicates, summary.leaks, summary.conflicts) == (2, 1, 0)
    assert summary.examples.leaks == [["images/0.png", "images/1.png"]]
    rows[1]["label"] = "normal"
    write_manifest(tmp_path, rows)
    summary = freeze(tmp_path)
    assert summary.conflicts == 1
    assert summary.examples.conflicts == [["images/0.png", "images/1.png"]]


def test_hash_is_that_of_the_content_alone(data_set: Path) -> None:
    """Neither the order of rows and columns, nor dates, nor what stands beside it counts."""
    first = freeze(data_set)
    sheet = (data_set / CONTACT_SHEET).read_bytes()
    rows = rows_of(data_set)
    os.utime(data_set / rows[0]["image"], (0, 0))
    (data_set / "left-out-folders.csv").write_text("path,reason,detail\n")
    with (data_set / "manifest.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, [*reversed(COLUMNS), "age"], restval="")
        writer.writeheader()
        writer.writerows(reversed(rows))
    again = freeze(data_set)
    assert again == first
    assert (data_set / CONTACT_SHEET).read_bytes() == sheet


def change_image(folder: Path) -> None:
    (folder / "images" / "0.png").write_bytes(png(textured_image(99)))


def change_label(folder: Path) -> None:
    rows = rows_of(folder)
    rows[0]["label"] = "normal"
    write_manifest(folder, rows)


def change_mask(folder: Path) -> None:
    (folder / "mask.png").write_bytes(png(np.full((256, 224), 255, np.uint8)))


def drop_row(folder: Path) -> None:
    write_manifest(folder, rows_of(folder)[1:])


def check(folder: Path) -> None:
    (folder / PRIVACY_CHECKS).write_text("seed,file\n1,images/0.png\n")


@pytest.mark.parametrize("change", [change_image, change_label, change_mask, drop_row, check])
def test_changed_content_is_noticed(data_set: Path, change: Callable[[Path], None]) -> None:
    frozen = freeze(data_set)
    assert verify_version(data_set) == frozen
    change(data_set)
    with pytest.raises(DataError, match="changed after it was frozen"):
        verify_version(data_set)
    assert freeze(data_set).sha256 != frozen.sha256
    verify_version(data_set)


def test_set_frozen_by_version_0_1_0_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0.png").write_bytes(b"the bytes of an image")
    row = "images/0.png,covid,clinic,p0"
    (tmp_path / "manifest.csv").write_text(f"image,label,source,patient\n{row}\n")
    checks = "seed,file,training_films,held_out_films,films_sha256\n0,images/0.png,10,5,abc\n"
    (tmp_path / "certificates.csv").write_text(checks)
    # Computed by version 0.1.0; the summary is read for its hash alone.
    found = "fda765e53b284fa498a118f27ef02fd0445457c0927117f33ce1586b2b484830"
    summary = read_version(DEMONSTRATION_SET).model_copy(update={"sha256": found})
    (tmp_path / SUMMARY).write_text(summary.to_json())
    assert verify_version(tmp_path).sha256 == found


def test_summary_of_version_0_1_0_is_read(data_set: Path) -> None:
    summary = freeze(data_set)
    old = summary.to_json().replace('"images": 9', '"films": 9')
    assert '"films": 9' in old
    (data_set / SUMMARY).write_text(old)
    assert read_version(data_set) == summary


def test_what_is_not_frozen_is_said(data_set: Path) -> None:
    with pytest.raises(DataError, match="xray data freeze"):
        read_version(data_set)
    for text in ("{", "[]", '{"sha256": "0"}'):
        (data_set / SUMMARY).write_text(text)
        with pytest.raises(DataError, match="Freeze the folder again"):
            read_version(data_set)


def test_images_that_cannot_be_read_are_named_and_nothing_is_frozen(data_set: Path) -> None:
    (data_set / "images" / "3.png").write_bytes(b"no image")
    (data_set / "images" / "4.png").write_bytes(b"")
    with pytest.raises(DataError) as refused:
        freeze(data_set)
    for part in ("2 images cannot be read", "3.png: Expected PNG", "4.png: The file is empty"):
        assert part in str(refused.value)
    assert not (data_set / SUMMARY).exists()


def test_contact_sheet_shows_some_images_of_each_class(data_set: Path) -> None:
    freeze(data_set)
    with Image.open(data_set / CONTACT_SHEET) as sheet:
        assert sheet.format == "JPEG"
        picture = np.asarray(sheet.convert("L"))
    # A row of images for each class, and beside the three of a class only paper.
    assert picture.shape == (3 * 128 + 4, 8 * 100 + 4)
    assert np.ptp(picture[40:120, 10:290].astype(int)) > 150
    assert np.ptp(picture[40:120, 320:].astype(int)) < 20


def test_shipped_demonstration_set_has_the_hash_it_was_frozen_with() -> None:
    assert verify_version(DEMONSTRATION_FOLDER) == read_version(DEMONSTRATION_FOLDER)


def test_hash_of_privacy_checks_is_that_of_version_0_1_0(tmp_path: Path) -> None:
    write_manifest(tmp_path, [image_row(tmp_path, 0, synthetic=GENERATOR)])
    check = {"seed": "0", "file": "images/0.png", "training_films": "7", "films_sha256": "ef"}
    text = ",".join(check) + "\n" + ",".join(check.values()) + "\n"
    (tmp_path / PRIVACY_CHECKS_OF_0_1).write_text(text)
    # As the program of 0.1.0 froze just these files.
    sha256 = "3059b3d8d8b41b55afe31f6f5ba8345c58549035063aa9003cfa9f14ffe05a47"
    assert freeze(tmp_path).sha256 == sha256
    renamed = text.replace("training_films", "training_images").replace("films_", "images_")
    (tmp_path / PRIVACY_CHECKS).write_text(renamed)
    assert verify_version(tmp_path).sha256 == sha256


def test_demonstration_and_synthetic_images_are_told(tmp_path: Path) -> None:
    rows = [image_row(tmp_path, seed, source=DEMONSTRATION) for seed in range(3)]
    rows.append(image_row(tmp_path, 3, synthetic=GENERATOR))
    write_manifest(tmp_path, rows)
    summary = freeze(tmp_path)
    assert (summary.synthetic, summary.demonstration) == (1, 3)
    assert any("nothing about patients" in warning for warning in summary.warnings)


def test_the_command_freezes_and_checks(data_set: Path) -> None:
    run = CliRunner()
    frozen = run.invoke(data_app, ["freeze", str(data_set)])
    assert frozen.exit_code == 0
    sha256 = read_version(data_set).sha256
    assert sha256 in frozen.output
    assert "9 images (3 covid, 3 pneumonia, 3 normal) of 9 patients" in frozen.output
    assert sha256 in run.invoke(data_app, ["freeze", "--check", str(data_set)]).output
    change_label(data_set)
    refused = run.invoke(data_app, ["freeze", "--check", str(data_set)])
    assert isinstance(refused.exception, DataError)


def test_freezing_needs_no_torch() -> None:
    """The web process freezes and reads freezes."""
    program = (
        "import sys, ml.data.versioning; "
        "print([name for name in ('torch', 'sklearn', 'onnx', 'pydicom') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_real_data_set_is_frozen_in_seconds(data_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(data_folder, copy, copy_function=shutil.copyfile)
    # By CPU: the machine may be busy with something else.
    started = time.process_time()
    summary = freeze(copy)
    assert time.process_time() - started < 60
    assert summary.images == len(read_manifest(data_folder))
