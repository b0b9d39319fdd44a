"""Images with privacy checks: from seeds to a data set, copies refused, nothing made twice."""

import csv
import errno
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml import files
from ml.data.manifest import ImageRecord, in_split, read_manifest, read_synthetic_manifest
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, XrayError
from ml.gan.evaluation import embedding_cache
from ml.gan.evaluation.distances import distances, neighbour_radii
from ml.gan.evaluation.embedding_cache import EmbeddingCache
from ml.gan.evaluation.features import Embeddings, FeatureSpace
from ml.gan.evaluation.precision_recall import NEIGHBOURS, sample_realism
from ml.gan.generator_card import GeneratorCard
from ml.gan.generator_file import LoadedGenerator
from ml.gan.sampling import sample_images
from ml.gan.synthesis import folder as synthetic_folder
from ml.gan.synthesis import synthesize as synthesis
from ml.gan.synthesis.folder import PRIVACY_CHECK_COLUMNS, PRIVACY_CHECKS, SyntheticFolder
from ml.gan.synthesis.interpolation import draw_interpolation
from ml.gan.synthesis.privacy_check import PrivacyCheck, PrivacyChecker
from ml.gan.synthesis.request import SynthesisRequest, classes_to_generate, parse_seeds
from ml.gan.synthesis.synthesize import synthesize
from ml.gan.synthesis.watermark import Provenance, marked, png_of, thumbnail_of
from ml.imaging.types import GreyImages
from tests.support.gan_world import (
    LABELS,
    SIDE,
    pixel_space,
    tiny,
    untrained,
    write_images,
)
from tests.support.images import png

