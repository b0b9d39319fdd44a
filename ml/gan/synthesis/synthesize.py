"""Generate a data set of synthetic images, each with a privacy check.

An image depends only on its generator, seed, class and truncation, so the same request always gives
the same images. Images that are in the folder already are not generated again, which also resumes
an interrupted call.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ml.data.manifest import SYNTHETIC_COLUMN
from ml.errors import XrayError, counted
from ml.gan.generator_file import LoadedGenerator
from ml.gan.sampling import sample_images
from ml.gan.synthesis.folder import NewImage, Row, SyntheticFolder
from ml.gan.synthesis.privacy_check import PrivacyCheck, PrivacyChecker
from ml.gan.synthesis.request import SynthesisRequest, classes_to_generate
from ml.gan.synthesis.watermark import Provenance, marked, png_of, software, thumbnail_of
from ml.imaging.types import GreyImage

# Called with a number of images, and seconds.
OnImages = Callable[[int, float], None]
# Seeds to try for each image before giving up.
MOST_TRIES = 10
# Images in memory at once, and between two writes of the manifest.
_CHUNK = 64


@dataclass(slots=True)
class SynthesisResult:
    """The images of a call by what happened to them.

    Attributes:
        written: images added to the folder.
        present: images that were in the folder already.
        refused: images too near to a training image, by reason.
        seconds: time to generate, compare and write, without reading real images.
    """

    written: int = 0
    present: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def synthesize(
    loaded: LoadedGenerator,
    folder: SyntheticFolder,
    request: SynthesisRequest,
    privacy_checker: PrivacyChecker | None,
    *,
    on_images: OnImages = lambda _images, _seconds: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SynthesisResult:
    """Generate images and add them to a folder.

    Each seed belongs to one class, given by its remainder when divided by the number of classes, so
    consecutive seeds give the same number of images of each class.

    Args:
        loaded: the generator.
        folder: the images are added to it.
        request: which images.
        privacy_checker: compares images with training images; None skips the comparison.
        on_images: called after each chunk with the number of its images that are in the folder, and
            the seconds of the whole call so far.
        should_stop: asked after each chunk; true ends the call, and the images so far stay.

    Raises:
        XrayError: a class that the generator cannot make, or too many refused images; the accepted
            ones are in the folder.
        CheckpointError: the call was stopped while real images were embedded.
        OSError: the disk is full or not writable; the manifest lists complete images only.
    """
    synthesizer = _Synthesizer(loaded, folder, request, privacy_checker, should_stop)
    labels = classes_to_generate(loaded, request.label)
    missing = 0
    for number, label in enumerate(labels):
        seeds, open_images = _plan(request, number, len(labels))
        while chunk := list(islice(seeds, min(open_images, _CHUNK))):
            accepted = synthesizer.add(label, chunk)
            # A seed given by number is not replaced by another.
            open_images -= len(chunk) if request.seeds else accepted
            on_images(len(chunk) if request.seeds else accepted, synthesizer.result.seconds)
            if should_stop():
                return synthesizer.result
        missing += open_images
    refused = synthesizer.result.refused
    if missing:
        raise XrayError(
            f"Only {request.count - missing} of {counted(request.count, 'image')} could be made. "
            f"{refused.total()} were refused: {', '.join(refused)}. The generator copies its "
            "training images. Train it on more images, or for a shorter time."
        )
    return synthesizer.result


def _plan(request: SynthesisRequest, number: int, classes: int) -> tuple[Iterator[int], int]:
    """The seeds to try for one class, and the number of images wanted from them."""
    if request.seeds:
        own = [seed for seed in request.seeds if seed % classes == number]
        return iter(own), len(own)
    count = len(range(number, request.count, classes))
    return iter(range(number, count * MOST_TRIES * classes, classes)), count


class _Synthesizer:
    """Generates, compares and stores the images of one call, chunk by chunk."""

    def __init__(
        self,
        loaded: LoadedGenerator,
        folder: SyntheticFolder,
        request: SynthesisRequest,
        privacy_checker: PrivacyChecker | None,
        should_stop: Callable[[], bool],
    ):
        self.loaded, self.folder, self.request = loaded, folder, request
        self.privacy_checker, self.should_stop = privacy_checker, should_stop
        self.result = SynthesisResult()
        self.software = software()

    def add(self, label: str, seeds: Sequence[int]) -> int:
        """Generate the missing images of some seeds; returns how many are in the folder now."""
        images = {seed: self._image(label, seed) for seed in seeds}
        new = [seed for seed in seeds if not self._is_done(images[seed])]
        self.result.present += len(seeds) - len(new)
        if not new:
            return len(seeds)
        if self.privacy_checker:
            self.privacy_checker.prepare(self.should_stop)
        started = time.monotonic()
        images_of_seeds = sample_images(
            self.loaded.network,
            new,
            self.loaded.labels.index(label),
            length=self.loaded.card.options.latent,
            truncation=self.request.truncation,
        )
        privacy_checks: Sequence[PrivacyCheck | None] = [None] * len(new)
        if self.privacy_checker:
            privacy_checks = self.privacy_checker.check(images_of_seeds, label)
        added, refused = [], []
        for seed, radiograph, privacy_check in zip(
            new, images_of_seeds, privacy_checks, strict=True
        ):
            reason = privacy_check.refusal(self.request.refuse_below) if privacy_check else ""
            if reason:
                self.result.refused[reason] += 1
                refused.append(images[seed])
            else:
                added.append(self._new_image(images[seed], label, seed, radiograph, privacy_check))
        self.folder.change(added, refused)
        self.result.written += len(added)
        self.result.seconds += time.monotonic() - started
        return len(seeds) - len(refused)

    @property
    def _source(self) -> str:
        return f"synthetic-{self.loaded.sha256[:12]}"

    def _image(self, label: str, seed: int) -> str:
        return f"images/{self._source}/{label}-{seed}{self.request.variant}.png"

    def _is_done(self, image: str) -> bool:
        """Whether the image is in the folder with an up-to-date privacy check."""
        if image not in self.folder.rows:
            return False
        if self.privacy_checker is None:
            return True
        row = self.folder.privacy_checks.get(image, {})
        return (
            row.get("images_sha256") == self.privacy_checker.images_sha256
            and float(row["nearest_percentile"]) >= self.request.refuse_below
        )

    def _new_image(
        self,
        image: str,
        label: str,
        seed: int,
        radiograph: GreyImage,
        privacy_check: PrivacyCheck | None,
    ) -> NewImage:
        provenance = Provenance(
            self.loaded.sha256, str(seed), label, self.request.truncation, self.software
        )
        row = {
            "image": image,
            "label": label,
            "source": self._source,
            "patient": f"{self._source}-{seed}",
            "license": self.loaded.card.licence,
            "width": str(radiograph.shape[1]),
            "height": str(radiograph.shape[0]),
            SYNTHETIC_COLUMN: self.loaded.sha256,
        }
        content = png_of(marked(radiograph) if self.request.mark else radiograph, provenance)
        return NewImage(
            content, thumbnail_of(radiograph), row, self._privacy_check(row, seed, privacy_check)
        )

    def _privacy_check(self, row: Row, seed: int, privacy_check: PrivacyCheck | None) -> Row | None:
        if privacy_check is None or self.privacy_checker is None:
            return None
        return {
            "seed": str(seed),
            "file": row["image"],
            "label": row["label"],
            "generator_sha256": self.loaded.sha256,
            "truncation": f"{self.request.truncation:g}",
            "nearest_percentile": f"{privacy_check.nearest_percentile:.2f}",
            "pixel_percentile": f"{privacy_check.pixel_percentile:.2f}",
            "embedding_percentile": f"{privacy_check.embedding_percentile:.2f}",
            "near_copy": "yes" if privacy_check.near_copy else "no",
            "realism": f"{privacy_check.realism:.3f}",
            "features": self.privacy_checker.space.title,
            "training_images": str(len(self.privacy_checker.training)),
            "held_out_images": str(self.privacy_checker.count_held_out(row["label"])),
            "generator_learned_from_them": "yes" if self.privacy_checker.complete else "no",
            "images_sha256": self.privacy_checker.images_sha256,
        }
