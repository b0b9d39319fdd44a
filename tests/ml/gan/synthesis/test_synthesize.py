"""Films with certificates: from seeds to a data set, copies refused, nothing made twice."""

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
from numpy.typing import NDArray
from PIL import Image

from ml import files
from ml.data.manifest import FilmRecord, in_split, read_manifest, read_synthetic_manifest
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, XrayError
from ml.gan.evaluation import embedding_cache
from ml.gan.evaluation.embedding_cache import EmbeddingCache
from ml.gan.evaluation.features import Embeddings, FeatureSpace
from ml.gan.evaluation.precision_recall import manifold
from ml.gan.generator_file import GeneratorCard, LoadedGenerator
from ml.gan.sampling import sample_films
from ml.gan.synthesis import folder as synthetic_folder
from ml.gan.synthesis import synthesize as synthesis
from ml.gan.synthesis.folder import CERTIFICATE_COLUMNS, CERTIFICATES, SyntheticFolder
from ml.gan.synthesis.privacy_check import Certificate, Certifier
from ml.gan.synthesis.synthesize import Wanted, draw_way, parse_seeds, synthesize
from ml.gan.synthesis.watermark import Provenance, marked, png_of, thumbnail_of
from ml.options import GanOptions
from tests.support.gan_world import (
    LABELS,
    SIDE,
    one_thread,
    pixel_space,
    tiny,
    untrained,
    write_films,
)
from tests.support.images import png

__all__ = ["one_thread"]  # a fixture that all tests here use
FILMS = {Split.TRAIN: 12, Split.VALIDATION: 20, Split.TEST: 1}

Films = NDArray[np.uint8]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[FilmRecord]:
    return write_films(tmp_path_factory.mktemp("films"), FILMS)


@pytest.fixture(scope="module")
def loaded(records: list[FilmRecord], tmp_path_factory: pytest.TempPathFactory) -> LoadedGenerator:
    """A conditional generator of two classes."""
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    return untrained(path, records, tiny("resnet", labels=",".join(LABELS), conditional=True))


@pytest.fixture(scope="module")
def certifier(loaded: LoadedGenerator, records: list[FilmRecord]) -> Certifier:
    return Certifier(loaded, records, pixel_space, quiet=True)


