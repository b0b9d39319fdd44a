"""Importing public sets: tiny trees of each layout, and the one way into a data set."""

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ml.commands.data import data_app
from ml.data.importers import import_images as importing
from ml.data.importers.convert import Decoded, Stage
from ml.data.importers.deduplicate import Known, Resolution, resolve_duplicates
from ml.data.importers.import_images import STAGING, Report, import_images
from ml.data.importers.layouts import LAYOUTS
from ml.data.importers.records import SourceOptions, class_of, clean_age, clean_sex, label_of
from ml.data.manifest import COLUMNS, ImageRecord, read_manifest
from ml.data.near_duplicates import Hashes, hash_images
from ml.data.splits import Split, split_of
from ml.data.summary import age_band, find_duplicates, warnings_of
from ml.errors import DataError
from ml.imaging.decode import read_image
from ml.imaging.types import Radiograph
from tests.ml.data.test_near_duplicates import cropped, textured_image
from tests.support import REPOSITORY
from tests.support.images import dicom, jpeg, png


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def image(path: Path, seed: int) -> Path:
    """A different image for each seed, in the format of the path's ending."""
    encode = png if path.suffix == ".png" else jpeg
    return put(path, encode(textured_image(seed)))


def by_name(root: Path) -> dict[str, ImageRecord]:
    """The images of a data set by patient key."""
    return {record.patient: record for record in read_manifest(root)}


