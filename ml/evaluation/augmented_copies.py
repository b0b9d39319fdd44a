"""Changed copies of real training images, in the number of the synthetic ones."""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ml.data.loading import load_images
from ml.data.manifest import ImageRecord, labels_of
from ml.evaluation.ablation_setting import AblationSetting, synthetic_images
from ml.evaluation.report_augmentation import change_image
from ml.files import write_whole
from ml.progress import tracked

# Stands where a synthetic image has the SHA-256 of its generator.
RECIPE = hashlib.sha256(
    b"the report's augmentation: ml.evaluation.reproduction.change_image"
).hexdigest()


def plan_copies(
    setting: AblationSetting, folder: Path, seed: int
) -> list[tuple[ImageRecord, ImageRecord]]:
    """Pairs of a training image and a copy to be made of it: of each class as many as images are
    synthetic.
    """
    training = setting.training_images()
    wanted = Counter(image.label for image in synthetic_images(setting.learned))
    random = np.random.default_rng(seed)
    pairs: list[tuple[ImageRecord, ImageRecord]] = []
    for label in labels_of(training):
        own = [image for image in training if image.label == label]
        # Every image is copied about equally often.
        for place in np.resize(random.permutation(len(own)), wanted[label] if own else 0):
            image = own[place]
            name = f"{setting.name}-{len(pairs):06}-{image.path.stem}.png"
            pairs.append((image, replace(image, path=folder / name, synthetic=RECIPE)))
    return pairs


def write_copies(pairs: Sequence[tuple[ImageRecord, ImageRecord]], size: int, seed: int) -> None:
    """Make the copies that are not there yet; each has its own random numbers."""
    for number, (image, copy) in enumerate(tracked(pairs, "changing images")):
        if copy.path.exists():
            continue
        copy.path.parent.mkdir(exist_ok=True)
        original = load_images([image], size, title="", quiet=True).images[0]
        stream = io.BytesIO()
        changed = change_image(original, np.random.default_rng([seed, number]))
        Image.fromarray(changed).save(stream, "PNG")
        write_whole(copy.path, stream.getvalue())
