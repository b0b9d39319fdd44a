"""Predictions of images that were photographed from a screen, framed, cropped or written on.

    python -m benchmarks.changed_images --data DATA [--images 60]

Test images of each class, changed as people change them before an upload, and predicted as by the
server: right, uncertain or wrong. "Likely right": the most probable class is right, whatever the
thresholds say; "likely other": it is another one than without the change. "Warned": the check
doubts that it is a frontal chest X-ray.
"""

import argparse
import io
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.console import Console
from rich.table import Table

from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import UNCERTAIN, Predictor
from ml.classifier.upright import predict_upright
from ml.data.manifest import in_split, read_manifest, real_images
from ml.data.splits import Split
from ml.imaging.decode import read_image
from ml.imaging.orientation import OrientationCheck
from ml.imaging.preprocessing import standardise

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _screen_photograph(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Seen at an angle, with the lines of the screen, a reflection and blur."""
    width, height = image.size
    inset = random.uniform(0.01, 0.07, 8) * np.tile((width, height), 4)
    corners = (
        *(inset[0], inset[1], inset[2], height - inset[3]),
        *(width - inset[4], height - inset[5], width - inset[6], inset[7]),
    )
    # A bilinear warp from the inner corners: the picture runs over the edges a little.
    turned = image.transform(image.size, Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    grey = np.asarray(turned, np.float64)
    moire = 1 + 0.05 * np.sin(2 * np.pi * (random.uniform(20, 60) * x + random.uniform(20, 60) * y))
    light = 60 * np.exp(-(((x - random.random()) ** 2 + (y - random.random()) ** 2) / 0.03))
    grey = np.clip(grey * moire * 0.85 + 15 + light, 0, 255).astype(np.uint8)
    return _jpeg(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(0.7)), 70)


def _viewer(image: Image.Image, _random: np.random.Generator) -> Image.Image:
    """A screenshot of a viewer: tool bar, side panel, status line."""
    width, height = image.size
    screen = Image.new("L", (int(width * 1.35), int(height * 1.2)), 40)
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, screen.width, height // 12), fill=200)
    for place in range(8):
        left = 10 + place * height // 10
        draw.rectangle((left, 5, left + height // 16, height // 14), fill=120)
    for line in range(10):
        draw.text((5, height // 8 + line * 18), "Series 1  CHEST", fill=210, font=_font(height))
    screen.paste(image, (int(width * 0.3), height // 10))
    return screen


def _burnt_in(image: Image.Image, _random: np.random.Generator) -> Image.Image:
    """A name, a date and a side in the corners."""
    changed = image.copy()
    draw, font = ImageDraw.Draw(changed), _font(image.height)
    draw.text((4, 4), "DOE^JANE  12345\n1970-01-01", fill=255, font=font)
    draw.text((image.width * 0.6, image.height * 0.9), "PA ERECT 110kV", fill=255, font=font)
    draw.text((image.width * 0.9, image.height * 0.05), "L", fill=255, font=font)
    return changed


def _border(grey: int, share: float) -> Change:
    def framed(image: Image.Image, _random: np.random.Generator) -> Image.Image:
        edge = int(share * min(image.size))
        frame = Image.new("L", (image.width + 2 * edge, image.height + 2 * edge), grey)
        frame.paste(image, (edge, edge))
        return frame

    return framed


def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=max(10, height // 22))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


CHANGES: dict[str, Change] = {
    "none": lambda image, _random: image,
    "photograph of a screen": _screen_photograph,
    "screenshot with a viewer": _viewer,
    "burnt-in text": _burnt_in,
    "white border of 5 %": _border(255, 0.05),
    "white border of 15 %": _border(255, 0.15),
    "black border of 15 %": _border(0, 0.15),
    "JPEG of quality 20": lambda image, _random: _jpeg(image, 20),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=60, help="of each class")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    predictor, check = Predictor.load(PRETRAINED), OrientationCheck.load()
    by_label = defaultdict(list)
    for record in in_split(real_images(read_manifest(options.data)), Split.TEST):
        if record.label in predictor.card.labels:
            by_label[record.label].append(record)
    found: dict[str, Counter[str]] = {name: Counter() for name in CHANGES}
    for label, records in sorted(by_label.items()):
        for number in random.permutation(len(records))[: options.images]:
            pixels = read_image(records[int(number)].path.read_bytes()).pixels
            image = Image.fromarray(pixels.astype(np.uint8))
            unchanged = ""
            for name, change in CHANGES.items():
                changed = np.asarray(change(image, random).convert("L"))
                square = standardise(changed, predictor.card.input_size)
                answer, warnings = predict_upright(predictor, check, square)
                right = "right" if answer.decision == label else "wrong"
                found[name][UNCERTAIN if answer.decision == UNCERTAIN else right] += 1
                unchanged = unchanged or answer.label
                found[name]["likely right"] += answer.label == label
                found[name]["likely other"] += answer.label != unchanged
                found[name]["warned"] += bool(warnings)
    columns = ("right", UNCERTAIN, "wrong", "likely right", "likely other", "warned")
    table = Table("change", *columns)
    for name, counts in found.items():
        total = sum(counts[each] for each in ("right", UNCERTAIN, "wrong"))
        shares = [f"{counts[each] / total:.1%}" for each in columns]
        table.add_row(name, *shares)
    console = Console(width=100)
    console.print(table)
    console.print(f"{total} images")


if __name__ == "__main__":
    main()
