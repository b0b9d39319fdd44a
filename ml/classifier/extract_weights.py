"""Take the weights of a classifier out of its bundle."""

from pathlib import Path

import numpy as np
import onnx
import torch

from ml.classifier.bundle import read_bundle
from ml.classifier.export import require_same_predictions
from ml.classifier.networks import ImageClassifier, build_classifier
from ml.classifier.predictor import Predictor
from ml.classifier.weights import save_weights
from ml.errors import BundleError

# What the classifier's weights are called in the graph, of which it is a part.
NETWORK = "network."
# Counts batches of training; only a batch norm without momentum would use it.
COUNTER = "num_batches_tracked"


def export_weights(bundle: Path, out: Path) -> str:
    """Extract the weights of a bundle from its graph and write them as safetensors.

    The graph holds every weight under its torch name. The network is rebuilt with the weights and
    compared with the graph on random images before anything is written.

    Args:
        bundle: the bundle's folder.
        out: the file; its folder exists. Its metadata names the network, the labels and the bundle.

    Returns:
        The SHA-256 of the file.

    Raises:
        BundleError: the bundle is damaged, its graph does not hold all weights, or the network
            filled with them does not compute what the graph computes.
    """
    card, graph = read_bundle(bundle)
    network = build_classifier(card.network, len(card.labels)).eval()
    _fill(network, graph)
    images = np.random.default_rng(0).integers(0, 256, (4, card.input_size, card.input_size))
    require_same_predictions(network, Predictor(card, graph), images.astype(np.uint8))
    about = {
        "network": card.network,
        "labels": ",".join(card.labels),
        "version": card.version,
        "bundle_sha256": card.sha256,
        "licence": card.licence,
    }
    return save_weights(out, network.state_dict(), about)


def _fill(network: ImageClassifier, graph: bytes) -> None:
    """Give a network the weights of a graph."""
    found = {
        one.name.removeprefix(NETWORK): torch.from_numpy(onnx.numpy_helper.to_array(one).copy())
        for one in onnx.load_model_from_string(graph).graph.initializer
        if one.name.startswith(NETWORK)
    }
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    if missing:
        raise BundleError(
            f"The graph lacks {len(missing)} of the weights, such as {missing[0]}: it was exported "
            "with batch norms folded into convolutions. Export the run again."
        )
    network.load_state_dict({name: found.get(name, value) for name, value in wanted.items()})
