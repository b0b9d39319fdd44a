"""Feature spaces: the same image, the same point, whatever comes with it and at whatever size."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from ml.classifier.bundle import PRETRAINED, read_bundle
from ml.classifier.predictor import Predictor
from ml.errors import BundleError, XrayError
from ml.gan.evaluation import features
from ml.gan.evaluation.features import FeatureSpace, GreyImages, feature_space, resize
from ml.gan.evaluation.kid import kid
from ml.imagenet import efficientnet_lite, frozen
from tests.support.images import synthetic_image


def images_of(count: int, side: int) -> GreyImages:
    random = np.random.default_rng(side)
    return np.stack([synthetic_image(random, side, side) for _ in range(count)])


@pytest.fixture(scope="module", params=[features.IMAGENET, features.CLASSIFIER])
def space(request: pytest.FixtureRequest) -> FeatureSpace:
    return feature_space(request.param)


def test_embedding_does_not_depend_on_the_batch(space: FeatureSpace) -> None:
    images = images_of(11, 64)
    together = space.embed(images)
    assert together.shape == (11, space.features)
    assert together.dtype == np.float32
    alone = np.concatenate([space.embed(image[None]) for image in images])
    backwards = space.embed(images[::-1])[::-1]
    for other in (alone, backwards):
        assert np.abs(other - together).max() < 1e-4 * np.abs(together).max()
    assert (space.embed(images) == together).all()
    # Different images are different points.
    assert np.abs(together[0] - together[1]).max() > 0.01 * np.abs(together).max()


def test_embedding_takes_images_of_any_size(space: FeatureSpace) -> None:
    steps: list[int] = []
    for side in (16, 128, 256):
        embeddings = space.embed(images_of(2, side), on_step=steps.append)
        assert np.isfinite(embeddings).all()
        assert embeddings.std() > 0
    assert sum(steps) == 6
    assert space.embed(np.empty((0, 64, 64), np.uint8)).shape == (0, space.features)


def test_blank_and_mirrored_images_have_embeddings(space: FeatureSpace) -> None:
    blank = space.embed(np.full((1, 32, 32), 90, np.uint8))
    assert np.isfinite(blank).all()
    image = images_of(1, 32)
    mirrored = space.embed(image[:, :, ::-1])
    assert (mirrored == space.embed(image[:, :, ::-1].copy())).all()
    assert (mirrored != space.embed(image)).any()


def test_images_of_another_kind_are_refused(space: FeatureSpace) -> None:
    for images in (np.zeros((2, 16, 16), np.float32), np.zeros((16, 16), np.uint8)):
        with pytest.raises(ValueError, match="uint8 images"):
            space.embed(images)


def test_classifier_space_is_the_bundles_own_embedding() -> None:
    space = feature_space(features.CLASSIFIER)
    card, graph = read_bundle(PRETRAINED)
    assert space.sha256 == card.sha256 == hashlib.sha256(graph).hexdigest()
    assert space.title == f"classifier ({card.sha256[:12]})"
    images = images_of(2, card.input_size)
    expected = [answer.embedding for answer in Predictor.load(PRETRAINED).predict_batch(images)]
    assert np.allclose(space.embed(images), expected, rtol=1e-4, atol=1e-5)


def test_imagenet_space_is_named_by_its_weights_and_leaves_the_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    space = feature_space(features.IMAGENET, device=torch.device("cpu"))
    assert torch.equal(torch.rand(1), expected)
    assert space.title.startswith("efficientnet-lite0 (")
    assert len(space.sha256) == 64
    assert space.features == 1280


def test_saving_an_image_once_more_does_not_move_the_kid_of_the_judge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "_JUDGE_SIDE", 64)
    judge = feature_space(features.JUDGE)
    images = images_of(96, 64)
    saved = features.saved_as_jpeg(images)
    assert (saved != images).any()
    some, others = judge.embed(images[:48]), judge.embed(images[48:])
    difference = kid(some, others, draws=0)
    saved_difference = kid(some, judge.embed(saved[48:]), draws=0)
    assert abs(saved_difference.value - difference.value) < difference.spread / 2
    # The same images, darker by a tenth, are farther away than that.
    darker = judge.embed((images[48:] * 0.9).astype(np.uint8))
    assert kid(some, darker, draws=0).value > difference.value + difference.spread


def test_judge_is_another_network_than_the_one_that_critics_see() -> None:
    judge = feature_space(features.JUDGE)
    assert judge.title.startswith("efficientnet-lite2 (")
    assert judge.sha256 != feature_space(features.IMAGENET).sha256
    assert judge.features == 1280


@pytest.mark.parametrize("version", [0, 2])
def test_folded_batch_norms_change_no_feature(version: int) -> None:
    network = efficientnet_lite(version, pretrained=True).eval()
    images = resize(images_of(2, 64), 64) * 2 - 1
    with torch.inference_mode():
        expected = network(images)
        folded = frozen(network)(images)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())
    assert torch.allclose(folded, expected, atol=1e-3 * float(expected.abs().max()))


def test_resizing_keeps_greys_and_is_exact_at_its_own_size() -> None:
    images = images_of(2, 64)
    assert torch.equal(resize(images, 64)[:, 0], torch.from_numpy(images) / 255)
    larger = resize(images, 224)
    assert larger.shape == (2, 1, 224, 224)
    assert larger.mean() == pytest.approx(images.mean() / 255, abs=0.01)
    assert torch.allclose(resize(np.full((1, 256, 256), 51, np.uint8), 224), torch.tensor(0.2))


def test_unknown_space_and_missing_bundle_are_named(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="efficientnet-lite0, efficientnet-lite2, classifier"):
        feature_space("vgg")
    with pytest.raises(BundleError, match=r"no card\.json"):
        feature_space(features.CLASSIFIER, bundle=tmp_path)


def test_inception_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(XrayError, match="pip install torch-fidelity"):
        feature_space(features.INCEPTION)


def test_inception_is_never_fetched_and_reads_grey_images_in_colour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Extractor(nn.Module):
        """Answers as the library's network does: a tuple of features of 8-bit pictures."""

        def __init__(self, name: str, wanted: list[str], *, feature_extractor_weights_path: str):
            super().__init__()
            assert (name, wanted) == ("inception-v3-compat", ["2048"])
            assert Path(feature_extractor_weights_path).is_file()

        def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor]:
            assert pictures.dtype == torch.uint8
            assert pictures.shape[1:] == (3, 16, 16)
            return (pictures.float().mean(dim=(2, 3)).repeat(1, 683)[:, :2048],)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(XrayError, match="no file of Inception's weights"):
        feature_space(features.INCEPTION, weights=tmp_path / "none.pth")
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    with pytest.raises(XrayError, match=r"not 6726825d.*.*Download pt_inception"):
        feature_space(features.INCEPTION, weights=weights)
    monkeypatch.setattr(features, "_INCEPTION_DIGEST", hashlib.sha256(b"weights").hexdigest())
    space = feature_space(features.INCEPTION, weights=weights)
    assert space.sha256 == hashlib.sha256(b"weights").hexdigest()
    embeddings = space.embed(np.full((2, 16, 16), 77, np.uint8))
    assert embeddings.shape == (2, 2048)
    assert np.allclose(embeddings, 77)
