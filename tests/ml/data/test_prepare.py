"""A new data set made of an older one and of images that are added, from folders and archives."""

import csv
import io
import json
import os
import signal
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ml.commands.data import data_app
from ml.data.importers import prepare as preparing
from ml.data.importers.import_images import STAGING
from ml.data.importers.layouts import LAYOUTS
from ml.data.importers.prepare import DATA_SET, KINDS, PrepareRequest, Source, prepare
from ml.data.importers.unpack import Bounds, unpack, zip_name
from ml.data.manifest import DEMONSTRATION, DEMONSTRATION_FOLDER, MANIFEST, read_manifest
from ml.data.versioning import freeze, read_version, verify_version
from ml.errors import CheckpointError, DataError, XrayError
from ml.gan.synthesis.folder import PRIVACY_CHECKS, NewImage, SyntheticFolder
from ml.gan.synthesis.watermark import Provenance, png_of
from ml.training.metrics_log import read_metrics
from tests.ml.data.test_near_duplicates import textured_image
from tests.ml.data.test_versioning import LABELS, image_row, write_manifest
from tests.support.images import dicom, png, synthetic_image

GENERATOR = "cd" * 32
Files = Mapping[str, bytes]


def image(seed: int) -> bytes:
    return png(textured_image(seed))


def zip_of(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def data_set(folder: Path, seeds: range, **cells: str) -> Path:
    write_manifest(folder, [image_row(folder, seed, **cells) for seed in seeds])
    return folder


def rows_of(folder: Path, name: str = MANIFEST) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def reasons(out: Path) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in rows_of(out, "left-out.csv")}


FOLDERS: Files = {
    "covid/a.png": image(0),
    "covid/b.png": image(1),
    "Viral Pneumonia/c.png": image(2),
    "normal/d.png": image(3),
}


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize("name", ["images.zip", "images.tar.gz"])
def test_an_archive_becomes_a_frozen_data_set(
    tmp_path: Path, pack: Callable[[Path, Files], Path], name: str
) -> None:
    """What an archive is, its content decides; what is no image is reported."""
    others = {"README.txt": b"hello", "covid/broken.png": b"nothing", "other/e.png": image(4)}
    archive = pack(tmp_path / name, FOLDERS | others)
    out = tmp_path / "out"
    prepared = prepare(PrepareRequest(sources=[Source(archive)], name="North Hospital"), out)
    assert prepared.folder == out / "set"
    assert verify_version(out / "set") == prepared.summary
    assert prepared.summary.by_label == {"covid": 2, "pneumonia": 1, "normal": 1}
    assert set(prepared.summary.by_source) == {"north-hospital"}
    assert reasons(out) == {
        "README.txt": "not an image by its contents",
        "covid/broken.png": "unreadable",
        "other/e.png": "no label",
    }
    assert sorted(path.name for path in (out / "set").iterdir()) == [
        "contact-sheet.jpg",
        "images",
        "manifest.csv",
        "summary.json",
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        "left-out.csv",
        "metrics.jsonl",
        "prepared.json",
        "set",
    ]


def test_what_was_unpacked_goes_though_the_end_was_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = PrepareRequest(sources=[Source(zip_of(tmp_path / "images.zip", FOLDERS))])
    prepared = prepare(wanted, out)
    (out / preparing.WORK / "unpacked-1").mkdir(parents=True)
    assert prepare(wanted, out) == prepared
    assert not (out / preparing.WORK).exists()


def test_images_are_added_to_a_base(tmp_path: Path) -> None:
    """The base stays as it is, to its inodes; what is in it already is not taken again."""
    base = data_set(tmp_path / "base", range(6))
    freeze(base)
    before = (base / MANIFEST).read_bytes()
    source = tmp_path / "new" / "covid"
    source.mkdir(parents=True)
    (source / "x.png").write_bytes(image(7))
    (source / "again.png").write_bytes(image(0))
    out = tmp_path / "out"
    prepared = prepare(PrepareRequest(base=base, sources=[Source(tmp_path / "new")]), out)
    assert prepared.summary.images == 7
    assert [r["image"] for r in rows_of(out / "set")][:6] == [r["image"] for r in rows_of(base)]
    assert reasons(out) == {"covid/again.png": "near-duplicate"}
    assert (base / "images/0.png").samefile(out / "set" / "images/0.png")
    assert (base / MANIFEST).read_bytes() == before
    verify_version(base)


