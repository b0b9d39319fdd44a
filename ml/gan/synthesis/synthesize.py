"""Making images: seeds in, a data set of privacy-checked synthetic images out.

An image depends on its generator, seed, class and truncation alone, so the same command makes the
same images: those that are there already are not made again, and an interrupted command goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from ml.data.manifest import SYNTHETIC_COLUMN
from ml.errors import XrayError
from ml.files import write_whole
from ml.gan.generator_file import LoadedGenerator
from ml.gan.latents import SEEDS, latents_of, way_between
from ml.gan.onnx_generator import class_number
from ml.gan.sampling import grid_of, images_of_latents, sample_images
from ml.gan.synthesis.folder import NewImage, Row, SyntheticFolder
from ml.gan.synthesis.privacy_check import REFUSE_BELOW, PrivacyCheck, PrivacyChecker
from ml.gan.synthesis.watermark import Provenance, marked, png_of, thumbnail_of
from ml.imaging.types import GreyImage
from ml.version import code_version

# Takes a number of images, and seconds.
OnImages = Callable[[int, float], None]
# Seeds that are tried for each image before the generator is given up.
MOST_TRIES = 10
MOST_SEEDS = 1_000_000
# Images between two writings of the manifest, and in memory at once.
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images to make, and how.

    Attributes:
        count: how many, from seed 0 on; an image that is refused is replaced by the next seed.
        seeds: these and no others, instead of a count.
        label: the class; empty for as many of each of the generator's classes.
        truncation: of the latents, above 0 and not above 1.
        mark: write the word SYNTHETIC on the images.
        refuse_below: percentile under which an image is too near to a training image, 0 to 100.
    """

    count: int = 0
    seeds: Sequence[int] = ()
    label: str = ""
    truncation: float = 1.0
    mark: bool = False
    refuse_below: float = REFUSE_BELOW


@dataclass(slots=True)
class Outcome:
    """What became of the images.

    Attributes:
        written: images added.
        present: images that were there already.
        refused: images not given away, by the reason.
        seconds: for making, comparing and writing, without reading real images.
    """

    written: int = 0
    present: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def parse_seeds(text: str) -> list[int]:
    """Numbers and ranges with commas between, such as `0-63,100`; each once, in that order.

    Raises:
        XrayError: no such list, or one of more than a million seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        # A longer number is none of 32 bits.
        too_long = max(len(first), len(last)) > len(str(SEEDS))
        if too_long or not first.isdecimal() or not (last.isdecimal() or "-" not in part):
            raise XrayError(f"--seeds {text}: expected numbers and ranges, such as 0-63,100")
        low, high = int(first), int(last or first)
        if not low <= high < SEEDS:
            raise XrayError(f"--seeds {part.strip()}: expected 0 to 2^32 - 1, the lower one first")
        if high - low + len(seeds) >= MOST_SEEDS:
            raise XrayError(f"--seeds {text}: more than {MOST_SEEDS:,} at once")
        seeds |= dict.fromkeys(range(low, high + 1))
    return list(seeds)


def classes_to_make(loaded: LoadedGenerator, label: str) -> list[str]:
    """The labels of the images to come.

    Args:
        loaded: the generator.
        label: the class that is wanted; empty for all that the generator makes.

    Raises:
        XrayError: the generator does not make that class, or none on demand.
    """
    labels = list(loaded.labels)
    # Whatever is wanted, a generator that mixes its classes makes none of them on demand.
    class_number(label or labels[0], labels, conditional=loaded.card.options.conditional)
    return [label] if label else labels


def synthesize(
    loaded: LoadedGenerator,
    folder: SyntheticFolder,
    wanted: Wanted,
    privacy_checker: PrivacyChecker | None,
    *,
    on_images: OnImages = lambda _images, _seconds: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Make images and add them to a folder.

    Where images of several classes are wanted, a seed makes one of them, chosen by its remainder.
    So neighbouring seeds give as many images of each class.

    Args:
        loaded: the generator.
        folder: where to.
        wanted: which images.
        privacy_checker: what images are compared with; None makes images without a privacy check.
        on_images: called after some images with the number of them that are in the folder, and the
            seconds that all images so far have taken.
        should_stop: asked after some images; a true answer ends the call, and what was made stays.

    Raises:
        XrayError: a class that the generator cannot make, or too many images refused; those that
            were good are in the folder.
        CheckpointError: it was to stop while the real images were looked at.
        OSError: there is no room; the folder's manifest names the images that are complete.
    """
    maker = _Maker(loaded, folder, wanted, privacy_checker, should_stop)
    labels = classes_to_make(loaded, wanted.label)
    missing = 0
    for number, label in enumerate(labels):
        seeds, open_images = _plan(wanted, number, len(labels))
        while chunk := list(islice(seeds, min(open_images, _CHUNK))):
            good = maker.make(label, chunk)
            # A seed that was requested by number is not replaced.
            open_images -= len(chunk) if wanted.seeds else good
            on_images(len(chunk) if wanted.seeds else good, maker.outcome.seconds)
            if should_stop():
                return maker.outcome
        missing += open_images
    refused = maker.outcome.refused
    if missing:
        raise XrayError(
            f"{missing} of {wanted.count} image(s) are missing, for {refused.total()} were "
            f"refused: "
            f"{', '.join(refused)}. The generator repeats what it learned from: train it on more "
            "images, or for a shorter time"
        )
    return maker.outcome


