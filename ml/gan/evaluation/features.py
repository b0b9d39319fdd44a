"""Images as points of a feature space, the same way for real and synthetic ones.

A distance between sets of images means something only together with the network that sees them.
So a feature space carries a name and the SHA-256 of its weights, which stand beside every metric.

Images come in at the size of a run. Real images are standardised to that size first
(`ml.imaging.preprocessing.standardise`), and what a network needs besides is done here, to both:
resolution
never separates real from synthetic images.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor
from ml.errors import XrayError
from ml.imagenet import FEATURES, efficientnet_lite, frozen, weights_file
from ml.imaging.types import GreyImages
from ml.options.gan import GanOptions

IMAGENET = "efficientnet-lite0"
JUDGE = "efficientnet-lite2"
CLASSIFIER = "classifier"
INCEPTION = "inception"
FEATURE_SPACES = (IMAGENET, JUDGE, CLASSIFIER, INCEPTION)
Embeddings = NDArray[np.float32]  # (N, F)
# On one core small batches stay in the cache: 8 images at a time are 1.7 times as fast as 64.
_CPU_BATCH = 8
_DEVICE_BATCH = 64
_IMAGENET_SIDE = 224
# The largest common side of generators: their images are not resampled a second time.
_JUDGE_SIDE = 256
_JPEG_QUALITY = 90
_INCEPTION_DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# The name ends with the start of the digest.
_INCEPTION_FILE = f"pt_inception-2015-12-05-{_INCEPTION_DIGEST[:8]}.pth"


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """A network that turns images into points.

    Attributes:
        name: as it was requested.
        sha256: of the weights.
        features: length of an embedding.
        batch_size: images embedded at once.
    """

    name: str
    sha256: str
    features: int
    batch_size: int
    _embed: Callable[[GreyImages], Embeddings] = field(repr=False)

    @property
    def title(self) -> str:
        """The name with the start of the digest, to stand beside a metric."""
        return f"{self.name} ({self.sha256[:12]})"

    def embed(
        self, images: GreyImages, *, on_step: Callable[[int], None] | None = None
    ) -> Embeddings:
        """Embed images of one size.

        An image's embedding is the same in whatever batch it comes, up to the rounding of float32.

        Args:
            images: (N, S, S) grey levels; S is any size.
            on_step: called after every batch with the number of images in it.

        Returns:
            (N, F).

        Raises:
            ValueError: no uint8 images of shape (N, S, S).
        """
        if images.dtype != np.uint8 or images.ndim != 3:
            raise ValueError(
                f"expected uint8 images of shape (N, S, S), got {images.dtype} {images.shape}"
            )
        embeddings = np.empty((len(images), self.features), np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            embeddings[start : start + len(batch)] = self._embed(batch)
            if on_step:
                on_step(len(batch))
        return embeddings


def resize(images: GreyImages, size: int) -> Tensor:
    """(B, S, S) grey levels -> (B, 1, size, size) in [0, 1], bilinear and smoothed in shrinking."""
    unit = _tensor(images).float() / 255
    if unit.shape[-1] == size:
        return unit
    return F.interpolate(unit, (size, size), mode="bilinear", antialias=True).clamp(0, 1)


def _tensor(images: GreyImages) -> Tensor:
    """(B, S, S) -> (B, 1, S, S) uint8."""
    # A mirrored image is a view with a negative stride, which torch does not take.
    return torch.from_numpy(np.ascontiguousarray(images))[:, None]


def unseen_spaces(names: Sequence[str], trained: Sequence[GanOptions]) -> list[str]:
    """Feature spaces to judge generators in, none of which a critic of theirs saw.

    A generator that was taught in a space is better there than it looks (Kynkaanniemi et al., "The
    Role of ImageNet Classes in Frechet Inception Distance", 2023).

    Args:
        names: those that are wanted; `efficientnet-lite2` takes the place of seen ones.
        trained: the options of each generator's training.
    """
    seen = {name for options in trained for name in options.seen_spaces}
    return list(dict.fromkeys(JUDGE if name in seen else name for name in names))


def feature_space(
    name: str,
    *,
    bundle: Path = PRETRAINED,
    weights: Path | None = None,
    device: torch.device | None = None,
) -> FeatureSpace:
    """Load a feature space by its name, one of `FEATURE_SPACES`.

    Args:
        name: `efficientnet-lite0` has learned from photographs and is the same for everybody;
            `efficientnet-lite2` as well, and no network of a generator sees or starts from it;
            `classifier` knows chest X-rays; `inception` is what published FIDs are measured in.
        bundle: the folder of the classifier, for `classifier` only.
        weights: the file of Inception's weights, for `inception` only.
        device: where to compute, the CPU by default; a classifier's bundle always runs there.

    Raises:
        XrayError: the name is unknown, or its network or weights are not installed.
        BundleError: the bundle is missing or damaged.
    """
    device = device or torch.device("cpu")
    if name == IMAGENET:
        return _imagenet_space(device)
    if name == JUDGE:
        return _judge_space(device)
    if name == CLASSIFIER:
        return _classifier_space(bundle)
    if name == INCEPTION:
        return _inception_space(weights, device)
    raise XrayError(f"Unknown feature space {name!r}. Expected one of {', '.join(FEATURE_SPACES)}.")


def _imagenet_space(device: torch.device) -> FeatureSpace:
    """EfficientNet-Lite0 with its ImageNet weights, the mean of its maps: 1280 features."""
    # Random weights are drawn and then replaced: the caller's random state must not change.
    with torch.random.fork_rng(devices=[]):
        network = efficientnet_lite(0, pretrained=True)
    network = network.to(device).eval().to(memory_format=torch.channels_last)
    return _mean_map_space(IMAGENET, 0, network, device, _IMAGENET_SIDE)


def _judge_space(device: torch.device) -> FeatureSpace:
    """EfficientNet-Lite2 with its ImageNet weights, of images that were saved as JPEG.

    Real images come from JPEG files and samples do not. A network may notice that, so both are
    saved once more before they are embedded.
    """
    with torch.random.fork_rng(devices=[]):
        network = frozen(efficientnet_lite(2, pretrained=True)).to(device)
    return _mean_map_space(JUDGE, 2, network, device, _JUDGE_SIDE, saved=True)


def _mean_map_space(
    name: str,
    version: int,
    network: nn.Module,
    device: torch.device,
    side: int,
    saved: bool = False,
) -> FeatureSpace:
    """The mean of a network's maps of images of a side, which are saved as JPEG first if wanted."""

    @torch.inference_mode()
    def embed(images: GreyImages) -> Embeddings:
        seen = saved_as_jpeg(images) if saved else images
        unit = resize(seen, side).to(device).contiguous(memory_format=torch.channels_last)
        embeddings: Embeddings = network(unit * 2 - 1).mean(dim=(2, 3)).cpu().numpy()
        return embeddings

    digest = _digest(weights_file(version))
    return FeatureSpace(name, digest, FEATURES, _batch_size(device), embed)


def saved_as_jpeg(images: GreyImages) -> GreyImages:
    """Images (N, S, S) as they come back from a JPEG file of quality 90."""
    return np.stack([_saved_as_jpeg(image) for image in images])


def _saved_as_jpeg(image: GreyImages) -> GreyImages:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(file))