def test_a_base_that_is_not_frozen_is_copied(tmp_path: Path) -> None:
    """A later change of the old one must not change the new one."""
    base = data_set(tmp_path / "base", range(3))
    out = tmp_path / "out"
    prepare(PrepareRequest(base=base), out)
    assert not (base / "images/0.png").samefile(out / "set" / "images/0.png")
    assert prepare(PrepareRequest(base=base), tmp_path / "other").summary == freeze(base)


def test_a_data_set_is_taken_as_it_is(tmp_path: Path) -> None:
    """From an archive whose images lie a folder deeper: its rows, its files byte by byte."""
    theirs = data_set(tmp_path / "theirs", range(6), view="PA")
    files = {f"a/b/{p.relative_to(theirs)}": p.read_bytes() for p in theirs.rglob("*.*")}
    archive = zip_of(tmp_path / "set.zip", files | {"a/b/notes.pdf": b"%PDF", "__MACOSX/x": b"0"})
    out = tmp_path / "out"
    prepared = prepare(PrepareRequest(sources=[Source(archive, DATA_SET)]), out)
    assert prepared.summary == freeze(theirs)
    assert (out / "set/images/0.png").read_bytes() == (theirs / "images/0.png").read_bytes()
    assert reasons(out) == {"notes.pdf": "in no row of the manifest"}


def test_data_sets_join_without_duplicates_or_leaks(tmp_path: Path) -> None:
    base = data_set(tmp_path / "base", range(3))
    other = tmp_path / "other"
    # The same image's name for another image, a copy under another patient, another label for one.
    taken = image_row(other, 5, source="t", patient="t5", image="images/0.png", label="covid")
    (other / "images/5.png").rename(other / "images/0.png")
    copy = image_row(other, 1, source="t", patient="t1", label=LABELS[1])
    conflict = image_row(other, 2, source="t", patient="t2", label=LABELS[0])
    write_manifest(other, [taken, copy, conflict])
    out = tmp_path / "out"
    prepared = prepare(PrepareRequest(base=base, sources=[Source(other, DATA_SET)]), out)
    assert reasons(out) == {
        "images/1.png": "same file again",
        "images/2.png": "near-duplicate with another label",
    }
    found = {record.patient: record for record in read_manifest(out / "set")}
    assert sorted(found) == ["p0", "p1", "p2", "t5"]
    assert found["t5"].path.read_bytes() == image(5)
    assert found["p0"].path.read_bytes() == image(0)
    assert prepared.summary.leaks == prepared.summary.conflicts == 0


def test_only_the_shipped_images_have_the_source_of_the_demonstration(tmp_path: Path) -> None:
    """Pages show images of this source to everyone, as synthetic."""
    false = data_set(tmp_path / "false", range(3), source=DEMONSTRATION)
    for wanted in (PrepareRequest(base=false), PrepareRequest(sources=[Source(false, DATA_SET)])):
        with pytest.raises(DataError, match="reserved for the demonstration set"):
            prepare(wanted, tmp_path / "refused")
    archive = zip_of(tmp_path / "images.zip", FOLDERS)
    with pytest.raises(DataError, match="Give another --source"):
        prepare(
            PrepareRequest(sources=[Source(archive)], name="Demonstration"), tmp_path / "refused"
        )
    grown = PrepareRequest(base=DEMONSTRATION_FOLDER, sources=[Source(archive)], name="North")
    summary = prepare(grown, tmp_path / "grown").summary
    shipped = read_version(DEMONSTRATION_FOLDER)
    assert (summary.demonstration, summary.images) == (
        shipped.images,
        shipped.images + len(FOLDERS),
    )


def test_a_corrected_label_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    base = data_set(tmp_path / "base", range(3), source="clinic-a")
    rows = [image_row(tmp_path / "corrected", seed, source="clinic-a") for seed in range(3)]
    rows[0] |= {"label": "normal", "patient": "clinic-a-17"}
    write_manifest(tmp_path / "corrected", rows)
    out = tmp_path / "out"
    prepared = prepare(
        PrepareRequest(base=base, sources=[Source(tmp_path / "corrected", DATA_SET)]), out
    )
    assert prepared.summary.images == 3
    first = read_manifest(out / "set")[0]
    assert (first.label, first.patient, first.path.name) == ("normal", "clinic-a-17", "0.png")
    (report,) = [each for name, each in prepared.reports.items() if name != "base"]
    assert (report.changed, report.added.total(), len(report.left_out)) == (1, 0, 2)


