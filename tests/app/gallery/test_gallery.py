"""The gallery: registering, finding page by page, pictures, images from seeds, downloads."""

import base64
import csv
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import delete, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.audit import AuditEvent
from app.core.errors import Conflict
from app.core.pagination import page_query
from app.core.rate_limit import RateLimit
from app.datasets.tables import DataVersion
from app.gallery.on_demand import MOST_PER_MINUTE, Generators, TooManyPictures
from app.gallery.queries import (
    GalleryFilter,
    gallery_page,
    generators_with_counts,
    neighbours,
    queries,
)
from app.gallery.registration import register_images
from app.gallery.tables import SyntheticImage, Visibility
from app.gallery.views import describe_privacy_check
from app.registry.registration import register_generator
from app.registry.tables import ModelVersion
from app.settings import Settings
from ml.data.manifest import read_synthetic_manifest
from ml.errors import BundleError, DataError
from ml.gan.onnx_generator import PRETRAINED, GeneratorGraph
from ml.gan.synthesis.watermark import marked
from tests.support.synthetic_set import LICENCE, SIDE, in_gallery, new_generator, new_set
from tests.support.tiny_models import write_generator

COVID, NORMAL = "covid", "normal"


@pytest.fixture
def session(application: FastAPI) -> Iterator[Session]:
    with application.state.services.database.sessions() as opened:
        yield opened


@pytest.fixture
def generator(session: Session) -> ModelVersion:
    model = new_generator(session)
    session.commit()
    return model


@pytest.fixture
def images(session: Session, settings: Settings, generator: ModelVersion) -> list[SyntheticImage]:
    """Two classes in turn, oldest first."""
    kinds = [(COVID, seed) if seed % 2 else (NORMAL, seed) for seed in range(12)]
    in_gallery(session, settings, generator, kinds)
    session.commit()
    return gallery_page(session, GalleryFilter(generator.sha256), None, 100).rows[::-1]


@pytest.fixture(scope="module")
def released(application: FastAPI, settings: Settings) -> str:
    with application.state.services.database.session() as opened:
        return register_generator(opened, settings, PRETRAINED, run=None, by="test").sha256


def folder_of(settings: Settings, version: DataVersion) -> Path:
    return settings.home.resolve() / version.folder


# --- registering -----------------------------------------------------------------------------


def test_registered_images_have_seed_and_privacy_check(
    session: Session, settings: Settings, generator: ModelVersion
) -> None:
    version = new_set(session, settings, generator, [(COVID, 7), (NORMAL, 2**32 - 1)])
    assert register_images(session, version, folder_of(settings, version)) == 2
    normal, covid = gallery_page(session, GalleryFilter(generator.sha256), None, 9).rows
    assert (covid.label, covid.seed, covid.nearest_percentile) == (COVID, "7", 44.25)
    assert covid.privacy_check["held_out_images"] == "214"
    assert (normal.label, normal.seed) == (NORMAL, str(2**32 - 1))


def test_registering_again_adds_what_is_missing(
    session: Session, settings: Settings, generator: ModelVersion
) -> None:
    version = new_set(session, settings, generator, [(COVID, seed) for seed in range(5)])
    folder = folder_of(settings, version)
    assert register_images(session, version, folder) == 5
    assert register_images(session, version, folder) == 0
    session.execute(delete(SyntheticImage).where(SyntheticImage.image.endswith("covid-3.png")))
    assert register_images(session, version, folder) == 1