def _plan(wanted: Wanted, number: int, classes: int) -> tuple[Iterator[int], int]:
    """The seeds to try for one of the classes, and how many images are to come of them."""
    if wanted.seeds:
        own = [seed for seed in wanted.seeds if seed % classes == number]
        return iter(own), len(own)
    count = len(range(number, wanted.count, classes))
    return iter(range(number, count * MOST_TRIES * classes, classes)), count


class _Maker:
    """Makes, compares and files away the images of some seeds."""

    def __init__(
        self,
        loaded: LoadedGenerator,
        folder: SyntheticFolder,
        wanted: Wanted,
        privacy_checker: PrivacyChecker | None,
        should_stop: Callable[[], bool],
    ):
        self.loaded, self.folder, self.wanted = loaded, folder, wanted
        self.privacy_checker, self.should_stop = privacy_checker, should_stop
        self.outcome = Outcome()
        self.software = software()

    def make(self, label: str, seeds: Sequence[int]) -> int:
        """Make the images of seeds that are not there yet; how many are there now."""
        images = {seed: self._image(label, seed) for seed in seeds}
        new = [seed for seed in seeds if not self._is_done(images[seed])]
        self.outcome.present += len(seeds) - len(new)
        if not new:
            return len(seeds)
        if self.privacy_checker:
            self.privacy_checker.prepare(self.should_stop)
        started = time.monotonic()
        radiographs = sample_images(
            self.loaded.network,
            new,
            self.loaded.labels.index(label),
            length=self.loaded.card.options.latent,
            truncation=self.wanted.truncation,
        )
        privacy_checks: Sequence[PrivacyCheck | None] = [None] * len(new)
        if self.privacy_checker:
            privacy_checks = self.privacy_checker.check(radiographs, label)
        added, refused = [], []
        for seed, radiograph, privacy_check in zip(new, radiographs, privacy_checks, strict=True):
            reason = privacy_check.refusal(self.wanted.refuse_below) if privacy_check else ""
            if reason:
                self.outcome.refused[reason] += 1
                refused.append(images[seed])
            else:
                added.append(self._new_image(images[seed], label, seed, radiograph, privacy_check))
        self.folder.change(added, refused)
        self.outcome.written += len(added)
        self.outcome.seconds += time.monotonic() - started
        return len(seeds) - len(refused)

    @property
    def _source(self) -> str:
        return f"synthetic-{self.loaded.sha256[:12]}"

    def _image(self, label: str, seed: int) -> str:
        return f"images/{self._source}/{label}-{seed}{_variant(self.wanted)}.png"

    def _is_done(self, image: str) -> bool:
        """Whether the image is there with the privacy check that it would get today."""
        if image not in self.folder.rows:
            return False
        if self.privacy_checker is None:
            return True
        row = self.folder.privacy_checks.get(image, {})
        return (
            row.get("images_sha256") == self.privacy_checker.images_sha256
            and float(row["nearest_percentile"]) >= self.wanted.refuse_below
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
            self.loaded.sha256, str(seed), label, self.wanted.truncation, self.software
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
        content = png_of(marked(radiograph) if self.wanted.mark else radiograph, provenance)
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
            "truncation": f"{self.wanted.truncation:g}",
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


def draw_way(
    loaded: LoadedGenerator,
    out: Path,
    ends: tuple[int, int],
    steps: int,
    wanted: Wanted,
    privacy_checker: PrivacyChecker | None,
) -> Path:
    """Draw the way from one seed's image to another's: images side by side, a row for each class.

    Args:
        loaded: the generator.
        out: the folder of the picture; it is made where it is missing.
        ends: the seeds; their images are the first and the last.
        steps: images in a row, both ends included.
        wanted: class, truncation, mark and what is too near; its seeds and count mean nothing here.
        privacy_checker: what images are compared with; None draws without.

    Returns:
        The picture's file.

    Raises:
        XrayError: a class that the generator cannot make, or an image too near to a training image.
    """
    options = loaded.card.options
    way = way_between(latents_of(ends, options.latent, wanted.truncation), steps)
    labels = classes_to_make(loaded, wanted.label)
    images = []
    for label in labels:
        row = images_of_latents(loaded.network, way, [loaded.labels.index(label)] * steps)
        found = privacy_checker.check(row, label) if privacy_checker else []
        reasons = {one.refusal(wanted.refuse_below) for one in found} - {""}
        if reasons:
            raise XrayError(f"no strip: an image in it is {' or '.join(sorted(reasons))}")
        images += [marked(image) if wanted.mark else image for image in row]
    provenance = Provenance(
        loaded.sha256,
        "{} to {}".format(*ends),
        ", ".join(labels),
        wanted.truncation,
        software(),
    )
    name = "-".join(["interpolation", loaded.sha256[:12], *map(str, (*ends, steps)), *labels])
    path = out / f"{name}{_variant(wanted)}.png"
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, png_of(grid_of(np.stack(images), steps), provenance))
    return path


def _variant(wanted: Wanted) -> str:
    """The part of a file's name that says how the image of a seed was made."""
    truncated = f"-t{wanted.truncation:g}" if wanted.truncation != 1 else ""
    return truncated + ("-marked" if wanted.mark else "")


def software() -> str:
    """The name and version that synthetic images carry."""
    return f"xray-screening {code_version()}"