IMAGES = {Split.TRAIN: 12, Split.VALIDATION: 20, Split.TEST: 1}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    return write_images(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def loaded(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> LoadedGenerator:
    """A conditional generator of two classes."""
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    return untrained(path, records, tiny("resnet", labels=",".join(LABELS), conditional=True))


@pytest.fixture(scope="module")
def privacy_checker(loaded: LoadedGenerator, records: list[ImageRecord]) -> PrivacyChecker:
    return PrivacyChecker(loaded, records, pixel_space, quiet=True)


def images_of(loaded: LoadedGenerator, seeds: list[int], label: str, **more: float) -> GreyImages:
    return sample_images(
        loaded.network,
        seeds,
        loaded.labels.index(label),
        length=loaded.card.options.latent,
        **more,  # type: ignore[arg-type]
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Name, time of writing and content of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.read_bytes()) for f in files}


def certified(
    privacy_checker: PrivacyChecker,
    choose: Callable[[int], PrivacyCheck],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Let the n-th image that is ever compared have the privacy check chosen for n."""
    numbers = iter(range(1000))

    def check(self: PrivacyChecker, images: GreyImages, label: str) -> list[PrivacyCheck]:
        return [choose(next(numbers)) for _ in images]

    monkeypatch.setattr(PrivacyChecker, "check", check)


FINE = PrivacyCheck(50.0, 60.0, near_copy=False, realism=0.9)
COPY = PrivacyCheck(50.0, 60.0, near_copy=True, realism=9.0)
NEAR = PrivacyCheck(50.0, 0.5, near_copy=False, realism=2.0)


def test_images_make_a_data_set_that_says_what_they_are(
    loaded: LoadedGenerator, privacy_checker: PrivacyChecker, tmp_path: Path
) -> None:
    done: list[tuple[int, float]] = []
    outcome = synthesize(
        loaded,
        SyntheticFolder(tmp_path),
        SynthesisRequest(count=5),
        privacy_checker,
        on_images=lambda *row: done.append(row),
    )
    assert (outcome.written, outcome.present, outcome.refused.total()) == (5, 0, 0)
    assert sum(images for images, _ in done) == 5
    assert done[-1][1] == outcome.seconds
    records = read_synthetic_manifest(tmp_path)
    # As many of each class; the remainder of a seed chooses its class.
    assert [record.path.stem for record in records] == [
        "covid-0", "covid-2", "covid-4", "normal-1", "normal-3",
    ]  # fmt: skip
    source = f"synthetic-{loaded.sha256[:12]}"
    for record in records:
        seed = int(record.path.stem.split("-")[1])
        assert record.label == LABELS[seed % 2]
        assert (record.source, record.patient) == (source, f"{source}-{seed}")
        assert (record.view, record.sex, record.age, record.finding) == ("", "", "", "")
        assert record.license == "research use"
        with Image.open(record.path) as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), images_of(loaded, [seed], record.label)[0])
            text = image.text  # type: ignore[attr-defined]
        assert text["Software"].startswith("xray-screening ")
        assert {key: value for key, value in text.items() if key != "Software"} == {
            "synthetic": "true",
            "generator_sha256": loaded.sha256,
            "seed": str(seed),
            "class": record.label,
            "truncation": "1",
        }
    manifest = rows_of(tmp_path / "manifest.csv")
    assert {row["synthetic"] for row in manifest} == {loaded.sha256}
    assert {row["width"] for row in manifest} == {str(SIDE)}


def test_thumbnails_are_small_and_say_synthetic(loaded: LoadedGenerator, tmp_path: Path) -> None:
    folder = SyntheticFolder(tmp_path)
    synthesize(loaded, folder, SynthesisRequest(seeds=(1, 2)), None)
    for image in folder.rows:
        with Image.open(tmp_path / "thumbnails" / f"{image}.jpg") as thumbnail:
            assert (thumbnail.format, thumbnail.mode, thumbnail.size) == ("JPEG", "L", (128, 128))
            shown = np.asarray(thumbnail).astype(int)
        with Image.open(tmp_path / image) as radiograph:
            enlarged = np.asarray(radiograph.resize((128, 128), Image.Resampling.BICUBIC))
        # As if the word were drawn on the image itself, but for the losses of JPEG.
        assert np.abs(shown - marked(enlarged)).mean() < 6
        assert np.abs(shown - enlarged)[-14:, :72].mean() > 40
    tall = Image.open(io.BytesIO(thumbnail_of(np.zeros((64, 32), np.uint8))))
    assert tall.size == (64, 128)


def test_image_is_the_same_whatever_came_before_it(loaded: LoadedGenerator, tmp_path: Path) -> None:
    one, other = SyntheticFolder(tmp_path / "one"), SyntheticFolder(tmp_path / "other")
    synthesize(loaded, one, SynthesisRequest(seeds=range(0, 140, 2)), None)
    for seed in (138, 66, 0):
        synthesize(loaded, other, SynthesisRequest(seeds=(seed,)), None)
    for image in other.rows:
        assert (other.root / image).read_bytes() == (one.root / image).read_bytes()


def test_privacy_checks_tell_what_was_compared_and_name_no_image(
    loaded: LoadedGenerator,
    privacy_checker: PrivacyChecker,
    records: list[ImageRecord],
    tmp_path: Path,
) -> None:
    synthesize(loaded, SyntheticFolder(tmp_path), SynthesisRequest(seeds=(3, 4)), privacy_checker)
    rows = rows_of(tmp_path / PRIVACY_CHECKS)
    assert tuple(rows[0]) == PRIVACY_CHECK_COLUMNS
    assert [(row["seed"], row["label"]) for row in rows] == [("4", "covid"), ("3", "normal")]
    for row in rows:
        assert (tmp_path / row["file"]).is_file()
        low = min(float(row["pixel_percentile"]), float(row["embedding_percentile"]))
        assert float(row["nearest_percentile"]) == low
        assert row["near_copy"] == "no"
        assert row["generator_sha256"] == loaded.sha256
        assert row["training_images"] == str(2 * IMAGES[Split.TRAIN])
        assert row["held_out_images"] == str(IMAGES[Split.VALIDATION])
        assert row["generator_learned_from_them"] == "yes"
    text = "".join(path.read_text() for path in tmp_path.glob("*.csv"))
    assert not any(r.path.name in text.split(",") or r.patient in text for r in records)
    other = replace(loaded, card=loaded.card.model_copy(update={"images_sha256": "0" * 64}))
    folder = SyntheticFolder(tmp_path / "other")
    synthesize(
        other,
        folder,
        SynthesisRequest(count=1),
        PrivacyChecker(other, records, pixel_space, quiet=True),
    )
    (row,) = rows_of(tmp_path / "other" / PRIVACY_CHECKS)
    assert row["generator_learned_from_them"] == "no"


def test_privacy_check_measures_what_it_says(
    loaded: LoadedGenerator, privacy_checker: PrivacyChecker, records: list[ImageRecord]
) -> None:
    real = privacy_checker.held_out.images[privacy_checker.held_out.labels == 0]
    found = privacy_checker.check(real, "covid")
    # Held-out images are as near to training images as held-out images: evenly from 0 to 100.
    percentiles = np.sort([one.pixel_percentile for one in found])
    assert percentiles == pytest.approx(np.arange(1, 21) * 5)
    # Realism equals that of the whole comparison of two sets.
    space = pixel_space()
    own = privacy_checker.training.images[privacy_checker.training.labels == 0]
    centres = space.embed(own)
    expected = sample_realism(
        distances(space.embed(real), centres), neighbour_radii(centres, NEIGHBOURS)
    )
    assert [one.realism for one in found] == pytest.approx(expected)
    training = privacy_checker.training.images[:3]
    for images in (training, training[:, :, ::-1]):
        copies = privacy_checker.check(images, privacy_checker.training.records[0].label)
        assert all(one.near_copy and one.nearest_percentile == 0 for one in copies)
    assert PrivacyCheck(0.9, 5, near_copy=False, realism=1).refusal(1).startswith("nearer")
    assert not PrivacyCheck(1.0, 5, near_copy=False, realism=1).refusal(1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_image_that_repeats_a_training_image_is_refused_and_replaced(
    loaded: LoadedGenerator,
    records: list[ImageRecord],
    tmp_path: Path,
    mirrored: bool,
) -> None:
    radiograph = images_of(loaded, [2], "covid")[0]
    path = tmp_path / "learned.png"
    learned_image = radiograph[:, ::-1] if mirrored else radiograph
    # Smaller pictures are read as no images.
    path.write_bytes(png(np.kron(learned_image, np.ones((4, 4), np.uint8))))
    patient = in_split(records, Split.TRAIN)[0].patient
    learned = [*records, ImageRecord(path, "covid", "generated", patient)]
    privacy_checker = PrivacyChecker(loaded, learned, pixel_space, quiet=True)
    folder = SyntheticFolder(tmp_path / "made")
    outcome = synthesize(loaded, folder, SynthesisRequest(count=3, label="covid"), privacy_checker)
    assert (outcome.written, outcome.refused) == (3, {"a near copy of a training image": 1})
    assert [Path(image).stem for image in folder.rows] == ["covid-0", "covid-1", "covid-3"]
    assert not list((tmp_path / "made").rglob("*covid-2*"))
    # A seed that was requested by number is not replaced.
    outcome = synthesize(
        loaded, folder, SynthesisRequest(seeds=(1, 2, 5), label="covid"), privacy_checker
    )
    assert (outcome.written, outcome.present, outcome.refused.total()) == (1, 1, 1)
    with pytest.raises(XrayError, match=r"not written\. An image in it is a near copy"):
        draw_interpolation(
            loaded, tmp_path, (2, 5), 3, SynthesisRequest(label="covid"), privacy_checker
        )


def test_embeddings_of_real_images_are_computed_once(
    loaded: LoadedGenerator, records: list[ImageRecord], tmp_path: Path
) -> None:
    cache, seen = tmp_path / "cache", [0]

    def counting() -> FeatureSpace:
        space = pixel_space()

        def embed(images: GreyImages) -> Embeddings:
            seen[0] += len(images)
            return space.embed(images)

        return FeatureSpace("counting", "1" * 64, space.features, 64, embed)

    def privacy_checks(cache: EmbeddingCache | None = None) -> list[PrivacyCheck]:
        privacy_checker = PrivacyChecker(loaded, records, counting, cache=cache, quiet=True)
        privacy_checker.prepare()
        return privacy_checker.check(images_of(loaded, [1, 2], "covid"), "covid")

    def looked_at(folder: Path) -> int:
        """How many images are embedded for the same privacy checks."""
        seen[0] = 0
        assert privacy_checks(EmbeddingCache(folder)) == expected
        return seen[0]

    expected = privacy_checks()
    real, own = 2 * (IMAGES[Split.TRAIN] + 2 * IMAGES[Split.VALIDATION]), 2 * 2
    assert looked_at(cache) == real + own
    assert looked_at(cache) == own
    files = sorted(cache.iterdir())
    assert len(files) == 3
    assert cache.stat().st_mode & 0o777 == 0o700
    files[0].write_bytes(files[0].read_bytes()[:50])
    np.save(files[1], np.zeros((1, 1), np.float32))
    assert own < looked_at(cache) < real + own
    assert looked_at(cache) == own
    # Another network, or images that were changed, find nothing.
    other = replace(counting(), sha256="2" * 64)
    empty = np.zeros((3, other.features), np.float32)
    assert (
        EmbeddingCache(cache).points(other, np.zeros((3, 8, 8), np.uint8), lambda _: empty) is empty
    )
    assert len(list(cache.iterdir())) == 4
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert looked_at(blocked / "cache") == real + own


def test_full_cache_lets_go_of_what_was_asked_for_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_cache, "MOST_FILES", 2)
    space, cache = pixel_space(), EmbeddingCache(tmp_path)
    sets = [np.full((1, 8, 8), value, np.uint8) for value in (1, 2, 3)]

    def computed(number: int) -> bool:
        asked: list[GreyImages] = []
        cache.points(
            space, sets[number], lambda images: asked.append(images) or space.embed(images)
        )
        # What a test does in a moment would be hours apart.
        for file in tmp_path.iterdir():
            stat = file.stat()
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))
        return bool(asked)

    assert [computed(0), computed(1), computed(0), computed(2)] == [True, True, False, True]
    assert [computed(0), computed(2), computed(1)] == [False, False, True]


def test_usual_cache_is_the_one_of_the_desktop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert embedding_cache.usual_cache() == tmp_path / "xray-screening"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert embedding_cache.usual_cache() == Path("/home/somebody/.cache/xray-screening")


def test_stopped_synthesis_keeps_what_it_made(
    loaded: LoadedGenerator,
    records: list[ImageRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(synthesis, "_CHUNK", 2)
    wanted, asked = SynthesisRequest(count=6, label="covid"), iter([False, True])
    outcome = synthesize(
        loaded, SyntheticFolder(tmp_path), wanted, None, should_stop=lambda: next(asked)
    )
    assert outcome.written == 4
    assert len(read_manifest(tmp_path)) == 4
    assert synthesize(loaded, SyntheticFolder(tmp_path), wanted, None).written == 2
    privacy_checker = PrivacyChecker(loaded, records, pixel_space, quiet=True)
    with pytest.raises(CheckpointError, match="Stopped before the embeddings"):
        synthesize(
            loaded,
            SyntheticFolder(tmp_path / "b"),
            wanted,
            privacy_checker,
            should_stop=lambda: True,
        )
    assert not (tmp_path / "b").exists()


def test_generator_that_repeats_everything_is_given_up(
    loaded: LoadedGenerator,
    privacy_checker: PrivacyChecker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certified(privacy_checker, lambda number: COPY if number else FINE, monkeypatch)
    folder = SyntheticFolder(tmp_path)
    with pytest.raises(
        XrayError, match=r"Only 1 of 3 images could be made. 29 were refused: a near"
    ):
        synthesize(loaded, folder, SynthesisRequest(count=3, label="covid"), privacy_checker)
    assert [record.path.stem for record in read_manifest(tmp_path)] == ["covid-0"]


def test_same_command_adds_nothing_and_a_larger_one_goes_on(
    loaded: LoadedGenerator, privacy_checker: PrivacyChecker, tmp_path: Path
) -> None:
    synthesize(loaded, SyntheticFolder(tmp_path), SynthesisRequest(count=4), privacy_checker)
    before = snapshot(tmp_path)
    again = synthesize(
        loaded, SyntheticFolder(tmp_path), SynthesisRequest(count=4), privacy_checker
    )
    assert (again.written, again.present) == (0, 4)
    assert snapshot(tmp_path) == before
    more = synthesize(loaded, SyntheticFolder(tmp_path), SynthesisRequest(count=6), privacy_checker)
    assert (more.written, more.present) == (2, 4)
    # The same seeds made otherwise are other images.
    other = SynthesisRequest(count=2, truncation=0.5, mark=True)
    assert synthesize(loaded, SyntheticFolder(tmp_path), other, privacy_checker).written == 2
    assert len(read_manifest(tmp_path)) == 8
    truncated = tmp_path / f"images/synthetic-{loaded.sha256[:12]}/covid-0-t0.5-marked.png"
    radiograph = images_of(loaded, [0], "covid", truncation=0.5)[0]
    with Image.open(truncated) as image:
        assert np.array_equal(np.asarray(image), marked(radiograph))


def test_another_generator_adds_its_images_beside(
    loaded: LoadedGenerator, records: list[ImageRecord], tmp_path: Path
) -> None:
    other = untrained(tmp_path / "g", records, tiny("resnet", labels="normal", seed=1, latent=9))
    folder = tmp_path / "made"
    synthesize(loaded, SyntheticFolder(folder), SynthesisRequest(count=2), None)
    # A generator of one class makes that class, conditional or not.
    synthesize(other, SyntheticFolder(folder), SynthesisRequest(count=2), None)
    made = read_manifest(folder)
    assert [record.label for record in made] == ["covid", "normal", "normal", "normal"]
    assert len({record.source for record in made}) == 2
    assert not (folder / PRIVACY_CHECKS).exists()


def test_images_without_privacy_check_get_one_later_or_go(
    loaded: LoadedGenerator,
    privacy_checker: PrivacyChecker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = SynthesisRequest(seeds=(0, 2))
    synthesize(loaded, SyntheticFolder(tmp_path), wanted, None)
    certified(privacy_checker, [FINE, NEAR].__getitem__, monkeypatch)
    folder = SyntheticFolder(tmp_path)
    outcome = synthesize(loaded, folder, wanted, privacy_checker)
    reason = "nearer to a training image than 99 % of held-out images"
    assert (outcome.written, outcome.refused) == (1, {reason: 1})
    assert [record.path.stem for record in read_manifest(tmp_path)] == ["covid-0"]
    assert [row["seed"] for row in rows_of(tmp_path / PRIVACY_CHECKS)] == ["0"]
    assert len(list(tmp_path.rglob("*.png"))) == 1
    # What was fine under a looser bound is looked at again under a stricter one.
    certified(privacy_checker, [FINE, FINE].__getitem__, monkeypatch)
    strict = replace(wanted, refuse_below=55.0)
    assert (
        synthesize(loaded, SyntheticFolder(tmp_path), strict, privacy_checker).refused.total() == 2
    )
    assert not (tmp_path / "manifest.csv").exists()
    assert SyntheticFolder(tmp_path).rows == {}


def test_full_disk_leaves_complete_images_and_the_same_command_goes_on(
    loaded: LoadedGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "_CHUNK", 2)
    write = synthetic_folder.write_whole
    room = 9  # two images with thumbnails and the manifest, two more images

    def cramped(path: Path, content: bytes) -> None:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= 1
        write(path, content)

    monkeypatch.setattr(synthetic_folder, "write_whole", cramped)
    wanted = SynthesisRequest(count=6, label="covid")
    with pytest.raises(OSError, match="No space left"):
        synthesize(loaded, SyntheticFolder(tmp_path), wanted, None)
    assert len(read_manifest(tmp_path)) == 2
    assert not list(tmp_path.rglob(".*"))
    room = 100
    outcome = synthesize(loaded, SyntheticFolder(tmp_path), wanted, None)
    assert (outcome.written, outcome.present) == (4, 2)
    assert len(read_manifest(tmp_path)) == 6


def test_interrupted_writing_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(tmp_path / "image.png", b"image")
    assert not list(tmp_path.iterdir())


def test_folder_of_real_images_is_refused(records: list[ImageRecord], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    (tmp_path / "manifest.csv").write_text("image,label,source,patient\na.png,covid,s,p\n")
    with pytest.raises(DataError, match=r"1 image not marked as synthetic, such as a\.png"):
        SyntheticFolder(tmp_path)


def test_folder_that_changed_meanwhile_is_not_overwritten(
    loaded: LoadedGenerator, tmp_path: Path
) -> None:
    one, other = SyntheticFolder(tmp_path), SyntheticFolder(tmp_path)
    synthesize(loaded, one, SynthesisRequest(count=2), None)
    with pytest.raises(DataError, match="was changed by another program"):
        synthesize(loaded, other, SynthesisRequest(count=4), None)
    assert len(read_manifest(tmp_path)) == 2


def test_interpolate_latents_two_seeds_ends_with_their_images(
    loaded: LoadedGenerator, privacy_checker: PrivacyChecker, tmp_path: Path
) -> None:
    wanted = SynthesisRequest(truncation=0.7)
    path = draw_interpolation(loaded, tmp_path, (5, 8), 4, wanted, privacy_checker)
    with Image.open(path) as image:
        strip, text = np.asarray(image), image.text  # type: ignore[attr-defined]
    assert strip.shape == (2 * SIDE, 4 * SIDE)
    for row, label in enumerate(LABELS):
        ends = images_of(loaded, [5, 8], label, truncation=0.7)
        band = strip[row * SIDE : (row + 1) * SIDE]
        assert np.array_equal(band[:, :SIDE], ends[0])
        assert np.array_equal(band[:, -SIDE:], ends[1])
        assert not np.array_equal(band[:, SIDE : 2 * SIDE], ends[0])
    assert text["synthetic"] == "true"
    assert (text["seed"], text["class"]) == ("5 to 8", "covid, normal")
    assert not (tmp_path / "manifest.csv").exists()


def test_classes_are_chosen_as_in_training(loaded: LoadedGenerator) -> None:
    assert classes_to_generate(loaded, "") == ["covid", "normal"]
    assert classes_to_generate(loaded, "normal, covid,normal") == ["normal", "covid"]
    with pytest.raises(XrayError, match="makes covid, normal, not 'flu'"):
        classes_to_generate(loaded, "covid,flu")


def test_classes_that_a_generator_cannot_make_are_refused(
    loaded: LoadedGenerator, records: list[ImageRecord], tmp_path: Path
) -> None:
    with pytest.raises(XrayError, match="makes covid, normal, not 'pneumonia'"):
        synthesize(
            loaded, SyntheticFolder(tmp_path), SynthesisRequest(count=1, label="pneumonia"), None
        )
    mixed = untrained(tmp_path / "g", records, tiny("resnet", labels="covid,normal"))
    with pytest.raises(XrayError, match="mixes covid, normal, so the class"):
        synthesize(mixed, SyntheticFolder(tmp_path), SynthesisRequest(count=1), None)


def test_too_few_real_images_make_no_privacy_check(
    loaded: LoadedGenerator, records: list[ImageRecord]
) -> None:
    fewer = in_split(records, Split.TRAIN) + in_split(records, Split.VALIDATION)[:30]
    with pytest.raises(DataError, match=r"validation split has \d+ images? of covid .* needs 20"):
        PrivacyChecker(loaded, fewer, pixel_space, quiet=True)


def test_images_that_nobody_took_count_for_nothing(
    loaded: LoadedGenerator,
    privacy_checker: PrivacyChecker,
    records: list[ImageRecord],
    tmp_path: Path,
) -> None:
    made = ImageRecord(tmp_path / "no-such.png", "covid", "s", "p", synthetic="0" * 64)
    ours = PrivacyChecker(loaded, [*records, made], pixel_space, quiet=True)
    assert ours.images_sha256 == privacy_checker.images_sha256
    assert ours.complete


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", [7]),
        ("0-3,2, 9-9", [0, 1, 2, 3, 9]),
        (f"{2**32 - 1}", [2**32 - 1]),
    ],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a list of seeds"),
        ("-3", "not a list of seeds"),
        ("3-", "not a list of seeds"),
        ("1.5", "not a list of seeds"),
        ("1-2-3", "not a list of seeds"),
        ("9" * 5000, "not a list of seeds"),
        ("5-2", "lower one first"),
        (f"{2**32}", "Give seeds from 0 to"),
        ("0-1000000", "at most 1,000,000"),
        ("0-999999,1000000", "at most 1,000,000"),
    ],
)
def test_other_seeds_are_refused(text: str, message: str) -> None:
    with pytest.raises(XrayError, match=message):
        parse_seeds(text)


@pytest.mark.parametrize("side", [16, 64, 256])
def test_mark_is_white_letters_on_black_in_a_corner(side: int) -> None:
    image = np.full((side, side), 128, np.uint8)
    result = marked(image)
    changed = result != image
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    scale = max(1, side // 64)
    assert set(np.unique(result[changed])) == {0, 255}
    assert (rows[0], rows[-1]) == (side - 7 * scale, side - 1)
    assert columns[0] == 0
    # Nine letters, or three where the image is narrow.
    assert columns[-1] + 1 == (14 if side == 16 else 36 * scale)
    letters = result[-7 * scale : side, : columns[-1] + 1][::scale, ::scale] == 255
    gaps = ~letters.any(axis=0)
    starts = gaps[:-1] & ~gaps[1:]
    assert starts.sum() == (3 if side == 16 else 9)


def test_provenance_is_plain_text_in_the_file(tmp_path: Path) -> None:
    provenance = Provenance("a" * 64, "3", "covid", 0.85, "xray-screening 1")
    content = png_of(np.zeros((8, 8), np.uint8), provenance)
    for key, value in provenance.as_text().items():
        assert f"tEXt{key}\0{value}".encode() in content


def test_cards_from_before_licences_are_read(loaded: LoadedGenerator) -> None:
    fields = json.loads(loaded.card.to_json())
    assert fields.pop("licence") == "research use"
    assert GeneratorCard.from_values(fields).licence == ""
