"""Take the weights of a classifier out of its bundle."""

from pathlib import Path

import numpy as np

from ml.classifier.bundle import read_bundle
from ml.classifier.export import require_same_predictions
from ml.classifier.networks import build_classifier
from ml.classifier.predictor import Predictor
from ml.classifier.weights import save_weights
from ml.onnx_bytes import load_from_graph


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
    load_from_graph(network, graph, command="xray export classifier")
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