def _classifier_space(bundle: Path) -> FeatureSpace:
    """What a classifier's last layer sees of an image.

    The grey levels are not stretched again as for an answer: that would hide a generator that
    makes pale images, and fail on a blank one.
    """
    predictor = Predictor.load(bundle, threads=torch.get_num_threads())
    size = predictor.card.input_size

    def embed(images: GreyImages) -> Embeddings:
        greys = (resize(images, size)[:, 0] * 255).round().to(torch.uint8).numpy()
        return np.stack([answer.embedding for answer in predictor.predict_batch(greys)])

    features = embed(np.zeros((1, size, size), np.uint8)).shape[1]
    return FeatureSpace(CLASSIFIER, predictor.card.sha256, features, _CPU_BATCH, embed)


def _inception_space(weights: Path | None, device: torch.device) -> FeatureSpace:
    """Inception v3 as published FIDs use it: 2048 features, images resized by the library
    itself.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as missing:
        raise XrayError(
            "Inception is not installed. Run pip install torch-fidelity, and give the file of its "
            f"weights ({_INCEPTION_FILE}) with --inception."
        ) from missing
    # Without a file the library would fetch one from the network.
    if weights is None or not weights.is_file():
        raise XrayError(
            f"There is no file of Inception's weights at {weights}. Download {_INCEPTION_FILE}, "
            "which torch-fidelity publishes, and give it with --inception."
        )
    digest = _digest(weights)
    # The library unpickles the file, which may run anything: only the published one is let in.
    if digest != _INCEPTION_DIGEST:
        raise XrayError(
            f"{weights} has SHA-256 {digest[:12]}..., not {_INCEPTION_DIGEST[:12]}.... "
            f"Download {_INCEPTION_FILE} again."
        )
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    ).to(device)

    @torch.inference_mode()
    def embed(images: GreyImages) -> Embeddings:
        coloured = _tensor(images).expand(-1, 3, -1, -1).to(device)
        embeddings: Embeddings = network(coloured)[0].float().cpu().numpy()
        return embeddings

    return FeatureSpace(INCEPTION, digest, 2048, _batch_size(device), embed)


def _batch_size(device: torch.device) -> int:
    return _CPU_BATCH if device.type == "cpu" else _DEVICE_BATCH


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
