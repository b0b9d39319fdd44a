"""Try a model of a stranger; also a program, so that a server need not do it itself.

    python -m ml.model_check classifier|generator FOLDER

The program limits its own memory and processor time, ends with status 0 where the model works, and
otherwise writes the reason to standard error.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from ml.classifier.predictor import Predictor
from ml.errors import BundleError
from ml.gan.onnx_generator import GeneratorGraph

# Sides in pixels between which a classifier's images are decoded.
LEAST_SIDE, MOST_SIDE = 16, 1024
MEMORY_BYTES = 4 * 2**30
PROCESSOR_S = 120


def load_classifier(folder: Path) -> Predictor:
    """The classifier of a bundle, after it has answered an image.

    Raises:
        BundleError: the bundle is missing, damaged, not what its card says, or cannot be run.
    """
    try:
        predictor = Predictor.load(folder, serving=True)
        _try_out(predictor)
    except BundleError:
        raise
    # ONNX Runtime's own errors have no common base.
    except Exception as problem:
        raise BundleError(
            f"The graph in {folder} cannot be run ({type(problem).__name__}). Export the run again."
        ) from problem
    return predictor


def _try_out(predictor: Predictor) -> None:
    side, classes = predictor.card.input_size, len(predictor.card.labels)
    if not LEAST_SIDE <= side <= MOST_SIDE:
        raise BundleError(
            f"The classifier needs images of {side} px. The server supports {LEAST_SIDE} to "
            f"{MOST_SIDE} px."
        )
    ramp = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
    answer = predictor.predict(ramp)
    maps = answer.activation_map
    if maps.ndim != 3 or len(maps) != classes or len(answer.probabilities) != classes:
        raise BundleError(
            "The graph's output has another shape than its card states. Export the run again."
        )
    if not all(np.isfinite([*answer.probabilities.values(), answer.ood_score])):
        raise BundleError("The graph's output is not a number. Export the run again.")


def try_generator(folder: Path) -> GeneratorGraph:
    """The graph of a released generator, after it has generated an image.

    Raises:
        BundleError: the graph is missing, damaged, not what the card says, or cannot be run.
    """
    graph = GeneratorGraph.load(folder)
    try:
        graph.images([0], graph.labels[0])
    except Exception as problem:
        raise BundleError(
            f"The graph in {folder} generates no image ({type(problem).__name__}). Export it again."
        ) from problem
    return graph


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def main() -> None:
    """Try the model that the arguments name."""
    kind, folder = sys.argv[1:]
    _limit_resources()
    try:
        (load_classifier if kind == "classifier" else try_generator)(Path(folder))
    except BundleError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