def films_of(loaded: LoadedGenerator, seeds: list[int], label: str, **more: float) -> Films:
    return sample_films(
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
    certifier: Certifier, choose: Callable[[int], Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the n-th film that is ever compared have the certificate chosen for n."""
    numbers = iter(range(1000))

    def certify(self: Certifier, films: Films, label: str) -> list[Certificate]:
        return [choose(next(numbers)) for _ in films]

    monkeypatch.setattr(Certifier, "certify", certify)


FINE = Certificate(50.0, 60.0, near_copy=False, realism=0.9)
COPY = Certificate(50.0, 60.0, near_copy=True, realism=9.0)
NEAR = Certificate(50.0, 0.5, near_copy=False, realism=2.0)


def test_films_make_a_data_set_that_says_what_they_are(
    loaded: LoadedGenerator, certifier: Certifier, tmp_path: Path
) -> None:
    done: list[tuple[int, float]] = []
    outcome = synthesize(
        loaded,
        SyntheticFolder(tmp_path),
        Wanted(count=5),
        certifier,
        on_films=lambda *row: done.append(row),
    )
    assert (outcome.written, outcome.present, outcome.refused.total()) == (5, 0, 0)
    assert sum(films for films, _ in done) == 5
    assert done[-1][1] == outcome.seconds
    records = read_synthetic_manifest(tmp_path)
    # As many of each class; a seed's remainder tells its class.
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
        with Image.open(record.path) as film:
            assert film.mode == "L"
            assert np.array_equal(np.asarray(film), films_of(loaded, [seed], record.label)[0])
            text = film.text  # type: ignore[attr-defined]
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
    synthesize(loaded, folder, Wanted(seeds=(1, 2)), None)
    for image in folder.rows:
        with Image.open(tmp_path / "thumbnails" / f"{image}.jpg") as thumbnail:
            assert (thumbnail.format, thumbnail.mode, thumbnail.size) == ("JPEG", "L", (128, 128))
            shown = np.asarray(thumbnail).astype(int)
        with Image.open(tmp_path / image) as film:
            enlarged = np.asarray(film.resize((128, 128), Image.Resampling.BICUBIC))
        # As if the word were drawn on the film itself, but for the losses of JPEG.
        assert np.abs(shown - marked(enlarged)).mean() < 6
        assert np.abs(shown - enlarged)[-14:, :72].mean() > 40
    tall = Image.open(io.BytesIO(thumbnail_of(np.zeros((64, 32), np.uint8))))
    assert tall.size == (64, 128)


def test_film_is_the_same_whatever_came_before_it(loaded: LoadedGenerator, tmp_path: Path) -> None:
    one, other = SyntheticFolder(tmp_path / "one"), SyntheticFolder(tmp_path / "other")
    synthesize(loaded, one, Wanted(seeds=range(0, 140, 2)), None)
    for seed in (138, 66, 0):
        synthesize(loaded, other, Wanted(seeds=(seed,)), None)
    for image in other.rows:
        assert (other.root / image).read_bytes() == (one.root / image).read_bytes()


def test_certificates_tell_what_was_compared_and_name_no_film(
    loaded: LoadedGenerator,
    certifier: Certifier,
    records: list[FilmRecord],
    tmp_path: Path,
) -> None:
    synthesize(loaded, SyntheticFolder(tmp_path), Wanted(seeds=(3, 4)), certifier)
    rows = rows_of(tmp_path / CERTIFICATES)
    assert tuple(rows[0]) == CERTIFICATE_COLUMNS
    assert [(row["seed"], row["label"]) for row in rows] == [("4", "covid"), ("3", "normal")]
    for row in rows:
        assert (tmp_path / row["file"]).is_file()
        low = min(float(row["pixel_percentile"]), float(row["embedding_percentile"]))
        assert float(row["nearest_percentile"]) == low
        assert row["near_copy"] == "no"
        assert row["generator_sha256"] == loaded.sha256
        assert row["training_films"] == str(2 * FILMS[Split.TRAIN])
        assert row["held_out_films"] == str(FILMS[Split.VALIDATION])
        assert row["generator_learned_from_them"] == "yes"
    text = "".join(path.read_text() for path in tmp_path.glob("*.csv"))
    assert not any(r.path.name in text.split(",") or r.patient in text for r in records)
    other = replace(loaded, card=replace(loaded.card, films_sha256="0" * 64))
    folder = SyntheticFolder(tmp_path / "other")
    synthesize(other, folder, Wanted(count=1), Certifier(other, records, pixel_space, quiet=True))
    (row,) = rows_of(tmp_path / "other" / CERTIFICATES)
    assert row["generator_learned_from_them"] == "no"


def test_certificate_measures_what_it_says(
    loaded: LoadedGenerator, certifier: Certifier, records: list[FilmRecord]
) -> None:
    real = certifier.held_out.films[certifier.held_out.labels == 0]
    found = certifier.certify(real, "covid")
    # Held-out films are as near to training films as held-out films: evenly from 0 to 100.
    percentiles = np.sort([one.pixel_percentile for one in found])
    assert percentiles == pytest.approx(np.arange(1, 21) * 5)
    # Realism equals that of the whole comparison of two sets.
    space = pixel_space()
    own = certifier.training.films[certifier.training.labels == 0]
    expected = manifold(space.embed(own), space.embed(real)).realism
    assert [one.realism for one in found] == pytest.approx(expected)
    training = certifier.training.films[:3]
    for films in (training, training[:, :, ::-1]):
        copies = certifier.certify(films, certifier.training.records[0].label)
        assert all(one.near_copy and one.nearest_percentile == 0 for one in copies)
    assert Certificate(0.9, 5, near_copy=False, realism=1).refusal(1).startswith("nearer")
    assert not Certificate(1.0, 5, near_copy=False, realism=1).refusal(1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_film_that_repeats_a_training_film_is_refused_and_replaced(
    loaded: LoadedGenerator,
    records: list[FilmRecord],
    tmp_path: Path,
    mirrored: bool,
) -> None:
    film = films_of(loaded, [2], "covid")[0]
    path = tmp_path / "learned.png"
    learned_film = film[:, ::-1] if mirrored else film
    # Smaller pictures are read as no films.
    path.write_bytes(png(np.kron(learned_film, np.ones((4, 4), np.uint8))))
    patient = in_split(records, Split.TRAIN)[0].patient
    learned = [*records, FilmRecord(path, "covid", "generated", patient)]
    certifier = Certifier(loaded, learned, pixel_space, quiet=True)
    folder = SyntheticFolder(tmp_path / "made")
    outcome = synthesize(loaded, folder, Wanted(count=3, label="covid"), certifier)
    assert (outcome.written, outcome.refused) == (3, {"a near copy of a training film": 1})
    assert [Path(image).stem for image in folder.rows] == ["covid-0", "covid-1", "covid-3"]
    assert not list((tmp_path / "made").rglob("*covid-2*"))
    # A seed that was asked for by number is not replaced.
    outcome = synthesize(loaded, folder, Wanted(seeds=(1, 2, 5), label="covid"), certifier)
    assert (outcome.written, outcome.present, outcome.refused.total()) == (1, 1, 1)
    with pytest.raises(XrayError, match="no strip: a film in it is a near copy"):
        draw_way(loaded, tmp_path, (2, 5), 3, Wanted(label="covid"), certifier)


def test_embeddings_of_real_films_are_computed_once(
    loaded: LoadedGenerator, records: list[FilmRecord], tmp_path: Path
) -> None:
    cache, seen = tmp_path / "cache", [0]

    def counting() -> FeatureSpace:
        space = pixel_space()

        def embed(films: Films) -> Embeddings:
            seen[0] += len(films)
            return space.embed(films)

        return FeatureSpace("counting", "1" * 64, space.features, 64, embed)

    def certificates(cache: EmbeddingCache | None = None) -> list[Certificate]:
        certifier = Certifier(loaded, records, counting, cache=cache, quiet=True)
        certifier.prepare()
        return certifier.certify(films_of(loaded, [1, 2], "covid"), "covid")

    def looked_at(folder: Path) -> int:
        """How many films are embedded for the same certificates."""
        seen[0] = 0
        assert certificates(EmbeddingCache(folder)) == expected
        return seen[0]

    expected = certificates()
    real, own = 2 * (FILMS[Split.TRAIN] + 2 * FILMS[Split.VALIDATION]), 2 * 2
    assert looked_at(cache) == real + own
    assert looked_at(cache) == own
    files = sorted(cache.iterdir())
    assert len(files) == 3
    assert cache.stat().st_mode & 0o777 == 0o700
    files[0].write_bytes(files[0].read_bytes()[:50])
    np.save(files[1], np.zeros((1, 1), np.float32))
    assert own < looked_at(cache) < real + own
    assert looked_at(cache) == own
    # Another network, or films that were changed, find nothing.
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
        asked: list[Films] = []
        cache.points(space, sets[number], lambda films: asked.append(films) or space.embed(films))
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
    records: list[FilmRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(synthesis, "_CHUNK", 2)
    wanted, asked = Wanted(count=6, label="covid"), iter([False, True])
    outcome = synthesize(
        loaded, SyntheticFolder(tmp_path), wanted, None, should_stop=lambda: next(asked)
    )
    assert outcome.written == 4
    assert len(read_manifest(tmp_path)) == 4
    assert synthesize(loaded, SyntheticFolder(tmp_path), wanted, None).written == 2
    certifier = Certifier(loaded, records, pixel_space, quiet=True)
    with pytest.raises(CheckpointError, match="stopped before the real films"):
        synthesize(
            loaded, SyntheticFolder(tmp_path / "b"), wanted, certifier, should_stop=lambda: True
        )
    assert not (tmp_path / "b").exists()


def test_generator_that_repeats_everything_is_given_up(
    loaded: LoadedGenerator,
    certifier: Certifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certified(certifier, lambda number: COPY if number else FINE, monkeypatch)
    folder = SyntheticFolder(tmp_path)
    with pytest.raises(
        XrayError, match=r"2 of 3 film\(s\) are missing, for 29 were refused: a near"
    ):
        synthesize(loaded, folder, Wanted(count=3, label="covid"), certifier)
    assert [record.path.stem for record in read_manifest(tmp_path)] == ["covid-0"]


def test_same_command_adds_nothing_and_a_larger_one_goes_on(
    loaded: LoadedGenerator, certifier: Certifier, tmp_path: Path
) -> None:
    synthesize(loaded, SyntheticFolder(tmp_path), Wanted(count=4), certifier)
    before = snapshot(tmp_path)
    again = synthesize(loaded, SyntheticFolder(tmp_path), Wanted(count=4), certifier)
    assert (again.written, again.present) == (0, 4)
    assert snapshot(tmp_path) == before
    more = synthesize(loaded, SyntheticFolder(tmp_path), Wanted(count=6), certifier)
    assert (more.written, more.present) == (2, 4)
    # The same seeds made otherwise are other films.
    other = Wanted(count=2, truncation=0.5, mark=True)
    assert synthesize(loaded, SyntheticFolder(tmp_path), other, certifier).written == 2
    assert len(read_manifest(tmp_path)) == 8
    truncated = tmp_path / f"images/synthetic-{loaded.sha256[:12]}/covid-0-t0.5-marked.png"
    film = films_of(loaded, [0], "covid", truncation=0.5)[0]
    with Image.open(truncated) as image:
        assert np.array_equal(np.asarray(image), marked(film))


def test_another_generator_adds_its_films_beside(
    loaded: LoadedGenerator, records: list[FilmRecord], tmp_path: Path
) -> None:
    other = untrained(tmp_path / "g", records, tiny("resnet", labels="normal", seed=1, latent=9))
    folder = tmp_path / "made"
    synthesize(loaded, SyntheticFolder(folder), Wanted(count=2), None)
    # A generator of one class makes that class, conditional or not.
    synthesize(other, SyntheticFolder(folder), Wanted(count=2), None)
    made = read_manifest(folder)
    assert [record.label for record in made] == ["covid", "normal", "normal", "normal"]
    assert len({record.source for record in made}) == 2
    assert not (folder / CERTIFICATES).exists()


def test_films_without_certificate_get_one_later_or_go(
    loaded: LoadedGenerator,
    certifier: Certifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = Wanted(seeds=(0, 2))
    synthesize(loaded, SyntheticFolder(tmp_path), wanted, None)
    certified(certifier, [FINE, NEAR].__getitem__, monkeypatch)
    folder = SyntheticFolder(tmp_path)
    outcome = synthesize(loaded, folder, wanted, certifier)
    reason = "nearer to a training film than 99 % of held-out films"
    assert (outcome.written, outcome.refused) == (1, {reason: 1})
    assert [record.path.stem for record in read_manifest(tmp_path)] == ["covid-0"]
    assert [row["seed"] for row in rows_of(tmp_path / CERTIFICATES)] == ["0"]
    assert len(list(tmp_path.rglob("*.png"))) == 1
    # What was fine under a looser bound is looked at again under a stricter one.
    certified(certifier, [FINE, FINE].__getitem__, monkeypatch)
    strict = replace(wanted, refuse_below=55.0)
    assert synthesize(loaded, SyntheticFolder(tmp_path), strict, certifier).refused.total() == 2
    assert not (tmp_path / "manifest.csv").exists()
    assert SyntheticFolder(tmp_path).rows == {}


def test_full_disk_leaves_complete_films_and_the_same_command_goes_on(
    loaded: LoadedGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "_CHUNK", 2)
    write = synthetic_folder.write_whole
    room = 9  # two films with thumbnails and the manifest, two more films

    def cramped(path: Path, content: bytes) -> None:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= 1
        write(path, content)

    monkeypatch.setattr(synthetic_folder, "write_whole", cramped)
    wanted = Wanted(count=6, label="covid")
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
        files.write_whole(tmp_path / "film.png", b"film")
    assert not list(tmp_path.iterdir())


def test_folder_of_real_films_is_refused(records: list[FilmRecord], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"film")
    (tmp_path / "manifest.csv").write_text("image,label,source,patient\na.png,covid,s,p\n")
    with pytest.raises(DataError, match=r"1 film\(s\) that are not synthetic, such as a\.png"):
        SyntheticFolder(tmp_path)


def test_folder_that_changed_meanwhile_is_not_overwritten(
    loaded: LoadedGenerator, tmp_path: Path
) -> None:
    one, other = SyntheticFolder(tmp_path), SyntheticFolder(tmp_path)
    synthesize(loaded, one, Wanted(count=2), None)
    with pytest.raises(DataError, match="was changed by something else"):
        synthesize(loaded, other, Wanted(count=4), None)
    assert len(read_manifest(tmp_path)) == 2


def test_way_between_two_seeds_ends_with_their_films(
    loaded: LoadedGenerator, certifier: Certifier, tmp_path: Path
) -> None:
    wanted = Wanted(truncation=0.7)
    path = draw_way(loaded, tmp_path, (5, 8), 4, wanted, certifier)
    with Image.open(path) as image:
        strip, text = np.asarray(image), image.text  # type: ignore[attr-defined]
    assert strip.shape == (2 * SIDE, 4 * SIDE)
    for row, label in enumerate(LABELS):
        ends = films_of(loaded, [5, 8], label, truncation=0.7)
        band = strip[row * SIDE : (row + 1) * SIDE]
        assert np.array_equal(band[:, :SIDE], ends[0])
        assert np.array_equal(band[:, -SIDE:], ends[1])
        assert not np.array_equal(band[:, SIDE : 2 * SIDE], ends[0])
    assert text["synthetic"] == "true"
    assert (text["seed"], text["class"]) == ("5 to 8", "covid, normal")
    assert not (tmp_path / "manifest.csv").exists()


def test_classes_that_a_generator_cannot_make_are_refused(
    loaded: LoadedGenerator, records: list[FilmRecord], tmp_path: Path
) -> None:
    with pytest.raises(XrayError, match="makes covid, normal, not 'pneumonia'"):
        synthesize(loaded, SyntheticFolder(tmp_path), Wanted(count=1, label="pneumonia"), None)
    mixed = untrained(tmp_path / "g", records, tiny("resnet", labels="covid,normal"))
    with pytest.raises(XrayError, match="mixes covid, normal and cannot tell"):
        synthesize(mixed, SyntheticFolder(tmp_path), Wanted(count=1), None)


def test_too_few_real_films_make_no_certificate(
    loaded: LoadedGenerator, records: list[FilmRecord]
) -> None:
    fewer = in_split(records, Split.TRAIN) + in_split(records, Split.VALIDATION)[:30]
    with pytest.raises(DataError, match=r"validation split has \d+ film\(s\) of covid .* needs 20"):
        Certifier(loaded, fewer, pixel_space, quiet=True)


def test_films_that_nobody_took_count_for_nothing(
    loaded: LoadedGenerator, certifier: Certifier, records: list[FilmRecord], tmp_path: Path
) -> None:
    made = FilmRecord(tmp_path / "no-such.png", "covid", "s", "p", synthetic="0" * 64)
    ours = Certifier(loaded, [*records, made], pixel_space, quiet=True)
    assert ours.films_sha256 == certifier.films_sha256
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
        ("", "expected numbers"),
        ("-3", "expected numbers"),
        ("3-", "expected numbers"),
        ("1.5", "expected numbers"),
        ("1-2-3", "expected numbers"),
        ("9" * 5000, "expected numbers"),
        ("5-2", "lower one first"),
        (f"{2**32}", "expected 0 to"),
        ("0-1000000", "more than 1,000,000"),
        ("0-999999,1000000", "more than 1,000,000"),
    ],
)
def test_other_seeds_are_refused(text: str, message: str) -> None:
    with pytest.raises(XrayError, match=message):
        parse_seeds(text)


@pytest.mark.parametrize("side", [16, 64, 256])
def test_mark_is_white_letters_on_black_in_a_corner(side: int) -> None:
    film = np.full((side, side), 128, np.uint8)
    result = marked(film)
    changed = result != film
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    scale = max(1, side // 64)
    assert set(np.unique(result[changed])) == {0, 255}
    assert (rows[0], rows[-1]) == (side - 7 * scale, side - 1)
    assert columns[0] == 0
    # Nine letters, or three where the film is narrow.
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
    fields["options"] = GanOptions(**fields["options"])
    assert GeneratorCard(**fields).licence == ""
