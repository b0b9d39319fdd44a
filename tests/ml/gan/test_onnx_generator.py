"""A generator without torch: the same images from the same seeds, and nobody else's graph."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ml.data.manifest import ImageRecord
from ml.errors import BundleError, XrayError
from ml.gan.generator_file import GENERATOR, LoadedGenerator, load_generator
from ml.gan.latents import SEEDS, interpolate_latents, latents_of
from ml.gan.onnx_export import export_graph, require_same_images
from ml.gan.onnx_generator import CARD, GRAPH, PRETRAINED, GeneratorGraph, class_number
from ml.gan.release import SHEET, write_beside
from ml.gan.sampling import grid_of, images_of_latents, sample_images
from ml.imaging.types import GreyImages
from tests.support import REPOSITORY
from tests.support.gan_world import LABELS, SIDE, tiny, untrained, write_images

# What an installation that only serves does not have.
TRAINING_ONLY = ("torch", "torchvision", "onnx", "onnxscript", "safetensors", "sklearn", "timm")


def gap(one: GreyImages, other: GreyImages) -> int:
    """The largest difference of two sets of images, in grey levels."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def torch_latents(seeds: range, length: int) -> NDArray[np.float32]:
    """Latents as torch's own generator gives them on a processor."""
    rows = [torch.randn(length, generator=torch.Generator().manual_seed(s)) for s in seeds]
    latents: NDArray[np.float32] = torch.stack(rows).numpy()
    return latents


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def released(
    records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LoadedGenerator]:
    """The folder of a generator of two classes, and what torch loads from it."""
    folder = tmp_path_factory.mktemp("release")
    options = tiny("resnet", labels=",".join(LABELS), conditional=True, latent=20)
    loaded = untrained(folder / GENERATOR, records, options)
    write_beside(folder)
    return folder, loaded


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 32, 33, 128, 4096])
def test_latents_are_those_of_torch(length: int) -> None:
    ours, theirs = latents_of(range(20), length), torch_latents(range(20), length)
    # In blocks torch takes single precision on the way, differently on each processor.
    tolerance = 3e-6 if length >= 16 else 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    last = latents_of([SEEDS - 1], length)
    np.testing.assert_allclose(last, torch_latents(range(SEEDS - 1, SEEDS), length), atol=3e-6)


def test_latents_come_from_their_seed_alone() -> None:
    latents = latents_of([3, 2**31], 512)
    assert latents.dtype == np.float32
    assert np.array_equal(latents_of([2**31], 512)[0], latents[1])
    assert not np.array_equal(latents[0], latents[1])
    np.testing.assert_allclose(latents_of([3], 512, 0.5)[0], latents[0] / 2)
    assert latents_of([], 8).shape == (0, 8)
    for seed in (-1, SEEDS):
        with pytest.raises(
            XrayError, match=f"Seed {seed} is out of range. Give a seed from 0 to 4294967295"
        ):
            latents_of([seed], 8)


def test_interpolate_latents_latents_stays_on_the_sphere() -> None:
    ends = latents_of([3, 4], 512)
    way = interpolate_latents(ends, 5)
    assert way.shape == (5, 512)
    assert np.array_equal(way[[0, -1]], ends)
    # A straight line would lose a third of the length in the middle.
    assert np.linalg.norm(way[2]) > 0.9 * np.linalg.norm(ends, axis=1).min()
    middle, sum_of_ends = way[2], ends.sum(axis=0)
    cosine = middle @ sum_of_ends / np.linalg.norm(middle) / np.linalg.norm(sum_of_ends)
    assert cosine == pytest.approx(1)
    still = interpolate_latents(latents_of([3, 3], 512), 3)
    np.testing.assert_allclose(still[1], ends[0], rtol=1e-6)


def test_graph_makes_the_images_of_torch(released: tuple[Path, LoadedGenerator]) -> None:
    folder, loaded = released
    graph = GeneratorGraph.load(folder)
    assert (graph.sha256, graph.labels) == (loaded.sha256, LABELS)
    assert (graph.size, graph.latent) == (SIDE, 20)
    assert graph.facts.conditional
    for number, label in enumerate(LABELS):
        images = graph.images(range(7), label)
        assert (images.dtype, images.shape) == (np.uint8, (7, SIDE, SIDE))
        assert gap(images, sample_images(loaded.network, range(7), number, length=20)) <= 1
        paler = sample_images(loaded.network, [5], number, length=20, truncation=0.5)
        assert gap(graph.images([5], label, truncation=0.5), paler) <= 1
        assert np.array_equal(graph.images([5], label)[0], images[5])
    assert gap(graph.images([1], "covid"), graph.images([1], "normal")) > 1
    assert graph.images([], "covid").shape == (0, SIDE, SIDE)


