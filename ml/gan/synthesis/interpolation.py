"""Interpolation: the images between two seeds of a generator, side by side in one file."""

from pathlib import Path

import numpy as np

from ml.errors import XrayError
from ml.files import write_whole
from ml.gan.generator_file import LoadedGenerator
from ml.gan.latents import interpolate_latents, latents_of
from ml.gan.sampling import grid_of, images_of_latents
from ml.gan.synthesis.privacy_check import PrivacyChecker
from ml.gan.synthesis.request import SynthesisRequest, classes_to_generate
from ml.gan.synthesis.watermark import Provenance, marked, png_of, software


def draw_interpolation(
    loaded: LoadedGenerator,
    out: Path,
    ends: tuple[int, int],
    steps: int,
    request: SynthesisRequest,
    privacy_checker: PrivacyChecker | None,
) -> Path:
    """Draw the images from one seed to another, a row for each class.

    Args:
        loaded: the generator.
        out: the folder of the file; it is created where it is missing.
        ends: the seeds of the first and the last image.
        steps: images in a row, both ends included.
        request: class, truncation, mark and privacy threshold; seeds and count are not used.
        privacy_checker: compares the images with training images; None skips the comparison.

    Returns:
        The PNG file.

    Raises:
        XrayError: a class that the generator cannot make, or an image too near to a training image.
    """
    latents = latents_of(ends, loaded.card.options.latent, request.truncation)
    path_latents = interpolate_latents(latents, steps)
    labels = classes_to_generate(loaded, request.label)
    images = []
    for label in labels:
        row = images_of_latents(loaded.network, path_latents, [loaded.labels.index(label)] * steps)
        checks = privacy_checker.check(row, label) if privacy_checker else []
        reasons = {check.refusal(request.refuse_below) for check in checks} - {""}
        if reasons:
            raise XrayError(
                f"The interpolation was not written. An image in it is "
                f"{' or '.join(sorted(reasons))}. Choose other seeds."
            )
        images += [marked(image) if request.mark else image for image in row]
    provenance = Provenance(
        loaded.sha256,
        "{} to {}".format(*ends),
        ", ".join(labels),
        request.truncation,
        software(),
    )
    name = "-".join(["interpolation", loaded.sha256[:12], *map(str, (*ends, steps)), *labels])
    path = out / f"{name}{request.variant}.png"
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, png_of(grid_of(np.stack(images), steps), provenance))
    return path
