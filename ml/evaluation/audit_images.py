"""What an audit does to images before it asks the classifier again. Pure functions; no torch.

All of them take and give standardised images, as the classifier reads them, so the audit works for
every classifier. What they give is standardised again, as an upload would be.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ml.imaging.lungs import LungSegmenter
from ml.imaging.preprocessing import BlankImage, standardise

Images = NDArray[np.uint8]
Flags = NDArray[np.bool_]
# Less of the image than this beside the lungs' box is no border to look at.
LEAST_BORDER = 0.05
# Where markers are looked for: so far from a corner, as shares of the image's side.
CORNER = (0.30, 0.30)
# Grey levels by which a marker is brighter than its surroundings, and these as a share of the side.
MARKER_CONTRAST = 40.0
MARKER_SURROUNDINGS = 0.04
# Specks and whole shoulders are no markers: shares of the image.
MARKER_AREA = (0.0005, 0.02)
JPEG_QUALITY = 40
# A site's images are not sharpened or blurred by more than this factor.
MOST_SHARPENED = 4.0


@dataclass(frozen=True, slots=True)
class AuditImages:
    """Images with what an audit needs to know of them.

    Attributes:
        images: (N, S, S).
        labels: (N,).
        sites: (N,).
        lungs: (N, S, S) lung pixels.
        boxes: (N, S, S) pixels of the box around the lungs.
        has_lungs: (N,) whether lungs were found.
        markers: (N, S, S) pixels of letters and signs in the corners.
    """

    images: Images
    labels: NDArray[np.str_]
    sites: NDArray[np.str_]
    lungs: Flags
    boxes: Flags
    has_lungs: Flags
    markers: Flags

    @classmethod
    def of(
        cls,
        images: Images,
        labels: Sequence[str],
        sites: Sequence[str],
        segmenter: LungSegmenter,
    ) -> "AuditImages":
        """Find the lungs and the markers of images."""
        found = [segmenter.find(image) for image in images]
        side = images.shape[1]
        boxes = np.stack([lungs.box().mask(side) for lungs in found])
        return cls(
            images=images,
            labels=np.array(labels),
            sites=np.array(sites),
            lungs=np.stack([_enlarge(lungs.mask, side) for lungs in found]),
            boxes=boxes,
            has_lungs=np.array([lungs.plausible for lungs in found]),
            markers=np.stack(
                [find_markers(image, box) for image, box in zip(images, boxes, strict=True)]
            ),
        )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class Changed:
    """Images after a change.

    Attributes:
        images: (N, S, S); where the change does not apply the image as it was.
        applies: (N,) whether it does.
    """

    images: Images
    applies: Flags


def black_lungs(given: AuditImages) -> Changed:
    """The lungs are black: what is left is everything beside them."""
    return _change(given, lambda k: np.where(given.lungs[k], 0, given.images[k]), given.has_lungs)


def border_only(given: AuditImages) -> Changed:
    """The box around the lungs is black: what is left is the border."""
    border: NDArray[np.float64] = 1 - given.boxes.mean(axis=(1, 2))
    applies = np.logical_and(given.has_lungs, border >= LEAST_BORDER)
    return _change(given, lambda k: np.where(given.boxes[k], 0, given.images[k]), applies)


def lungs_only(given: AuditImages) -> Changed:
    """Everything beside the lungs is black."""
    return _change(given, lambda k: np.where(given.lungs[k], given.images[k], 0), given.has_lungs)


def mirror(given: AuditImages) -> Changed:
    """Left and right are exchanged."""
    return Changed(given.images[:, :, ::-1].copy(), np.ones(len(given), np.bool_))


def remove_markers(given: AuditImages) -> Changed:
    """Letters and signs in the corners are filled with their surroundings."""
    has_markers: Flags = np.asarray(given.markers.any(axis=(1, 2)))

    def fill(k: int) -> Images:
        hidden = given.markers[k]
        filled: Images = np.where(hidden, _surroundings(given.images[k], hidden), given.images[k])
        return filled

    return _change(given, fill, has_markers)


def paste_markers(given: AuditImages, random: np.random.Generator) -> Changed:
    """Letters and signs of an image of another class are copied into the corners."""
    has_markers: Flags = np.asarray(given.markers.any(axis=(1, 2)))
    donors = _choose(given, random, lambda k: has_markers & (given.labels != given.labels[k]))

    def paste(k: int) -> Images:
        shown = given.markers[donors[k]] & ~given.boxes[k]
        pasted: Images = np.where(shown, given.images[donors[k]], given.images[k])
        return pasted

    return _change(given, paste, donors >= 0)


def borrow_grey_levels(given: AuditImages, random: np.random.Generator) -> Changed:
    """The histogram of an image of another site."""
    donors = _other_sites(given, random)

    def borrow(k: int) -> Images:
        order = np.argsort(given.images[k], axis=None, kind="stable")
        changed = np.empty(given.images[k].size, np.uint8)
        changed[order] = np.sort(given.images[donors[k]], axis=None)
        return changed.reshape(given.images[k].shape)

    return _change(given, borrow, donors >= 0)


def borrow_sharpness(given: AuditImages, random: np.random.Generator) -> Changed:
    """As much fine detail as an image of another site has."""
    donors = _other_sites(given, random)
    detail = np.stack([image.astype(np.float32) - _blur(image, 1.0) for image in given.images])
    amount = detail.std(axis=(1, 2)).clip(1e-3)

    def sharpen(k: int) -> Images:
        factor = np.clip(amount[donors[k]] / amount[k], 1 / MOST_SHARPENED, MOST_SHARPENED)
        changed = given.images[k] + (factor - 1) * detail[k]
        grey: Images = np.rint(changed.clip(0, 255)).astype(np.uint8)
        return grey

    return _change(given, sharpen, donors >= 0)


def compress(given: AuditImages) -> Changed:
    """Compressed once more as JPEG, strongly."""

    def squeeze(k: int) -> Images:
        buffer = io.BytesIO()
        Image.fromarray(given.images[k]).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return np.asarray(Image.open(buffer))

    return _change(given, squeeze, np.ones(len(given), np.bool_))


def find_markers(image: Images, box: Flags) -> Flags:
    """Bright letters and signs in the corners of an image, outside the box around the lungs.

    Args:
        image: (S, S).
        box: (S, S).

    Returns:
        (S, S); nothing where there are only specks, or much more than letters.
    """
    side = len(image)
    contrast = image.astype(np.float32) - _blur(image, MARKER_SURROUNDINGS * side)
    found = (contrast > MARKER_CONTRAST) & _corners(side) & ~box
    least, most = MARKER_AREA
    if not least <= found.mean() <= most:
        return np.zeros_like(found)
    wider = Image.fromarray(found.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(5))
    return (np.asarray(wider) > 0) & ~box


def _change(given: AuditImages, change: Callable[[int], Images], applies: Flags) -> Changed:
    """Change the images where it applies; one that becomes blank stays as it was."""
    images, applied = given.images.copy(), applies.copy()
    for k in np.flatnonzero(applies):
        try:
            images[k] = standardise(change(int(k)).astype(np.uint8), images.shape[1])
        except BlankImage:
            applied[k] = False
    return Changed(images, applied)


def _choose(
    given: AuditImages, random: np.random.Generator, allowed: Callable[[int], Flags]
) -> NDArray[np.int64]:
    """(N,) a random image for each image among those allowed; -1 where none is."""
    chosen = np.full(len(given), -1, np.int64)
    for k in range(len(given)):
        places = np.flatnonzero(allowed(k))
        if len(places):
            chosen[k] = random.choice(places)
    return chosen


def _other_sites(given: AuditImages, random: np.random.Generator) -> NDArray[np.int64]:
    return _choose(given, random, lambda k: given.sites != given.sites[k])


def _enlarge(mask: Flags, side: int) -> Flags:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((side, side), Image.Resampling.NEAREST)) > 0


def _corners(side: int) -> Flags:
    high, wide = (round(share * side) for share in CORNER)
    rows, columns = np.ogrid[:side, :side]
    near_row = (rows < high) | (rows >= side - high)
    corners: Flags = near_row & ((columns < wide) | (columns >= side - wide))
    return corners


def _blur(image: NDArray[np.generic], radius: float) -> NDArray[np.float32]:
    grey = Image.fromarray(image.astype(np.uint8))
    return np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)


def _surroundings(image: Images, hidden: Flags) -> Images:
    """The image blurred without its hidden pixels."""
    radius = MARKER_SURROUNDINGS * len(image)
    weight = _blur(~hidden * np.uint8(255), radius) / 255
    visible = _blur(np.where(hidden, 0, image), radius)
    filled: Images = np.rint((visible / weight.clip(0.05)).clip(0, 255)).astype(np.uint8)
    return filled