def synthetic_set(folder: Path, seeds: range) -> Path:
    """Small images of a generator with their privacy checks and thumbnails."""
    images = []
    for seed in seeds:
        pixels = synthetic_image(np.random.default_rng(seed), 32, 32)
        row = {
            "image": f"images/{seed}.png",
            "label": "covid",
            "source": "synthetic-cd",
            "patient": f"synthetic-cd-{seed}",
            "synthetic": GENERATOR,
        }
        privacy_check = {"seed": str(seed), "file": row["image"], "nearest_percentile": "50.00"}
        provenance = Provenance(GENERATOR, str(seed), "covid", 1.0, "test")
        images.append(NewImage(png_of(pixels, provenance), b"small", row, privacy_check))
    SyntheticFolder(folder).change(images, [])
    return folder


def test_synthetic_images_keep_their_privacy_checks(tmp_path: Path) -> None:
    one, other = synthetic_set(tmp_path / "a", range(3)), synthetic_set(tmp_path / "b", range(2, 5))
    out = tmp_path / "out"
    prepared = prepare(PrepareRequest(base=one, sources=[Source(other, DATA_SET)]), out)
    assert (prepared.summary.images, prepared.summary.synthetic) == (5, 5)
    assert [row["seed"] for row in rows_of(out / "set", PRIVACY_CHECKS)] == list("01234")
    assert len(list((out / "set" / "thumbnails").rglob("*.jpg"))) == 5
    SyntheticFolder(out / "set")


def test_synthetic_images_join_real_ones_as_what_they_are(tmp_path: Path) -> None:
    base = data_set(tmp_path / "base", range(3))
    made = synthetic_set(tmp_path / "made", range(2))
    prepared = prepare(
        PrepareRequest(base=base, sources=[Source(made, DATA_SET)]), tmp_path / "out"
    )
    assert (prepared.summary.images, prepared.summary.synthetic) == (5, 2)


def test_dicom_archive_with_its_labels(tmp_path: Path) -> None:
    files = {
        "scans/1.dcm": dicom(textured_image(0).astype(np.uint16) * 16, bits=12, PatientID="7"),
        "scans/2.dcm": dicom(textured_image(1).astype(np.uint16) * 16, bits=12, PatientID="8"),
        "scans/labels.csv": b"file,label\n1.dcm,covid\n2.dcm,normal\n",
    }
    out = tmp_path / "out"
    prepare(PrepareRequest(sources=[Source(zip_of(tmp_path / "a.zip", files), "dicom")]), out)
    assert sorted(record.label for record in read_manifest(out / "set")) == ["covid", "normal"]
    salt = out / "set" / ".patient-salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    # Later images of the same patients get the same keys.
    prepare(PrepareRequest(base=out / "set"), tmp_path / "next")
    assert (tmp_path / "next" / "set" / ".patient-salt").read_text() == salt.read_text()


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("胸部/患者.png", "cp932"),
        ("covid/表.png", "cp932"),
        ("covid/Lungenärzte.png", "cp437"),
        ("covid/naïve.png", "utf-8"),
        ("covid/漢字.png", "utf-8"),
    ],
)
@pytest.mark.parametrize("packed_by", [0, 3])
def test_zip_names_without_the_mark_of_utf_8_are_read(
    name: str, encoding: str, packed_by: int
) -> None:
    info = zipfile.ZipInfo(name.encode(encoding).decode("cp437"))
    info.flag_bits, info.create_system = 0, packed_by
    assert zip_name(info) == name


def test_zip_of_windows_has_its_own_separators() -> None:
    info = zipfile.ZipInfo("any")
    info.create_system, info.orig_filename = 0, "covid\\a.png"
    assert zip_name(info) == "covid/a.png"