def test_many_images_are_inserted_in_several_statements(
    session: Session,
    settings: Settings,
    generator: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.core.database._INSERTED_AT_ONCE", 4)
    version = new_set(session, settings, generator, [(COVID, seed) for seed in range(11)])
    assert register_images(session, version, folder_of(settings, version)) == 11


def test_images_without_privacy_check_say_so(
    session: Session, settings: Settings, generator: ModelVersion
) -> None:
    version = new_set(session, settings, generator, [(COVID, 99)], certified=False)
    register_images(session, version, folder_of(settings, version))
    hidden = GalleryFilter(generator.sha256, visibility=Visibility.HIDDEN)
    (image,) = gallery_page(session, hidden, None, 9).rows
    assert (image.seed, image.nearest_percentile, image.privacy_check) == ("99", None, {})
    assert "not compared with real images" in describe_privacy_check(image.privacy_check)[0]


def test_images_of_an_unknown_generator_are_refused(
    session: Session, settings: Settings, generator: ModelVersion
) -> None:
    stranger = ModelVersion(sha256="9" * 64)
    version = new_set(session, settings, stranger, [(COVID, 1)])
    with pytest.raises(Conflict, match="generator 999999999999, which is not registered"):
        register_images(session, version, folder_of(settings, version))


def test_real_images_are_refused(
    session: Session, settings: Settings, generator: ModelVersion
) -> None:
    version = new_set(session, settings, ModelVersion(sha256=""), [(COVID, 1)])
    with pytest.raises(Conflict, match="not synthetic"):
        register_images(session, version, folder_of(settings, version))


@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [
        ("options.conditional", None, "options.conditional is missing"),
        ("options.conditional", "yes", "options.conditional is 'yes', expected true or false"),
        ("options.size", True, "options.size is True, expected a whole number"),
        ("options.latent", None, "options.latent is missing"),
        ("options.labels", "Cat", "'Cat' is not the name of a class"),
        ("options", [], r"options is \[\], expected an object"),
        ("images_seen", None, "images_seen is missing"),
        ("code_version", 1, "code_version is 1, expected a text"),
        ("created_at", "yesterday", "created_at is 'yesterday', expected a moment"),
        ("images", {"covid": "many"}, "images.covid is 'many', expected a whole number"),
        ("notes", [1], "notes.0 is 1, expected a text"),
        ("metrics", {"spaces": [1]}, r"metrics.spaces.0 is 1, expected an object"),
        ("metrics", {"pixels": {}}, "metrics.pixels.diversity is missing"),
    ],
)
def test_generator_of_an_odd_card_is_refused_in_words(
    session: Session, settings: Settings, tmp_path: Path, part: str, value: object, fault: str
) -> None:
    """Every page of the gallery and of the quiz reads the cards of all generators."""
    card = write_generator(tmp_path)
    *way, name = part.split(".")
    inner = card[way[0]] if way else card
    inner[name] = value
    if value is None:
        del inner[name]
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match=fault):
        register_generator(session, settings, tmp_path, run=None, by="test")


