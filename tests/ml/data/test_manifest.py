"""The manifest and the split by patient."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data.leaks import without_leaks
from ml.data.loading import load_images
from ml.data.manifest import ImageRecord, in_split, labels_of, read_manifest
from ml.data.near_duplicates import hash_records
from ml.data.splits import Split, split_of
from ml.errors import DataError
from tests.support.images import png, synthetic_image

Rows = list[dict[str, str]]


@pytest.fixture
def data_set(tmp_path: Path) -> Callable[[Rows], Path]:
    """Writes a manifest with the rows given; images a.png and b.png exist."""
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)

    def write(rows: Rows) -> Path:
        lines = ["image,label,source,patient"]
        lines += [",".join(row.values()) for row in rows]
        (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
        return tmp_path

    return write


def row(
    image: str = "a.png", label: str = "covid", source: str = "s", patient: str = "p"
) -> dict[str, str]:
    return {"image": image, "label": label, "source": source, "patient": patient}


def test_manifest_is_read(data_set: Callable[[Rows], Path]) -> None:
    root = data_set([row(), row("b.png", "normal", "t", "q")])
    assert read_manifest(root) == [
        ImageRecord(root / "a.png", "covid", "s", "p"),
        ImageRecord(root / "b.png", "normal", "t", "q"),
    ]


def test_classes_are_those_of_the_manifest(data_set: Callable[[Rows], Path]) -> None:
    root = data_set([row(label="tuberculosis"), row("b.png", "normal")])
    assert labels_of(read_manifest(root)) == ("normal", "tuberculosis")


def test_site_is_the_source_where_it_is_not_said(data_set: Callable[[Rows], Path]) -> None:
    root = data_set([row(), row("b.png")])
    (root / "manifest.csv").write_text(
        "image,label,source,site,patient\na.png,covid,s,bethesda,p\nb.png,covid,s,,p\n"
    )
    assert [record.site for record in read_manifest(root)] == ["bethesda", "s"]


def test_every_fault_is_named_with_its_row(data_set: Callable[[Rows], Path]) -> None:
    root = data_set(
        [
            row(),
            row(),
            row("missing.png"),
            row("b.png", label="Measles", source="", patient=""),
            row("../manifest.csv"),
        ]
    )
    with pytest.raises(DataError) as refused:
        read_manifest(root)
    message = str(refused.value)
    for part in (
        "6 errors",
        "row 3: a.png is already in row 2",
        "row 4: there is no file 'missing.png'",
        "row 5: label 'Measles' is not the name of a class",
        "row 5: source is empty",
        "row 5: patient is empty",
        "row 6: ../manifest.csv is outside",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("image,label\na.png,covid\n", "source, patient"),
        ("image,label,source,patient\n", "no rows"),
    ],
)
def test_unusable_manifest(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=fault):
        read_manifest(tmp_path)


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.csv"):
        read_manifest(tmp_path)


def test_synthetic_images_may_be_smaller_than_those_of_people(tmp_path: Path) -> None:
    """A generator of 32 px makes images that train; of an upload of that size is said what it
    is."""
    path = tmp_path / "small.png"
    path.write_bytes(png(synthetic_image(np.random.default_rng(0), 32, 32)))
    made = ImageRecord(path, "covid", "s", "p", synthetic="ab" * 32)
    assert load_images([made], 32, title="").images.shape == (1, 32, 32)
    assert len(hash_records([made])) == len(without_leaks([made])) == 1
    real = replace(made, synthetic="")
    for look in (lambda: load_images([real], 32, title=""), lambda: hash_records([made, real])):
        with pytest.raises(DataError, match=r"1 image cannot be read(.|\n)*32 x 32 pixels"):
            look()
    path.write_bytes(png(np.arange(15 * 32, dtype=np.uint8).reshape(15, 32)))
    with pytest.raises(DataError, match="at least 16"):
        load_images([made], 32, title="")


def test_patient_is_on_one_side_only_whatever_is_added() -> None:
    """The split of a patient depends on the patient alone."""
    few = [ImageRecord(Path(f"{n}"), "covid", "s", f"patient-{n % 40}") for n in range(80)]
    more = [ImageRecord(Path(f"x{n}"), "normal", "s", f"patient-{n}") for n in range(5000)]
    before = {record.patient: record.split for record in few}
    sides: dict[str, set[Split]] = {}
    for record in [*more, *few]:
        sides.setdefault(record.patient, set()).add(record.split)
    assert all(len(side) == 1 for side in sides.values())
    assert all(sides[patient] == {side} for patient, side in before.items())


def test_shares_of_the_splits() -> None:
    splits = [split_of(f"patient-{n}") for n in range(20_000)]
    assert splits.count(Split.TEST) / 20_000 == pytest.approx(0.15, abs=0.01)
    assert splits.count(Split.VALIDATION) / 20_000 == pytest.approx(0.10, abs=0.01)


def test_no_patient_of_the_real_data_is_on_two_sides(data_folder: Path) -> None:
    records = read_manifest(data_folder)
    parts = [{record.patient for record in in_split(records, part)} for part in Split]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len({r.patient for r in records})
    assert all(len(part) > 100 for part in parts)
