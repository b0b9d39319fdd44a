"""Audit heat maps: do they lie on the lungs, and do they say what the classifier goes by?

A map that stays the same when the weights are random shows the image and not the classifier
(Adebayo et al., "Sanity Checks for Saliency Maps", 2018). Where a map is right, removing the parts
it marks lowers the probability faster than removing parts at random (deletion), and adding them to
a blurred image raises it faster (insertion; Petsiuk et al., "RISE", 2018).
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image, ImageFilter

from ml.classifier.predictor import Prediction, Predictor
from ml.evaluation.audit_images import AuditImages, Flags
from ml.evaluation.audit_result import AuditCheck, AuditMetric
from ml.evaluation.metrics import Floats
from ml.imaging.heatmap import LEAST_ON_LUNGS, class_evidence, share_inside

# Images of which maps are compared, and of which parts are removed.
RANDOM_WEIGHT_IMAGES = 120
CURVE_IMAGES = 60
CURVE_STEPS = 8
# Side of the grid of parts that are removed.
GRID = 7
BLUR_SHARE = 0.06
BATCH = 32
# Weights with these words in their names find the lungs, which is no part of the explanation.
_OF_THE_CROP = ("lungs", "crop")
# A map that varies less is even.
_FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class AuditedHeatMaps:
    """A classifier and what it said of the images.

    Attributes:
        graph: of the classifier.
        predictions: for the images as they are.
    """

    predictor: Predictor
    graph: bytes
    given: AuditImages
    predictions: list[Prediction]


@dataclass(frozen=True, slots=True)
class HeatMapFindings:
    """What was measured of heat maps.

    Attributes:
        values: (N,) the images measured and the value of each, by check and metric.
        curves: name -> (share of the image removed or shown, mean probability).
    """

    values: dict[tuple[AuditCheck, AuditMetric], tuple[Flags, Floats]]
    curves: dict[str, list[tuple[float, float]]]


def audit_heat_maps(audited: AuditedHeatMaps, random: np.random.Generator) -> HeatMapFindings:
    """Measure the heat maps of the predicted classes."""
    given = audited.given
    shares = np.array(
        [
            share_inside(one.activation_map, _place_of(audited.predictor, one), box)
            for one, box in zip(audited.predictions, given.boxes, strict=True)
        ]
    )
    shown = given.has_lungs & ~np.isnan(shares)
    on_lungs = (shares >= LEAST_ON_LUNGS).astype(np.float64)
    values: dict[tuple[AuditCheck, AuditMetric], tuple[Flags, Floats]] = {
        (AuditCheck.HEAT_MAP_LUNGS, AuditMetric.ON_LUNGS): (shown, on_lungs),
        (AuditCheck.HEAT_MAP_LUNGS, AuditMetric.SHARE_ON_LUNGS): (shown, np.nan_to_num(shares)),
    }
    measured = _some(shown, RANDOM_WEIGHT_IMAGES, random)
    correlations = _correlations(audited, measured, random)
    values[AuditCheck.HEAT_MAP_RANDOM, AuditMetric.CORRELATION] = measured, correlations
    measured = _some(shown, CURVE_IMAGES, random)
    if not measured.any():
        return HeatMapFindings(values, {})
    gains, curves = _curves(audited, measured, random)
    for check, gain in gains.items():
        values[check, AuditMetric.ABOVE_CHANCE] = measured, gain
    return HeatMapFindings(values, curves)


def random_weights(graph: bytes, random: np.random.Generator) -> bytes:
    """A graph whose weights are exchanged at random within each layer.

    Layers that find the lungs stay as they are.
    """
    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        # Drawn in any case, so that later draws do not depend on the names.
        shuffled = random.permutation(values.ravel()).reshape(values.shape)
        if _is_weight(tensor.name):
            tensor.CopyFrom(numpy_helper.from_array(shuffled, tensor.name))
    changed: bytes = model.SerializeToString()
    return changed


def _is_weight(name: str) -> bool:
    # Other constants of a graph, such as those of a crop, are no weights.
    return "weight" in name and not any(word in name for word in _OF_THE_CROP)


def _place_of(predictor: Predictor, prediction: Prediction) -> int:
    return predictor.card.labels.index(prediction.label)


def _some(allowed: Flags, most: int, random: np.random.Generator) -> Flags:
    """At most so many of the images, at random."""
    places = np.flatnonzero(allowed)
    chosen = np.zeros_like(allowed)
    chosen[random.choice(places, min(most, len(places)), replace=False)] = True
    return chosen


def _correlations(audited: AuditedHeatMaps, measured: Flags, random: np.random.Generator) -> Floats:
    """(N,) of the map of the predicted class with that of random weights; 0 for other images."""
    predictor, predictions = audited.predictor, audited.predictions
    other = Predictor(predictor.card, random_weights(audited.graph, random))
    found = np.zeros(len(predictions))
    places = np.flatnonzero(measured)
    for start in range(0, len(places), BATCH):
        own = places[start : start + BATCH]
        for k, again in zip(own, other.predict_batch(audited.given.images[own]), strict=True):
            index = _place_of(predictor, predictions[k])
            one, two = predictions[k].activation_map, again.activation_map
            # Beside a crop both maps are zero, which is no likeness.
            inside = (one != 0).any(axis=0) & (two != 0).any(axis=0)
            found[k] = _correlation(
                class_evidence(one)[index][inside], class_evidence(two)[index][inside]
            )
    return found


def _correlation(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    if len(one) < 2 or one.std() < _FLAT or two.std() < _FLAT:
        return 0.0
    return abs(float(np.corrcoef(one, two)[0, 1]))


def _curves(
    audited: AuditedHeatMaps, measured: Flags, random: np.random.Generator
) -> tuple[dict[AuditCheck, Floats], dict[str, list[tuple[float, float]]]]:
    """Gain of the map's order over a random one, and the mean curves."""
    places = np.flatnonzero(measured)
    images = audited.given.images[places]
    blurred = np.stack([_blur(image) for image in images])
    classes = [_place_of(audited.predictor, audited.predictions[k]) for k in places]
    by_map = np.stack(
        [
            np.argsort(-_on_grid(audited.predictions[k].activation_map, index), kind="stable")
            for k, index in zip(places, classes, strict=True)
        ]
    )
    by_chance = np.stack([random.permutation(GRID * GRID) for _ in places])
    shares = np.linspace(0, 1, CURVE_STEPS)
    lines: dict[str, Floats] = {}
    for name, before, after in (("deletion", images, blurred), ("insertion", blurred, images)):
        for order_name, order in (("map", by_map), ("random", by_chance)):
            lines[f"{name}, {order_name}"] = np.stack(
                [
                    _probabilities(
                        audited.predictor, _replace(before, after, order, share), classes
                    )
                    for share in shares
                ]
            )
    gains = {}
    for check, name, sign in (
        (AuditCheck.HEAT_MAP_DELETION, "deletion", -1),
        (AuditCheck.HEAT_MAP_INSERTION, "insertion", 1),
    ):
        gains[check] = np.zeros(len(measured))
        gain = (lines[f"{name}, map"] - lines[f"{name}, random"]).mean(axis=0)
        gains[check][places] = sign * gain
    curves = {
        name: [(float(x), float(y)) for x, y in zip(shares, line.mean(axis=1), strict=True)]
        for name, line in lines.items()
        if len(places)
    }
    return gains, curves