def test_interpolate_latents_two_images(released: tuple[Path, LoadedGenerator]) -> None:
    folder, loaded = released
    graph = GeneratorGraph.load(folder)
    way = graph.between(8, 2, 5, "normal")
    assert np.array_equal(way[[0, -1]], graph.images([8, 2], "normal"))
    expected = images_of_latents(
        loaded.network, interpolate_latents(latents_of([8, 2], 20), 5), [1] * 5
    )
    assert gap(way, expected) <= 1


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("gan", {"labels": "covid"}),
        ("wgan-gp", {"labels": "normal,covid", "conditional": True, "size": 20}),
        ("projected", {"labels": "normal,covid", "conditional": True, "size": 32}),
    ],
)
def test_other_networks_become_graphs_too(
    records: list[ImageRecord], tmp_path: Path, preset: str, changes: dict[str, object]
) -> None:
    loaded = untrained(tmp_path / GENERATOR, records, tiny(preset, **changes))
    graph = GeneratorGraph(export_graph(loaded))
    assert graph.size == loaded.card.options.size
    for number, label in enumerate(loaded.labels):
        expected = sample_images(loaded.network, [20, 21], number, length=8)
        assert gap(graph.images([20, 21], label), expected) <= 1


def test_images_that_nobody_can_ask_for_are_refused(released: tuple[Path, LoadedGenerator]) -> None:
    graph = GeneratorGraph.load(released[0])
    for label in ("pneumonia", ""):
        with pytest.raises(XrayError, match=f"makes covid, normal, not '{label}'"):
            graph.images([1], label)
    with pytest.raises(XrayError, match="Seed -1 is out of range"):
        graph.between(1, -1, 3, "covid")
    with pytest.raises(XrayError, match="mixes covid, normal, so the class"):
        class_number("covid", LABELS, conditional=False)
    assert class_number("covid", ["covid"], conditional=False) == 0


def test_graph_that_makes_other_images_than_torch_is_refused(
    released: tuple[Path, LoadedGenerator],
) -> None:
    folder, loaded = released
    graph = GeneratorGraph.load(folder)
    require_same_images(loaded, graph)
    changed = load_generator(folder / GENERATOR)
    with torch.no_grad():
        changed.network.get_parameter("image.bias").add_(0.1)
    with pytest.raises(BundleError, match=r"The graph's images of covid differ from torch by \d+"):
        require_same_images(changed, graph)


def test_damaged_or_foreign_files_are_refused(
    released: tuple[Path, LoadedGenerator], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(released[0], folder)
    whole, card = (folder / GRAPH).read_bytes(), json.loads((folder / CARD).read_text())

    def refused(graph: bytes, card_text: str) -> str:
        (folder / GRAPH).write_bytes(graph)
        (folder / CARD).write_text(card_text)
        with pytest.raises(BundleError) as caught:
            GeneratorGraph.load(folder)
        return str(caught.value)

    assert "is damaged or was changed" in refused(whole[:-1], json.dumps(card))
    assert "of different generators" in refused(whole, json.dumps(card | {"sha256": "0" * 64}))
    for text in ("{", "[]"):
        assert "card.json is not a card" in refused(whole, text)
    (folder / GRAPH).unlink()
    with pytest.raises(BundleError, match=r"no generator\.onnx in"):
        GeneratorGraph.load(folder)
    with pytest.raises(BundleError, match="is not the graph of a generator"):
        GeneratorGraph(whole[:100])
    classifier = REPOSITORY / "ml" / "pretrained" / "classifier" / "classifier.onnx"
    with pytest.raises(BundleError, match=r"is not the graph of a generator \(KeyError\)"):
        GeneratorGraph(classifier.read_bytes())


def test_graph_says_nothing_of_where_it_was_made(released: tuple[Path, LoadedGenerator]) -> None:
    for content in ((released[0] / GRAPH).read_bytes(), (PRETRAINED / GRAPH).read_bytes()):
        assert b".py" not in content
        model = onnx.load_model_from_string(content)
        assert [prop.key for prop in model.metadata_props] == ["generator"]


def test_released_graph_makes_the_images_of_the_released_generator() -> None:
    loaded, graph = load_generator(PRETRAINED / GENERATOR), GeneratorGraph.load(PRETRAINED)
    assert graph.sha256 == loaded.sha256
    assert graph.labels == loaded.labels
    assert (PRETRAINED / GRAPH).stat().st_size < 4.2e6
    options = loaded.card.options
    for number, label in enumerate(loaded.labels):
        # With torch's own latents: images of before are images of today.
        theirs = torch_latents(range(64), options.latent)
        expected = images_of_latents(loaded.network, theirs, [number] * 64)
        assert gap(sample_images(loaded.network, range(64), number, length=128), expected) <= 1
        assert gap(graph.images(range(64), label), expected) <= 1
    with Image.open(PRETRAINED / SHEET) as sheet:
        shown = np.asarray(sheet)
    labels = graph.labels
    images = np.stack([graph.images([n], labels[n % len(labels)])[0] for n in range(64)])
    # Another processor rounds otherwise; another seed would differ by dozens of grey levels.
    assert gap(grid_of(images, 8), shown) <= 4


def test_images_are_made_where_only_the_web_is_installed() -> None:
    program = f"""
import sys
for name in {TRAINING_ONLY}:
    sys.modules[name] = None  # importing it fails
from ml.gan.onnx_generator import PRETRAINED, GeneratorGraph
graph = GeneratorGraph.load(PRETRAINED)
print(graph.images([1], "covid").shape, graph.between(1, 2, 3, "normal").shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 64, 64) (3, 64, 64)\n"