def rows(root: Path, name: str = "manifest.csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((root / name).read_text())))


def reasons(report: Report) -> dict[str, str]:
    return {one.path.name: one.reason for one in report.left_out}


def covid_tree(src: Path) -> Path:
    put(
        src / "metadata.csv",
        "Patientid,offset,sex,age,finding,RT_PCR_positive,view,modality,folder,filename, license\n"
        "2,0,M,65,Pneumonia/Viral/COVID-19,Y,PA,X-ray,images,a.png,CC BY 4.0\n"
        "3,0,F,,Pneumonia/Bacterial/Klebsiella,,AP Supine,X-ray,images,b.jpg,\n"
        "4,,,30,No Finding,,AP,X-ray,images,c.png,\n"
        "4,,,30,No Finding,,L,X-ray,images,d.png,\n"
        "5,,,30,Pneumonia/Viral/COVID-19,Y,Axial,CT,volumes,e.nii.gz,\n"
        "6,,,30,Tuberculosis,,PA,X-ray,images,f.png,\n"
        "7,,,30,Pneumonia,,PA,X-ray,images,gone.png,\n",
    )
    for seed, name in enumerate(("a.png", "b.jpg", "c.png", "d.png", "f.png")):
        image(src / "images" / name, seed)
    return src


def test_covid_chestxray_dataset(tmp_path: Path) -> None:
    to = tmp_path / "set"
    report = import_images("covid-chestxray-dataset", covid_tree(tmp_path / "src"), to)
    found = by_name(to)
    assert {patient: one.label for patient, one in found.items()} == {
        "cohen-2": "covid",
        "cohen-3": "pneumonia",
        "cohen-4": "normal",
    }
    one = found["cohen-2"]
    assert (one.view, one.sex, one.age, one.license) == ("PA", "M", "65", "CC BY 4.0")
    assert one.finding == "Pneumonia/Viral/COVID-19"
    assert one.source == "cohen"
    assert reasons(report) == {
        "d.png": "not a frontal view",
        "e.nii.gz": "not an X-ray",
        "f.png": "finding outside the classes",
        "gone.png": "file missing",
    }
    assert {row["reason"] for row in rows(to, "left-out-covid-chestxray-dataset.csv")} == set(
        reasons(report).values()
    )


def test_row_and_file_of_a_image(tmp_path: Path) -> None:
    """The columns of a data set, the name by content, the size, the staging folder gone."""
    to = tmp_path / "set"
    source = put(tmp_path / "src" / "Covid-19" / "x.png", png(textured_image(0)))
    import_images("folders", tmp_path / "src", to, SourceOptions("north"), short_side=128)
    (row,) = rows(to)
    assert tuple(row) == COLUMNS
    assert row["image"].startswith("images/north/north-")
    assert (row["width"], row["height"]) == ("128", "146")
    assert (row["original_width"], row["original_height"]) == ("224", "256")
    stored = read_image((to / row["image"]).read_bytes())
    assert (stored.format, stored.bits, stored.width, stored.height) == ("JPEG", 8, 128, 146)
    whole = read_image(source.read_bytes()).pixels
    small = np.asarray(Image.fromarray(whole).resize((128, 146), Image.Resampling.LANCZOS))
    assert np.abs(small.astype(int) - stored.pixels).mean() < 2
    assert sorted(path.name for path in to.iterdir()) == [
        "images",
        "left-out-folders.csv",
        "manifest.csv",
    ]


def test_size_is_kept_and_never_enlarged(tmp_path: Path) -> None:
    src = image(tmp_path / "src" / "normal" / "x.png", 0).parent.parent
    for number, side in enumerate((0, 1000)):
        import_images("folders", src, tmp_path / str(number), short_side=side)
        assert rows(tmp_path / str(number))[0]["width"] == "224"


def test_deep_image_becomes_8_bits_over_its_own_range(tmp_path: Path) -> None:
    deep = textured_image(0).astype(np.uint16) * 16  # 12 of 16 bits
    put(tmp_path / "src" / "normal" / "x.png", png(deep))
    import_images("folders", tmp_path / "src", tmp_path / "set")
    pixels = read_image(read_manifest(tmp_path / "set")[0].path.read_bytes()).pixels
    assert pixels.min() < 10
    assert pixels.max() > 245


def test_radiography(tmp_path: Path) -> None:
    src = tmp_path / "src"
    image(src / "COVID" / "images" / "COVID-1.png", 0)
    image(src / "Normal" / "Normal-1.png", 1)
    image(src / "Viral Pneumonia" / "images" / "Viral Pneumonia-1.png", 2)
    image(src / "Lung_Opacity" / "images" / "Lung_Opacity-1.png", 3)
    mask = np.zeros((256, 256, 3), np.uint8)
    mask[64:192, 32:96] = 255
    put(src / "COVID" / "masks" / "COVID-1.png", png(Image.fromarray(mask)))
    put(src / "Viral Pneumonia" / "masks" / "Viral Pneumonia-1.png", b"torn")
    report = import_images("radiography", src, tmp_path / "set")
    found = {row["patient"]: row for row in rows(tmp_path / "set")}
    assert {key: row["label"] for key, row in found.items()} == {
        "radiography-COVID-1": "covid",
        "radiography-Normal-1": "normal",
        "radiography-Viral Pneumonia-1": "pneumonia",
    }
    with Image.open(tmp_path / "set" / found["radiography-COVID-1"]["lung_mask"]) as lungs:
        assert (lungs.mode, lungs.size) == ("1", (224, 256))
        assert np.asarray(lungs).mean() == pytest.approx(0.125, abs=0.01)
    assert found["radiography-Viral Pneumonia-1"]["lung_mask"] == ""
    assert "unreadable lung mask" in reasons(report)["Viral Pneumonia-1.png"]
    assert reasons(report)["Lung_Opacity-1.png"] == "finding outside the classes"


def test_kermany(tmp_path: Path) -> None:
    home = tmp_path / "src" / "chest_xray"
    image(home / "train" / "PNEUMONIA" / "person12_bacteria_45.jpeg", 0)
    image(home / "test" / "PNEUMONIA" / "person12_virus_46.jpeg", 1)
    image(home / "train" / "NORMAL" / "IM-0115-0001.jpeg", 2)
    image(home / "val" / "NORMAL" / "NORMAL2-IM-0115-0001-0002.jpeg", 3)
    image(home / "val" / "NORMAL" / "nameless.jpeg", 4)
    put(home / "val" / "NORMAL" / "._IM-0116-0001.jpeg", "what macOS leaves in archives")
    report = import_images("kermany", tmp_path / "src", tmp_path / "set")
    found = [(row["patient"], row["label"], row["finding"]) for row in rows(tmp_path / "set")]
    assert sorted(found) == [
        ("kermany-normal-im-0115", "normal", "normal"),
        ("kermany-normal-normal2-im-0115", "normal", "normal"),
        ("kermany-pneumonia-12", "pneumonia", "bacteria"),
        ("kermany-pneumonia-12", "pneumonia", "virus"),
    ]
    assert reasons(report) == {
        "nameless.jpeg": "no patient",
        "._IM-0116-0001.jpeg": "file of the operating system",
    }


def test_nih(tmp_path: Path) -> None:
    src = tmp_path / "src"
    # The release of 2020 ends its rows with a comma and says Gender; ages may be nonsense.
    put(
        src / "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
        "00000001_000.png,No Finding,0,1,058Y,F,PA,2682,2749,0.14,0.14,\n"
        "00000002_000.png,Infiltration|Pneumonia,0,2,411,M,AP,2682,2749,0.14,0.14,\n"
        "00000003_000.png,Hernia,0,3,40,M,AP,2682,2749,0.14,0.14,\n"
        "00000004_000.png,No Finding,0,4,40,M,AP,2682,2749,0.14,0.14,\n",
    )
    image(src / "images_001" / "images" / "00000001_000.png", 0)
    image(src / "images_002" / "images" / "00000002_000.png", 1)
    report = import_images("nih", src, tmp_path / "set")
    found = by_name(tmp_path / "set")
    healthy, ill = found["nih-00000001"], found["nih-00000002"]
    assert (healthy.label, healthy.age, healthy.sex, healthy.view) == ("normal", "58", "F", "PA")
    assert (ill.label, ill.age, ill.finding) == ("pneumonia", "", "Infiltration|Pneumonia")
    assert reasons(report) == {
        "00000003_000.png": "finding outside the classes",
        "00000004_000.png": "file missing",
    }


def test_folders(tmp_path: Path) -> None:
    src = tmp_path / "North Clinic"
    image(src / "train" / "COVID-19" / "p1_a.png", 0)
    image(src / "train" / "COVID-19" / "p1_b.png", 1)
    image(src / "test" / "Normal" / "p2_a.jpg", 2)
    image(src / "test" / "Normal" / "other.jpg", 3)
    image(src / "fractures" / "p3_a.png", 4)
    report = import_images("folders", src, tmp_path / "stems")
    assert set(by_name(tmp_path / "stems")) == {
        f"north-clinic-{stem}" for stem in ("p1_a", "p1_b", "p2_a", "other")
    }
    assert reasons(report) == {"p3_a.png": "no label"}

    options = SourceOptions("north", patient_pattern=r"(p\d+)_")
    report = import_images("folders", src, tmp_path / "pattern", options)
    patients = [record.patient for record in read_manifest(tmp_path / "pattern")]
    assert sorted(patients) == ["north-p1", "north-p1", "north-p2"]
    assert reasons(report)["other.jpg"] == "no patient"


def test_folders_name_the_classes_whatever_they_are(tmp_path: Path) -> None:
    beside, alone = tmp_path / "beside", tmp_path / "alone"
    image(beside / "set" / "normal" / "a.png", 0)
    image(beside / "set" / "Lung Opacity" / "deep" / "b.png", 1)
    image(beside / "notes" / "c.png", 2)
    report = import_images("folders", beside, tmp_path / "one")
    assert report.added == {"normal": 1, "lung-opacity": 1}
    assert reasons(report) == {"c.png": "no label"}

    image(alone / "train" / "tuberculosis" / "p1" / "a.png", 3)
    image(alone / "test" / "tuberculosis" / "b.png", 4)
    image(alone / "silicosis" / "c.png", 5)
    image(alone / "d.png", 6)
    report = import_images("folders", alone, tmp_path / "two")
    assert report.added == {"tuberculosis": 2, "silicosis": 1}
    assert reasons(report) == {"d.png": "no label"}

    image(alone / "what is this?" / "e.png", 7)
    with pytest.raises(DataError, match=r"'what-is-this\?' is not the name of a class"):
        import_images("folders", alone, tmp_path / "two")
    assert len(read_manifest(tmp_path / "two")) == 3


def test_too_many_classes_are_refused_before_anything_changes(tmp_path: Path) -> None:
    for number in range(21):
        image(tmp_path / "src" / f"class-{number}" / "a.png", number)
    with pytest.raises(DataError, match="21 classes are too many"):
        import_images("folders", tmp_path / "src", tmp_path / "set")
    assert not (tmp_path / "set" / "manifest.csv").exists()


def test_sites_are_filled_where_the_source_knows_them(tmp_path: Path) -> None:
    import_images("covid-chestxray-dataset", covid_tree(tmp_path / "a"), tmp_path / "one")
    assert {record.site for record in read_manifest(tmp_path / "one")} == {"collections"}
    import_images("folders", classes(tmp_path / "b", covid_1=textured_image(1)), tmp_path / "two")
    (record,) = read_manifest(tmp_path / "two")
    assert (record.source, record.site) == ("b", "b")
    assert rows(tmp_path / "two")[0]["site"] == ""


def test_dicom(tmp_path: Path) -> None:
    src, to = tmp_path / "src", tmp_path / "set"
    about: dict[str, dict[str, Any]] = {
        "a.dcm": {"PatientID": "19450508-1234", "ViewPosition": "PA", "PatientAge": "045Y"},
        "deep/b": {"PatientID": "19450508-1234", "PatientSex": "F"},
        "c.dcm": {"PatientID": "777"},
        "side.dcm": {"PatientID": "777", "ViewPosition": "LL"},
        "unlabelled.dcm": {"PatientID": "777"},
        "nobody.dcm": {},
    }
    for seed, (name, elements) in enumerate(about.items()):
        put(src / name, dicom(textured_image(seed), **elements))
    put(src / "torn.dcm", b"no DICOM")
    labels = put(
        src / "labels.csv",
        "file,label,patient\na.dcm,COVID-19,\ndeep/b,normal,\nc.dcm,pneumonia,seven\n"
        "side.dcm,normal,\nnobody.dcm,normal,\ngone.dcm,normal,\n",
    )
    options = SourceOptions("north", labels=labels, salt_file=to / ".patient-salt")
    report = import_images("dicom", src, to, options)
    found = {record.label: record for record in read_manifest(to)}
    assert found["covid"].patient == found["normal"].patient
    assert found["pneumonia"].patient == "north-seven"
    assert (found["covid"].view, found["covid"].age, found["normal"].sex) == ("PA", "45", "F")
    everything = b"".join(path.read_bytes() for path in to.rglob("*") if path.is_file())
    assert b"19450508" not in everything
    assert (to / ".patient-salt").stat().st_mode & 0o077 == 0
    assert reasons(report) == {
        "side.dcm": "not a frontal view",
        "unlabelled.dcm": "no label",
        "nobody.dcm": "no patient",
        "gone.dcm": "file missing",
        "torn.dcm": "unreadable",
    }

    # The same salt, so the same patient keeps the key.
    more = put(tmp_path / "more" / "x.dcm", dicom(textured_image(9), PatientID="19450508-1234"))
    uid = "sopinstanceuid,label\n" + _uid(more) + ",normal\n"
    options = SourceOptions(
        "north", labels=put(tmp_path / "l.csv", uid), salt_file=options.salt_file
    )
    import_images("dicom", more.parent, to, options)
    assert read_manifest(to)[-1].patient == found["covid"].patient


def _uid(path: Path) -> str:
    from pydicom import dcmread

    return str(dcmread(path).SOPInstanceUID)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("covid-chestxray-dataset", r"Expected metadata\.csv"),
        ("radiography", "Expected the folders COVID, Normal and Viral Pneumonia"),
        ("kermany", "Expected train, val or test"),
        ("nih", r"Expected Data_Entry_2017\.csv"),
        ("folders", "no image to import"),
        ("dicom", "--label-file"),
        ("mammograms", "Expected one of covid-chestxray-dataset, radiography"),
    ],
)
def test_other_layout_says_what_was_expected(tmp_path: Path, kind: str, expected: str) -> None:
    put(tmp_path / "src" / "readme.txt", "nothing here")
    with pytest.raises(DataError, match=expected):
        import_images(kind, tmp_path / "src", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_import_accepts_the_option_names_of_version_0_1_0(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ml.commands.data import data_app

    # A table that Windows wrote.
    put(tmp_path / "src" / "sub" / "a.dcm", dicom(textured_image(3), PatientID="P-1"))
    table = put(tmp_path / "labels.csv", "file,label\nsub\\a.dcm,covid\n")
    to = tmp_path / "set"
    arguments = ["import", "dicom", str(tmp_path / "src"), "--to", str(to), "--labels", str(table)]
    done = CliRunner().invoke(data_app, arguments)
    assert done.exit_code == 0, done.output
    assert "1 covid" in done.output
    assert [record.label for record in read_manifest(to)] == ["covid"]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    put(tmp_path / "metadata.csv", "patientid,finding,filename\n")
    with pytest.raises(DataError, match=r"metadata\.csv has no column view, modality"):
        import_images("covid-chestxray-dataset", tmp_path, tmp_path / "set")


@pytest.mark.parametrize("pattern", ["(", "p[0-9]+", "(p)([0-9])"])
def test_useless_patient_pattern(tmp_path: Path, pattern: str) -> None:
    image(tmp_path / "src" / "normal" / "a.png", 0)
    with pytest.raises(DataError, match="--patient-pattern"):
        import_images("folders", tmp_path / "src", tmp_path / "set", SourceOptions("s", pattern))


def test_unreadable_images_are_left_out_unless_all_are(tmp_path: Path) -> None:
    bad = put(tmp_path / "src" / "covid" / "bad.png", b"<html>")
    put(bad.parent / "flat.png", png(np.full((100, 100), 9, np.uint8)))
    with pytest.raises(DataError, match="None of 2 images"):
        import_images("folders", tmp_path / "src", tmp_path / "set")
    image(bad.parent / "good.png", 0)
    report = import_images("folders", tmp_path / "src", tmp_path / "set")
    assert report.added == {"covid": 1}
    assert reasons(report) == {"bad.png": "unreadable", "flat.png": "unreadable"}


def classes(src: Path, **images: NDArray[np.uint8]) -> Path:
    """A tree for `folders`: covid_1=image becomes covid/1.png."""
    for name, greys in images.items():
        label, stem = name.split("_", 1)
        put(src / label / f"{stem}.png", png(greys))
    return src


def test_second_import_adds_and_changes_nothing_before(tmp_path: Path) -> None:
    to = tmp_path / "set"
    import_images("covid-chestxray-dataset", covid_tree(tmp_path / "a"), to)
    before = rows(to)
    more = classes(tmp_path / "b", covid_1=textured_image(20), normal_2=textured_image(21))
    report = import_images("folders", more, to)
    assert rows(to)[: len(before)] == before
    assert (sum(report.added.values()), report.total) == (2, 5)
    assert len(read_manifest(to)) == 5

    again = import_images("folders", more, to)
    assert not again.added
    assert set(reasons(again).values()) == {"same file again"}
    assert len(read_manifest(to)) == 5


def test_columns_of_a_data_set_made_by_hand_stay(tmp_path: Path) -> None:
    to = tmp_path / "set"
    image(to / "own.png", 0)
    put(to / "manifest.csv", "image,label,source,patient,ward\nown.png,normal,own,p1,7b\n")
    import_images("folders", classes(tmp_path / "src", covid_1=textured_image(1)), to)
    own, added = rows(to)
    assert (own["image"], own["ward"], own["patient"]) == ("own.png", "7b", "p1")
    assert added["ward"] == ""


def test_interrupted_import_leaves_the_set_as_it_was_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "set"
    import_images("folders", classes(tmp_path / "a", normal_0=textured_image(0)), to)
    before = (to / "manifest.csv").read_bytes()
    more = classes(tmp_path / "b", **{f"covid_{n}": textured_image(n) for n in range(1, 5)})

    decode = Stage.decode
    decoded: list[Decoded] = []

    def killed_at_the_third(stage: Stage, content: bytes) -> Decoded:
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(decode(stage, content))
        return decoded[-1]

    with monkeypatch.context() as patched:
        patched.setattr(Stage, "decode", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            import_images("folders", more, to)
    assert (to / "manifest.csv").read_bytes() == before
    assert len(read_manifest(to)) == 1

    # A kill in the middle of a line of the journal costs that image a second look, no more.
    journal = to / STAGING / "256" / "journal.jsonl"
    journal.write_text(journal.read_text()[:-9])
    reads: list[int] = []

    def counted(content: bytes, *, shortest: int | None = None) -> Radiograph:
        reads.append(len(content))
        return read_image(content, shortest=shortest)

    with monkeypatch.context() as patched:
        patched.setattr("ml.data.importers.convert.read_image", counted)
        assert import_images("folders", more, to).added == {"covid": 4}
    assert len(reads) == 3
    assert len(read_manifest(to)) == 5
    assert not (to / STAGING).exists()


def test_killed_between_images_and_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, src = tmp_path / "set", classes(tmp_path / "src", covid_1=textured_image(1))

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(importing, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            import_images("folders", src, to)
    assert import_images("folders", src, to).added == {"covid": 1}
    assert len(read_manifest(to)) == 1


def test_manifest_changed_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "set"
    import_images("folders", classes(tmp_path / "a", normal_0=textured_image(0)), to)

    def meanwhile(
        present: list[Known], new: list[Known], hashes: Hashes, *, keep_duplicates: bool
    ) -> Resolution:
        with (to / "manifest.csv").open("a") as manifest:
            manifest.write("\n")
        return resolve_duplicates(present, new, hashes, keep_duplicates=keep_duplicates)

    monkeypatch.setattr(importing, "resolve_duplicates", meanwhile)
    with pytest.raises(DataError, match="changed during the import"):
        import_images("folders", classes(tmp_path / "b", covid_1=textured_image(1)), to)


def test_near_duplicate_is_left_out_and_its_patient_joined(tmp_path: Path) -> None:
    """A copy in another source is the same person, whose other images belong to one side."""
    to = tmp_path / "set"
    import_images("folders", classes(tmp_path / "one", covid_1=textured_image(1)), to)
    copies = classes(
        tmp_path / "two", covid_7_a=cropped(textured_image(1)), covid_7_b=textured_image(7)
    )
    report = import_images("folders", copies, to, SourceOptions("two", r"(\d+)_"))
    assert reasons(report) == {"7_a.png": "near-duplicate"}
    first, second = rows(to)
    assert first["patient"] == second["patient"] == "one-1"
    assert first["also_patient"] == second["also_patient"] == "two-7"

    # The copy is not in this import, and the manifest still knows whose image this is.
    later = classes(tmp_path / "later", covid_7_c=textured_image(8))
    import_images("folders", later, to, SourceOptions("two", r"(\d+)_"))
    assert rows(to)[-1]["patient"] == "one-1"


def test_near_duplicates_may_stay_under_one_patient(tmp_path: Path) -> None:
    to, original = tmp_path / "set", textured_image(1)
    src = classes(tmp_path / "src", covid_1=original, covid_2=cropped(original))
    put(src / "covid" / "3.png", (src / "covid" / "1.png").read_bytes())
    report = import_images("folders", src, to, keep_duplicates=True)
    assert [row["patient"] for row in rows(to)] == ["src-1", "src-1"]
    assert reasons(report) == {"3.png": "same file again"}


def test_copies_with_two_labels_are_left_out(tmp_path: Path) -> None:
    original = textured_image(1)
    src = classes(
        tmp_path / "src",
        covid_1=original,
        normal_2=cropped(original),
        pneumonia_3=original,
        normal_4=textured_image(4),
    )
    report = import_images("folders", src, tmp_path / "set")
    assert report.added == {"normal": 1}
    assert set(reasons(report).values()) == {"near-duplicate with another label"}

    conflict = classes(tmp_path / "other", covid_4=cropped(textured_image(4)))
    report = import_images("folders", conflict, tmp_path / "set")
    assert reasons(report) == {"4.png": "near-duplicate with another label"}
    assert [row["label"] for row in rows(tmp_path / "set")] == ["normal"]


def patient_on(side: Split, prefix: str) -> str:
    return next(f"{prefix}-{n}" for n in range(1000) if split_of(f"{prefix}-{n}") is side)


def test_image_that_ties_two_sides_stays_out() -> None:
    train, test = patient_on(Split.TRAIN, "a"), patient_on(Split.TEST, "b")
    present = [Known("x", "1", "covid", train), Known("y", "2", "covid", test)]
    # Far from each other, and the new image in the middle of them.
    hashes = np.zeros((4, 3, 3), np.uint64)
    hashes[0, :, 0], hashes[1, :, 0] = 0b1111111111, 0b1111111111 << 10
    hashes[3] = 2**63 - 1
    new = [Known("z", "3", "covid", "c-1"), Known("other image of c-1", "4", "covid", "c-1")]
    settled = resolve_duplicates(present, new, hashes)
    assert not settled.taken
    assert not settled.aliases
    assert {reason for reason, _ in settled.refused.values()} == {"ties patients of two splits"}


def test_random_imports_never_leak_nor_move_anybody() -> None:
    """Patients share images, sources share patients: every side stays closed, whatever comes."""
    random = np.random.default_rng(0)
    present: list[Known] = []
    hashes = np.empty((0, 3, 3), np.uint64)
    refused: set[str] = set()
    templates = random.integers(0, 2**63, (150, 1, 3), dtype=np.uint64).repeat(3, axis=1)
    for step in range(6):
        chosen = random.integers(0, 150, 30)
        new = [
            Known(f"{step}-{n}", f"{step}-{n}", "covid", f"s{step}-{random.integers(25)}")
            for n in range(30)
        ]
        noise = np.uint64(1) << random.integers(0, 48, (30, 1, 3)).astype(np.uint64)
        incoming = templates[chosen] ^ noise
        sides = {image.patient: split_of(image.patient) for image in present}
        together = np.concatenate([hashes, incoming])
        settled = resolve_duplicates(present, new, together, keep_duplicates=bool(step % 2))
        refused |= {reason for reason, _ in settled.refused.values()}
        present += [
            Known(new[n].name, new[n].digest, "covid", key) for n, key in settled.taken.items()
        ]
        hashes = np.concatenate([hashes, incoming[list(settled.taken)]])
        records = [ImageRecord(Path(image.name), "covid", "s", image.patient) for image in present]
        assert not find_duplicates(records, hashes).leaks
        assert (
            sides.items() <= {image.patient: split_of(image.patient) for image in present}.items()
        )
    assert len(present) > 60
    assert refused == {"near-duplicate", "ties patients of two splits"}


def test_imported_set_has_no_leak(tmp_path: Path) -> None:
    to = tmp_path / "set"
    for source in ("one", "two"):
        images = {
            f"covid_{source}{n}": textured_image(n)
            if source == "one"
            else cropped(textured_image(n))
            for n in range(10)
        }
        import_images("folders", classes(tmp_path / source, **images), to, keep_duplicates=True)
    records = read_manifest(to)
    found = find_duplicates(records, hash_images([record.path for record in records]))
    assert len(records) == 20
    assert len(found.groups) == 10
    assert not found.leaks


def test_faults_of_a_manifest(tmp_path: Path) -> None:
    image(tmp_path / "a.png", 0)
    put(
        tmp_path / "manifest.csv",
        "image,lung_mask,label,source,patient\n"
        "a.png,,covid,s,p\n./a.png,,covid,s,p\nb.png,m.png,covid,s, \n,,covid,s,p,more\nc.png\n",
    )
    with pytest.raises(DataError) as refused:
        read_manifest(tmp_path)
    for part in (
        "row 3: ./a.png is already in row 2",
        "row 4: there is no lung mask 'm.png'",
        "row 4: patient is empty",
        "row 5: more cells than columns",
        "row 5: there is no file ''",
        "row 6: label '' is not the name of a class",
        "row 6: source is empty",
    ):
        assert part in str(refused.value)
    (tmp_path / "manifest.csv").write_bytes(b"image,label,source,patient\n\xff\xfe")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        read_manifest(tmp_path)


def test_words_of_the_sources() -> None:
    assert [clean_age(text) for text in ("058Y", "58", "58.0", "411", "", "nan", "090Y+")] == [
        "58", "58", "58", "", "", "", "90",
    ]  # fmt: skip
    assert [clean_sex(text) for text in ("M", "female", "", "O")] == ["M", "F", "", ""]
    assert class_of("COVID_19") == "covid"
    assert class_of("tuberculosis") is None
    assert label_of("COVID_19", Path("x")) == "covid"
    assert label_of("Lung Opacity ", Path("x")) == "lung-opacity"
    with pytest.raises(DataError, match="x: 'active!' is not the name of a class"):
        label_of("Active!", Path("x"))


def test_summary(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    to, src = tmp_path / "set", tmp_path / "src"
    classes(src, covid_1=textured_image(1), covid_2=textured_image(2))
    done = CliRunner().invoke(data_app, ["import", "folders", str(src), "--out", str(to)])
    assert done.exit_code == 0, done.output
    assert f"added: 2 covid; {to} has 2 images" in done.output
    for arguments, environment in (
        ([str(to)], {}),
        (["--data", str(to)], {}),
        ([], {"XRAY_DATA": str(to)}),
    ):
        done = CliRunner().invoke(data_app, ["summary", *arguments], env=environment)
        assert done.exit_code == 0, done.output
        assert "Every image has the label covid." in done.output
        assert "near-duplicates in different splits: 0 pairs" in done.output


def test_summary_warns_of_a_source_with_one_patient() -> None:
    images = [ImageRecord(Path(f"{n}"), "covid", "a", f"p{n}") for n in range(60)]
    images.append(ImageRecord(Path("x"), "normal", "b", "q", age="81"))
    warnings = "\n".join(warnings_of(images))
    assert "All images of the source b are of one patient" in warnings
    assert "The test split has no images of normal." in warnings
    assert "source a " not in warnings
    assert [age_band(image) for image in images[-2:]] == ["", "80 and over"]


def test_leak_and_conflict_are_found() -> None:
    train, test = patient_on(Split.TRAIN, "a"), patient_on(Split.TEST, "b")
    images = [
        ImageRecord(Path("x"), "covid", "a", train),
        ImageRecord(Path("y"), "normal", "b", test),
    ]
    found = find_duplicates(images, np.zeros((2, 3, 3), np.uint64))
    assert found.leaks == [(images[0], images[1])]
    assert found.conflicts == [images]


def test_every_layout_is_documented() -> None:
    page = (REPOSITORY / "docs" / "data.md").read_text()
    for kind in LAYOUTS:
        assert f"xray data import {kind} " in page
    for column in COLUMNS:
        assert f"`{column}`" in page


def test_folders_are_imported_by_contents_and_every_other_file_is_named(tmp_path: Path) -> None:
    """A folder copied from a CD and a Mac, with a name that is no UTF-8."""
    src, to = tmp_path / "cd", tmp_path / "set"
    put(src / "covid" / "IM000001", dicom(textured_image(0)))
    put(src / "covid" / "x.ima", dicom(textured_image(1)))
    put(src / "normal" / "y.DIC", dicom(textured_image(2)))
    put(src / "normal" / os.fsdecode(b"Lungen\xe4rzte.png"), png(textured_image(3)))
    others = {
        ".DS_Store": "file of the operating system",
        "._x.ima": "file of the operating system",
        "Thumbs.db": "file of the operating system",
        "desktop.ini": "file of the operating system",
        "AUTORUN.INF": "not an image by its contents",
        "DICOMDIR": "DICOMDIR, the index of a CD",
    }
    for name in others:
        put(src / "covid" / name, bytes(128) + b"DICM")
    put(src / "covid" / "AUTORUN.INF", "[autorun]")
    put(src / "__MACOSX" / "covid" / "m.png", png(textured_image(4)))
    (src / "covid" / "gone.png").symlink_to("nowhere.png")
    report = import_images("folders", src, to, SourceOptions(source="cd"))
    assert report.added == {"covid": 2, "normal": 2}
    assert r"cd-Lungen\xe4rzte" in by_name(to)
    found = {Path(row["path"]).name: row["reason"] for row in rows(to, "left-out-folders.csv")}
    assert found == others | {
        "m.png": "file of the operating system",
        "gone.png": "link to a missing file",
    }


def test_dicom_data_set_without_a_file_header_is_imported(tmp_path: Path) -> None:
    content = dicom(textured_image(0), PatientID="17")
    # The data set alone: behind the preamble, the mark and the file meta information.
    length = int.from_bytes(content[140:144], "little")
    put(tmp_path / "src" / "bare", content[144 + length :])
    labels = put(tmp_path / "labels.csv", "file,label\nbare,covid\n")
    options = SourceOptions(source="clinic", labels=labels, salt_file=tmp_path / "salt")
    report = import_images("dicom", tmp_path / "src", tmp_path / "set", options)
    assert report.added == {"covid": 1}