def symlink(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target.encode()


def test_hostile_zip_is_refused_with_every_fault(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../up.png", "/etc/abs.png", "a/../../b.png", "C:x.png", "a\\b.png"):
            archive.writestr(name, b"x")
        archive.writestr(*symlink("link", "/etc/passwd"))
        archive.writestr("covid/a.png", image(0))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("covid/a.png", image(1))
        archive.writestr("covid/a.png/b.png", b"x")
    out = tmp_path / "out"
    with pytest.raises(DataError) as refused:
        prepare(PrepareRequest(sources=[Source(path)]), out)
    message = str(refused.value)
    assert "bad.zip has 8 errors" in message
    for part in ("../up.png", "/etc/abs.png", "a/../../b.png", "C:x.png", "link", "covid/a.png/b"):
        assert part in message
    assert not (tmp_path / "up.png").exists()
    assert [path.name for path in out.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_tar_with_links_or_devices_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("covid/a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
        for name in ("/abs.png", "../up.png"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match=r"3 errors(.|\n)*link or a device"):
        unpack(path, tmp_path / "to")
    assert not (tmp_path / "up.png").exists()


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_bombs_are_refused_while_they_unpack(
    tmp_path: Path, pack: Callable[[Path, Files], Path]
) -> None:
    bomb = pack(tmp_path / "bomb.tar.gz", {"covid/a.png": bytes(30_000_000)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(bomb, tmp_path / "ratio", Bounds(free=1_000_000))
    with pytest.raises(DataError, match="unpacks to more than 5 MB"):
        unpack(bomb, tmp_path / "bytes", Bounds(bytes=5_000_000, ratio=10_000))
    written = sum(path.stat().st_size for path in (tmp_path / "bytes").rglob("*") if path.is_file())
    assert written <= 5_000_000
    many = pack(tmp_path / "many.tar.gz", {f"covid/{n}.png": b"" for n in range(30)})
    with pytest.raises(DataError, match="more than 20 files"):
        unpack(many, tmp_path / "files", Bounds(files=20))


def test_zip_that_lies_about_sizes_is_counted(tmp_path: Path) -> None:
    """The size in the directory says ten bytes; thirty million come out, or an error does."""
    path = zip_of(tmp_path / "lie.zip", {"covid/a.png": bytes(30_000_000)})
    content = path.read_bytes()
    path.write_bytes(
        content.replace((30_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    )
    with pytest.raises(DataError):
        unpack(path, tmp_path / "to", Bounds(free=1_000_000))
    assert sum(p.stat().st_size for p in (tmp_path / "to").rglob("*") if p.is_file()) < 2_000_000


def test_tar_header_of_gigabytes_is_refused(tmp_path: Path) -> None:
    """An extended header is read into memory as a whole, whatever size it claims."""
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 3_000_000_000
    path = tmp_path / "header.tar"
    with path.open("wb") as file:
        file.write(member.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(3_000_000_000)
    with pytest.raises(DataError, match="headers that are too large"):
        unpack(path, tmp_path / "to")


@pytest.mark.parametrize("cut", [100, 2000])
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_damaged_archives_are_refused(
    tmp_path: Path, pack: Callable[[Path, Files], Path], cut: int
) -> None:
    path = pack(tmp_path / "images.tar.gz", FOLDERS)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"damaged or incomplete|not a ZIP or TAR"):
        prepare(PrepareRequest(sources=[Source(path)]), tmp_path / "out")
    assert not (tmp_path / "out" / "set").exists()


def test_no_archive_and_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive at all")
    with pytest.raises(DataError, match="not a ZIP or TAR"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    with pytest.raises(DataError, match="is empty"):
        unpack(zip_of(tmp_path / "b.zip", {}), tmp_path / "b")


def test_faults_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    bad = data_set(tmp_path / "bad", range(2), label="Measles")
    unreadable = data_set(tmp_path / "unreadable", range(3))
    (unreadable / "images/1.png").write_bytes(b"no image")
    bare = tmp_path / "bare"
    bare.mkdir()
    sources = [Source(bad), Source(unreadable), Source(bare, DATA_SET)]
    with pytest.raises(DataError) as refused:
        prepare(PrepareRequest(sources=sources), tmp_path / "out")
    for part in (
        "label 'Measles' is not the name of a class",
        "1.png: Expected PNG",
        "bare has no manifest.csv",
    ):
        assert part in str(refused.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("column", ["image", "lung_mask"])
@pytest.mark.parametrize("name", ["../secret.png", "{home}/secret.png", "../set/images/0.png"])
def test_manifest_that_leads_elsewhere_is_refused(tmp_path: Path, column: str, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(image(9))
    folder = tmp_path / "set"
    rows = [image_row(folder, 0)]
    rows[0][column] = name.format(home=tmp_path)
    write_manifest(folder, rows)
    with pytest.raises(DataError, match="is outside the data set"):
        prepare(PrepareRequest(sources=[Source(folder, DATA_SET)]), tmp_path / "out")


def test_nothing_to_do_and_unknown_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There are no images"):
        prepare(PrepareRequest(), tmp_path)
    with pytest.raises(DataError, match=r"Unknown kind 'x'(.|\n)*no file or folder"):
        prepare(PrepareRequest(sources=[Source(tmp_path / "gone", "x")]), tmp_path)
    assert (DATA_SET, *LAYOUTS) == KINDS


def stop_after(calls: int) -> Callable[[], bool]:
    left = iter(range(calls))
    return lambda: next(left, None) is None


def test_stopped_anywhere_the_same_call_goes_on(tmp_path: Path) -> None:
    base = data_set(tmp_path / "base", range(3))
    other = data_set(tmp_path / "other", range(10, 13), source="t")
    sources = [Source(zip_of(tmp_path / "images.zip", FOLDERS)), Source(other)]
    wanted = PrepareRequest(base=base, sources=sources)
    whole = prepare(wanted, tmp_path / "whole")
    out = tmp_path / "out"
    stops = 0
    for calls in range(1, 60, 4):
        try:
            prepared = prepare(wanted, out, stop_after(calls))
        except CheckpointError:
            stops += 1
            assert not (out / "set").exists()
        else:
            break
    assert stops > 3
    assert prepared.summary == whole.summary
    assert not list(out.rglob(STAGING))
    verify_version(out / "set")
    # Once it is there, the same call finds it, and another one gets an error.
    assert prepare(wanted, out, stop_after(0)) == prepared
    with pytest.raises(DataError, match="Give another --out"):
        prepare(replace(wanted, base=None), out)


def test_killed_before_the_set_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the working folder is finished, whatever was killed in between."""
    wanted = PrepareRequest(base=data_set(tmp_path / "base", range(3)))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(preparing, "freeze", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(wanted, tmp_path / "out")
    assert not (tmp_path / "out" / "set").exists()
    assert prepare(wanted, tmp_path / "out").summary.images == 3


def test_sigterm_ends_the_command_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = data_set(tmp_path / "base", range(3))
    command = ["prepare", f"--out={tmp_path / 'out'}", f"--base={base}"]

    def frozen_while_stopped(folder: Path, on_image: Callable[[], None]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        on_image()

    with monkeypatch.context() as patched:
        patched.setattr(preparing, "freeze", frozen_while_stopped)
        stopped = CliRunner().invoke(data_app, command)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert not (tmp_path / "out" / "set").exists()
    assert CliRunner().invoke(data_app, command).exit_code == 0
    verify_version(tmp_path / "out" / "set")


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "images.zip", FOLDERS)
    prepare(PrepareRequest(sources=[Source(archive)]), tmp_path / "out")
    rows = read_metrics(tmp_path / "out")
    assert rows[-1]["step"] == rows[-1]["of"] == 4 + 2 * 4
    assert all(row["step"] <= row["of"] for row in rows)


def test_the_command(tmp_path: Path) -> None:
    base = data_set(tmp_path / "base", range(3))
    archive = zip_of(tmp_path / "images.zip", {f"x/{k}": v for k, v in FOLDERS.items()})
    more = zip_of(tmp_path / "more.zip", {"normal/z.png": image(20)})
    command = ["prepare", f"--out={tmp_path / 'out'}", f"--base={base}", "--name=New set"]
    command += [f"--archive={archive}", f"--archive={more}", "--layout=folders"]
    done = CliRunner().invoke(data_app, command)
    assert done.exit_code == 0, done.exception
    sha256 = read_version(tmp_path / "out" / "set").sha256
    assert sha256 in done.output
    assert "2: more.zip: 1 normal" in done.output
    receipt = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert receipt["inputs"]["name"] == "New set"
    again = CliRunner().invoke(data_app, command)
    assert sha256 in again.output
    wrong = CliRunner().invoke(data_app, [*command, "--layout=folders", "--layout=nih"])
    assert isinstance(wrong.exception, XrayError)
    assert "one for each --archive" in str(wrong.exception)


def test_the_command_needs_room(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "out").write_text("a file where a folder should be")
    else:
        tmp_path.chmod(0o500)
    base = data_set(tmp_path.parent / f"{tmp_path.name}-base", range(2))
    done = CliRunner().invoke(data_app, ["prepare", f"--out={tmp_path / 'out'}", f"--base={base}"])
    assert isinstance(done.exception, XrayError)
    assert "Cannot write to" in str(done.exception)