def test_generator_whose_graph_is_not_as_its_card_says_is_refused(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    shutil.copytree(PRETRAINED, tmp_path / "g")
    card = json.loads((tmp_path / "g" / "card.json").read_text())
    card["options"] |= {"size": 128, "conditional": False}
    (tmp_path / "g" / "card.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match="differ in size, conditional"):
        register_generator(session, settings, tmp_path / "g", run=None, by="test")


# --- finding ---------------------------------------------------------------------------------


def test_pages_show_every_image_of_a_choice_once(
    session: Session, images: list[SyntheticImage], generator: ModelVersion
) -> None:
    for label in (None, COVID, NORMAL):
        wanted = [image.id for image in images[::-1] if label in (None, image.label)]
        found: list[int] = []
        cursor: str | None = None
        while found == [] or cursor:
            shown = gallery_page(session, GalleryFilter(generator.sha256, label), cursor, size=5)
            found += [image.id for image in shown.rows]
            cursor = shown.next_cursor
        assert found == wanted


def test_neighbours_are_of_the_same_class(
    session: Session, images: list[SyntheticImage], generator: ModelVersion
) -> None:
    covid = [image for image in images if image.label == COVID]
    assert neighbours(session, covid[2]) == (covid[3].id, covid[1].id)
    assert neighbours(session, covid[-1])[0] is None
    assert neighbours(session, covid[0])[1] is None


def test_shelves_count_the_images(
    session: Session, images: list[SyntheticImage], generator: ModelVersion
) -> None:
    (shelf,) = (
        one for one in generators_with_counts(session) if one.model.sha256 == generator.sha256
    )
    assert (shelf.images, shelf.total) == ({COVID: 6, NORMAL: 6}, 12)


@pytest.mark.parametrize(
    "choice",
    [GalleryFilter(), GalleryFilter(label=COVID), GalleryFilter("a"), GalleryFilter("a", COVID)],
)
def test_no_page_is_sorted_or_read_whole(
    session: Session, images: list[SyntheticImage], generator: ModelVersion, choice: GalleryFilter
) -> None:
    """Each query walks an index backwards, from the key on, and stops when its page is full."""
    engine = session.get_bind()
    is_sqlite = engine.dialect.name == "sqlite"
    dialect = sqlite.dialect() if is_sqlite else postgresql.dialect()
    if not is_sqlite:
        # Of a dozen rows the planner would rightly read them all.
        session.execute(text("SET LOCAL enable_seqscan = off"))
        session.execute(text("SET LOCAL enable_bitmapscan = off"))
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    columns = (SyntheticImage.id,)
    cursor = base64.urlsafe_b64encode(b"1000000").decode()
    choice = replace(choice, model=generator.sha256 if choice.model else None)
    for query in queries(session, choice):
        limited = page_query(query, columns, cursor, 61)
        sql = limited.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        plan = " ".join(str(row) for row in session.execute(text(f"{explain} {sql}")))
        assert re.search("USING (INDEX|INTEGER PRIMARY KEY)|Index Scan Backward", plan), plan
        assert not re.search("TEMP B-TREE|Sort", plan), plan
        # The key bounds the walk; it is no filter on rows that were read.
        assert re.search(r"rowid<\?|id<\?|Index Cond: .*id < 1000000", plan), plan


# --- pages -----------------------------------------------------------------------------------


def ids_in(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'data-id="(\d+)"', page)]


def test_gallery_leads_from_page_to_page(
    visitor: TestClient,
    images: list[SyntheticImage],
    generator: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.gallery.routes.PAGE_SIZE", 5)
    address, found = f"/gallery?model={generator.sha256}", []
    while address:
        page = visitor.get(address).text
        found += ids_in(page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        address = following[1].replace("&amp;", "&") if following else ""
    assert found == [image.id for image in images[::-1]]


def test_gallery_filters(
    visitor: TestClient, images: list[SyntheticImage], generator: ModelVersion
) -> None:
    page = visitor.get(f"/gallery?model={generator.sha256}&label={COVID}").text
    assert ids_in(page) == [image.id for image in images[::-1] if image.label == COVID]
    assert "COVID-19: 6" in page
    assert 'loading="lazy"' in page
    assert visitor.get(f"/gallery?label={COVID}&model=").status_code == 200


@pytest.mark.parametrize(
    "address",
    [
        "/gallery?label=cat",
        "/gallery?model=none",
        "/gallery?model=%00",
        "/gallery/999999",
        "/gallery/99999999999999999999",
        "/gallery/999999/image.png",
        "/gallery/x",
        "/gallery/make.png?model=none&label=covid&seed=1",
    ],
)
def test_what_is_not_there_is_404(visitor: TestClient, address: str) -> None:
    assert visitor.get(address).status_code == 404


def test_image_page_tells_its_origin_in_words(
    visitor: TestClient, images: list[SyntheticImage], generator: ModelVersion
) -> None:
    image = images[5]
    page = visitor.get(f"/gallery/{image.id}").text
    assert f"/models/{generator.sha256}" in page
    assert "percentile 42.2 among held-out images" in page or "percentile 42.3" in page
    assert "Neither the image nor its mirror image is a near copy" in page
    assert f"/gallery/{images[7].id}" in page
    assert f"/gallery/{images[3].id}" in page


def test_privacy_check_warns_of_what_is_near() -> None:
    near = {
        "nearest_percentile": "0.40",
        "pixel_percentile": "0.40",
        "embedding_percentile": "3.00",
        "near_copy": "yes",
        "realism": "0.8",
        "training_images": "100",
        "held_out_images": "20",
        "generator_learned_from_them": "no",
    }
    words = " ".join(describe_privacy_check(near))
    assert "Less than 1 % of the held-out images are as close" in words
    assert "It is a near copy" in words
    assert "outside the range" in words
    assert "trained on other images" in words


# --- pictures --------------------------------------------------------------------------------


def picture(client: TestClient, address: str) -> Image.Image:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    return Image.open(io.BytesIO(answer.content))


def carries_the_word(image: Image.Image) -> bool:
    """Whether the lower left corner is that of a marked image."""
    pixels = np.asarray(image.convert("L")) > 128
    for scale in range(1, min(9, image.height // 8)):
        blank = np.zeros((image.height, image.width), np.uint8)
        word = marked(blank, scale) > 128
        rows, columns = 6 * scale, int(np.flatnonzero(word.any(axis=0)).max()) + 1
        if (word[-rows:, :columns] == pixels[-rows:, :columns]).mean() > 0.97:
            return True
    return False


def test_pictures_carry_the_word_and_the_file_its_origin(
    visitor: TestClient, images: list[SyntheticImage]
) -> None:
    image = images[1]
    large = picture(visitor, f"/gallery/{image.id}/image.png")
    assert large.size == (512, 512)
    assert carries_the_word(large)
    assert large.text["seed"] == image.seed
    assert carries_the_word(picture(visitor, f"/gallery/{image.id}/thumbnail.jpg"))
    stored = picture(visitor, f"/gallery/{image.id}/download.png")
    assert stored.size == (SIDE, SIDE)
    assert not carries_the_word(stored)
    assert stored.text["synthetic"] == "true"


def test_thumbnail_is_made_once_and_kept(
    session: Session, settings: Settings, visitor: TestClient, images: list[SyntheticImage]
) -> None:
    image = images[2]
    version = session.get_one(DataVersion, image.data_sha256)
    kept = folder_of(settings, version) / "thumbnails" / f"{image.image}.jpg"
    assert not kept.exists()
    first = visitor.get(f"/gallery/{image.id}/thumbnail.jpg").content
    assert kept.read_bytes() == first
    kept.write_bytes(b"as it was made")
    assert visitor.get(f"/gallery/{image.id}/thumbnail.jpg").content == b"as it was made"


def test_image_whose_file_is_gone_is_404(
    session: Session, settings: Settings, visitor: TestClient, images: list[SyntheticImage]
) -> None:
    image = images[4]
    version = session.get_one(DataVersion, image.data_sha256)
    (folder_of(settings, version) / image.image).unlink()
    for picture_name in ("image.png", "thumbnail.jpg", "download.png"):
        assert visitor.get(f"/gallery/{image.id}/{picture_name}").status_code == 404


@pytest.mark.parametrize("outside", ["../secret.key", "link.png"])
def test_images_outside_of_their_set_are_not_taken_in(
    session: Session,
    settings: Settings,
    generator: ModelVersion,
    outside: str,
) -> None:
    version = new_set(session, settings, generator, [(COVID, 1)])
    folder = folder_of(settings, version)
    (folder.parent / "secret.key").write_bytes(b"secret")
    (folder / "link.png").symlink_to(folder.parent / "secret.key")
    manifest = folder / "manifest.csv"
    (image,) = folder.rglob("covid-*.png")
    inside = image.relative_to(folder).as_posix()
    manifest.write_text(manifest.read_text().replace(inside, outside))
    with pytest.raises(DataError, match="outside the data set"):
        register_images(session, version, folder)


@pytest.mark.parametrize("name", ["image.png", "thumbnail.jpg", "download.png"])
def test_link_that_leads_out_of_a_set_is_not_followed(
    session: Session,
    settings: Settings,
    visitor: TestClient,
    images: list[SyntheticImage],
    name: str,
) -> None:
    image = images[0]
    folder = folder_of(settings, session.get_one(DataVersion, image.data_sha256))
    stranger = folder.parent / f"stranger-{image.id}.png"
    (folder / image.image).rename(stranger)
    (folder / image.image).symlink_to(stranger)
    assert visitor.get(f"/gallery/{image.id}/{name}").status_code == 404
    answer = visitor.post("/gallery/download", data={"image": str(image.id)})
    assert answer.status_code == 404
    # Nor where the link is the folder of the thumbnails.
    (folder / image.image).unlink()
    stranger.rename(folder / image.image)
    (folder / "thumbnails").symlink_to(folder.parent)
    assert visitor.get(f"/gallery/{image.id}/thumbnail.jpg").status_code == 404


# --- made on the spot --------------------------------------------------------------------------


def test_image_of_a_seed_is_always_the_same(visitor: TestClient, released: str) -> None:
    address = f"/gallery/make.png?model={released}&label=covid&seed=42"
    made = picture(visitor, address)
    assert carries_the_word(made)
    assert (made.text["seed"], made.text["class"]) == ("42", "covid")
    assert visitor.get(address).content == visitor.get(address).content
    (image,) = GeneratorGraph.load(PRETRAINED).images([42], "covid")
    whole = np.asarray(Image.fromarray(image).resize((512, 512), Image.Resampling.BICUBIC))
    assert (np.asarray(made)[:400] == whole[:400]).all()


def test_make_without_a_seed_leads_to_any(visitor: TestClient, released: str) -> None:
    address = f"/gallery/make?model={released}&label=normal"
    first, second = (visitor.get(address).headers["location"] for _ in range(2))
    assert first != second
    page = visitor.get(first)
    assert page.status_code == 200
    assert "/gallery/make.png?model=" in page.text


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("label=covid&seed=4294967296", "Enter a whole number from 0 to 4294967295"),
        ("label=covid&seed=-1", "Enter a whole number"),
        ("label=covid&seed=²", "Enter a whole number"),
        ("label=cat&seed=1", "classes: COVID-19, Pneumonia, Normal"),
        ("model=none&seed=1", "This generator is not available"),
    ],
)
def test_make_says_what_is_wrong(
    visitor: TestClient, released: str, query: str, fault: str
) -> None:
    answer = visitor.get(f"/gallery/make?{query}")
    assert answer.status_code == 422
    assert fault in answer.text
    assert "make.png" not in answer.text


def test_way_between_two_seeds_ends_in_their_images(visitor: TestClient, released: str) -> None:
    same = f"model={released}&label=normal"
    strip = np.asarray(picture(visitor, f"/gallery/between.png?{same}&from=3&to=9&steps=4"))
    assert strip.shape == (256, 4 * 256)
    first, last = GeneratorGraph.load(PRETRAINED).images([3, 9], "normal")
    for image, frame in ((first, strip[:, :256]), (last, strip[:, -256:])):
        whole = np.asarray(Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC))
        assert np.abs(frame[:200].astype(int) - whole[:200]).max() <= 2
        assert carries_the_word(Image.fromarray(frame))


def test_between_page_needs_no_script(visitor: TestClient, released: str) -> None:
    same = f"model={released}&label=normal"
    page = visitor.get(f"/gallery/between?{same}&from=3&to=9&steps=5").text
    assert page.count("Synthetic image") == 5
    assert visitor.get(f"/gallery/between?{same}&from=3").status_code == 303
    for fault in ("from=3&to=x", "from=3&to=9&steps=99", "from=3&to=9&steps=1"):
        assert visitor.get(f"/gallery/between?{same}&{fault}").status_code == 422


def test_generators_are_loaded_once_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(folder: Path) -> object:
        loaded.append(folder.name)
        return object()

    monkeypatch.setattr(GeneratorGraph, "load", load)
    generators = Generators()
    for name in ("a", "b", "a", "c", "a", "b"):
        generators.get(tmp_path / name)
    assert loaded == ["a", "b", "c", "b"]


def test_one_address_cannot_have_images_made_without_end() -> None:
    generators = Generators()
    for _ in range(MOST_PER_MINUTE):
        with generators.turn("192.0.2.1"):
            pass
    with pytest.raises(TooManyPictures), generators.turn("192.0.2.1"):
        pass
    with generators.turn("192.0.2.2"):
        pass


@pytest.mark.parametrize(
    "address",
    [
        "make.png?model={}&label=covid&seed=1",
        "between.png?model={}&label=covid&from=1&to=2",
        "samples/{}.png",
    ],
)
def test_nothing_is_loaded_or_drawn_for_an_address_that_had_too_much(
    application: FastAPI,
    visitor: TestClient,
    released: str,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    loaded: list[Path] = []
    generators = application.state.services.generators
    monkeypatch.setattr(generators, "get", loaded.append)
    monkeypatch.setattr(generators, "_pictures", RateLimit(0, 60))
    assert visitor.get(f"/gallery/{address.format(released)}").status_code == 429
    assert loaded == []


def test_generator_without_a_graph_makes_nothing(
    application: FastAPI, settings: Settings, visitor: TestClient, generator: ModelVersion
) -> None:
    answer = visitor.get(f"/gallery/make.png?model={generator.sha256}&label=covid&seed=1")
    assert answer.status_code == 409


def test_samples_of_a_generator_are_marked(visitor: TestClient, released: str) -> None:
    assert carries_the_word(picture(visitor, f"/gallery/samples/{released}.png"))


# --- downloads ---------------------------------------------------------------------------------


def unpacked(content: bytes, folder: Path) -> Path:
    zipfile.ZipFile(io.BytesIO(content)).extractall(folder)
    return folder / "synthetic-images"


@pytest.mark.parametrize("with_script", [True, False])
def test_selection_is_a_data_set(
    session: Session,
    settings: Settings,
    visitor: TestClient,
    images: list[SyntheticImage],
    tmp_path: Path,
    with_script: bool,
) -> None:
    wanted = [images[1], images[3], images[8]]
    ids = [str(image.id) for image in wanted]
    fields = {"images": ",".join(ids)} if with_script else {"image": ids, "images": ""}
    answer = visitor.post("/gallery/download", data=fields)
    assert answer.headers["content-type"] == "application/zip"
    folder = unpacked(answer.content, tmp_path)
    records = read_synthetic_manifest(folder)
    assert {record.label for record in records} == {COVID, NORMAL}
    assert {record.license for record in records} == {LICENCE}
    with (folder / "privacy_checks.csv").open(newline="") as lines:
        assert {row["seed"] for row in csv.DictReader(lines)} == {image.seed for image in wanted}
    for record in records:
        with Image.open(record.path) as image:
            assert image.text["generator_sha256"] == wanted[0].model_sha256
            assert not carries_the_word(image)
    assert "No person was X-rayed" in (folder / "README.txt").read_text()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {image.image for image in wanted}
    assert names == {"README.txt", "manifest.csv", "privacy_checks.csv"} | files
    for image in wanted:
        version = session.get_one(DataVersion, image.data_sha256)
        stored = folder_of(settings, version) / image.image
        assert (folder / image.image).read_bytes() == stored.read_bytes()


def test_same_image_of_two_sets_comes_once(
    session: Session,
    settings: Settings,
    visitor: TestClient,
    generator: ModelVersion,
    tmp_path: Path,
) -> None:
    other = new_generator(session)
    for model, seeds in ((generator, (1, 2)), (generator, (2, 3)), (other, (2,))):
        in_gallery(session, settings, model, [(COVID, seed) for seed in seeds])
    session.commit()
    chosen = [
        image
        for model in (generator, other)
        for image in gallery_page(session, GalleryFilter(model.sha256), None, 9).rows
    ]
    assert len(chosen) == 5
    answer = visitor.post("/gallery/download", data={"image": [str(image.id) for image in chosen]})
    assert len(read_synthetic_manifest(unpacked(answer.content, tmp_path))) == 4


def test_sets_that_name_their_images_alike_do_not_overwrite_each_other(
    session: Session, settings: Settings, visitor: TestClient, tmp_path: Path
) -> None:
    for model in (new_generator(session), new_generator(session)):
        version = new_set(session, settings, model, [(COVID, 5)])
        folder = folder_of(settings, version)
        (image,) = folder.rglob("*.png")
        image.rename(folder / "images" / "1.png")
        manifest = folder / "manifest.csv"
        old = image.relative_to(folder).as_posix()
        manifest.write_text(manifest.read_text().replace(old, "images/1.png"))
        register_images(session, version, folder)
    session.commit()
    ids = [str(image.id) for image in gallery_page(session, GalleryFilter(), None, 2).rows]
    answer = visitor.post("/gallery/download", data={"image": ids})
    records = read_synthetic_manifest(unpacked(answer.content, tmp_path))
    assert len({record.path for record in records}) == 2
    assert len({record.synthetic for record in records}) == 2


def test_download_of_nothing_says_what_to_do(visitor: TestClient) -> None:
    for fields in ({}, {"images": "x,y"}, {"image": ["999999999"]}):
        answer = visitor.post("/gallery/download", data=fields)
        assert answer.status_code == 422
        assert "No image is selected." in answer.text


def test_download_is_bounded(visitor: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    too_many = ",".join(str(number) for number in range(1, 5002))
    assert visitor.post("/gallery/download", data={"images": too_many}).status_code == 413
    assert visitor.post("/gallery/download", data={"images": "1" * 200_000}).status_code == 413


def test_download_is_for_our_own_pages(
    visitor: TestClient, images: list[SyntheticImage], new_clinic: Callable[[str], TestClient]
) -> None:
    answer = visitor.post(
        "/gallery/download",
        data={"image": str(images[0].id)},
        headers={"sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 403


# --- who sees an image -----------------------------------------------------------------------


def unchecked_image(session: Session, settings: Settings, generator: ModelVersion) -> int:
    """Register an image that had no privacy check; its number."""
    version = new_set(session, settings, generator, [(COVID, 5)], certified=False)
    register_images(session, version, folder_of(settings, version))
    session.commit()
    hidden = GalleryFilter(generator.sha256, visibility=Visibility.HIDDEN)
    (image,) = gallery_page(session, hidden, None, 9).rows
    return image.id


def pages_of(number: int) -> list[str]:
    own = f"/gallery/{number}"
    return [own, f"{own}/thumbnail.jpg", f"{own}/image.png", f"{own}/download.png"]


def test_unchecked_image_is_not_public_until_an_admin_publishes_it(
    session: Session,
    settings: Settings,
    generator: ModelVersion,
    visitor: TestClient,
    clinician: TestClient,
    admin: TestClient,
) -> None:
    number = unchecked_image(session, settings, generator)
    listed, link = f"/gallery?model={generator.sha256}", f"/gallery/{number}/thumbnail"
    for page in pages_of(number):
        assert visitor.get(page).status_code == 404
        assert clinician.get(page).status_code == 404
        answer = admin.get(page)
        assert answer.status_code == 200
        assert "public" not in answer.headers["cache-control"]
    for hidden in ("", "&shown=hidden"):
        assert link not in visitor.get(listed + hidden).text
    refused = visitor.post("/gallery/download", data={"image": str(number)})
    assert refused.status_code == 422
    assert "not public" in admin.get("/gallery").text
    assert link in admin.get(f"{listed}&shown=hidden").text
    assert link not in admin.get(listed).text

    published = {"image": str(number), "change": "publish"}
    assert (
        visitor.post("/gallery/visibility", data=published).headers["location"].startswith("/sign")
    )
    assert clinician.post("/gallery/visibility", data=published).status_code == 403
    foreign = {"origin": "https://elsewhere.example"}
    assert admin.post("/gallery/visibility", data=published, headers=foreign).status_code == 403
    assert visitor.get(f"/gallery/{number}").status_code == 404
    assert admin.post("/gallery/visibility", data=published).status_code == 303
    assert link in visitor.get(listed).text
    for page in pages_of(number):
        assert visitor.get(page).status_code == 200


def test_image_is_hidden_and_removed_for_good(
    session: Session,
    settings: Settings,
    generator: ModelVersion,
    images: list[SyntheticImage],
    visitor: TestClient,
    admin: TestClient,
) -> None:
    first, second, kept = (image.id for image in images[:3])
    assert admin.post(
        "/gallery/visibility", data={"image": str(first), "change": "hide"}
    ).is_redirect
    assert visitor.get(f"/gallery/{first}").status_code == 404
    both = {"images": f"{first},{second}", "change": "remove"}
    asked = admin.post("/gallery/visibility", data=both)
    assert "Remove 2 images from the gallery?" in asked.text
    assert visitor.get(f"/gallery/{second}").status_code == 200
    assert admin.post("/gallery/visibility", data=both | {"confirmed": "yes"}).is_redirect
    for number in (first, second):
        for page in pages_of(number):
            assert admin.get(page).status_code == 404
    # Nothing brings it back: neither publishing nor registering its data set again.
    admin.post("/gallery/visibility", data={"image": str(first), "change": "publish"})
    version = session.get_one(DataVersion, images[0].data_sha256)
    assert register_images(session, version, folder_of(settings, version)) == 0
    session.commit()
    assert admin.get(f"/gallery/{first}").status_code == 404
    assert visitor.get(f"/gallery/{kept}").status_code == 200
    actions = session.scalars(select(AuditEvent.action).where(AuditEvent.action.like("image.%")))
    assert {"image.hidden", "image.removed"} <= set(actions)


@pytest.mark.parametrize("sent", [{}, {"change": "publish"}, {"change": "burn", "image": "1"}])
def test_nonsense_changes_no_image(admin: TestClient, sent: dict[str, str]) -> None:
    assert admin.post("/gallery/visibility", data=sent).status_code == 422