def _on_grid(activation_map: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    """(GRID * GRID,) evidence for a class in each part of an image."""
    evidence = Image.fromarray(class_evidence(activation_map)[index].astype(np.float32))
    return np.asarray(evidence.resize((GRID, GRID), Image.Resampling.BOX)).ravel()


def _replace(
    images: NDArray[np.uint8], others: NDArray[np.uint8], order: NDArray[np.int64], share: float
) -> NDArray[np.uint8]:
    """The first parts of each image, by an order, from other images."""
    side = images.shape[1]
    parts = np.arange(side) * GRID // side
    number = parts[:, None] * GRID + parts[None, :]
    chosen = np.zeros(order.shape, np.bool_)
    np.put_along_axis(chosen, order[:, : round(share * GRID * GRID)], values=True, axis=1)
    return np.where(chosen[:, number], others, images)


def _probabilities(
    predictor: Predictor, images: NDArray[np.uint8], classes: list[int]
) -> NDArray[np.float64]:
    given = [
        list(one.probabilities.values())
        for start in range(0, len(images), BATCH)
        for one in predictor.predict_batch(images[start : start + BATCH])
    ]
    return np.array([own[index] for own, index in zip(given, classes, strict=True)])


def _blur(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    radius = BLUR_SHARE * len(image)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
