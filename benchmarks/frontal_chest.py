"""How well the check tells frontal chest X-rays from other pictures, for each site.

    python -m benchmarks.frontal_chest --data DATA [--data OTHER] [--images 100]

Other pictures: photographs of scikit-learn, CT, MR and other images of pydicom's test files, and
random parts of both; noise; pages of text; small parts of chest X-rays. AUROC of a site: its chest
X-rays against all other pictures, by the check's own probability; 95 % bootstrap interval.
"""

import argparse
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

from ml.data.manifest import read_manifest, real_images
from ml.evaluation.metrics import auroc
from ml.imaging.decode import read_image
from ml.imaging.orientation import CHEST_PROBABILITY, ROTATIONS, OrientationCheck
from ml.imaging.preprocessing import BlankImage, standardise
from ml.imaging.types import GreyImage
from ml.orientation.not_chest import drawn

DRAWS = 500
PARTS = 4
DRAWN = 150
WORDS = "patient study image report chest view window save open close settings login list of today"


def photographs() -> Iterator[tuple[str, GreyImage]]:
    """Pictures that come with installed packages."""
    for picture in load_sample_images().images:
        yield "photograph", np.asarray(Image.fromarray(picture).convert("L"))
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        try:
            pixels = pydicom.dcmread(path).pixel_array.astype(float)
        except Exception as problem:  # some of these files are broken on purpose, in any way
            print(f"left out {path.name}: {type(problem).__name__}", file=sys.stderr)
            continue
        while pixels.ndim > 2:
            pixels = pixels[..., 0] if pixels.shape[-1] in (3, 4) else pixels[0]
        if min(pixels.shape) >= 64 and np.ptp(pixels):
            scaled = 255 * (pixels - pixels.min()) / np.ptp(pixels)
            yield "medical image", scaled.astype(np.uint8)


def page_of_text(random: np.random.Generator) -> GreyImage:
    """A screenshot of text."""
    dark = random.random() < 0.3
    picture = Image.new("L", (640, 480), 20 if dark else 245)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=18)
    for top in range(10, 460, int(random.integers(20, 40))):
        words = " ".join(random.choice(WORDS.split(), int(random.integers(2, 9))))
        draw.text((int(random.integers(5, 120)), top), words, fill=230 if dark else 15, font=font)
    return np.asarray(picture)


def part_of(picture: GreyImage, random: np.random.Generator, low: float, high: float) -> GreyImage:
    """A random square of a picture, its side in shares of the short side."""
    side = int(min(picture.shape) * random.uniform(low, high))
    top, left = (int(random.integers(0, length - side + 1)) for length in picture.shape)
    return picture[top : top + side, left : left + side]


def other_pictures(
    random: np.random.Generator, chests: list[GreyImage]
) -> Iterator[tuple[str, GreyImage]]:
    """All pictures that are no chest X-rays, by kind."""
    for kind, picture in photographs():
        yield kind, picture
        for _ in range(PARTS):
            yield f"part of a {kind}", part_of(picture, random, 0.25, 0.9)
    for _ in range(DRAWN):
        yield "noise", drawn("noise", random, 128)
        yield "text", page_of_text(random)
        chest = chests[int(random.integers(len(chests)))]
        yield "small part of a chest X-ray", part_of(chest, random, 0.15, 0.35)


def scores(check: OrientationCheck, pictures: list[GreyImage]) -> NDArray[np.float64]:
    """The check's log odds that each picture is a frontal chest X-ray."""
    found = []
    for picture in pictures:
        try:
            square = standardise(standardise(picture, 224), check.card.input_size)
        except BlankImage:
            continue
        found.append(check.logits(square[None])[0, ROTATIONS + 1])
    return np.array(found)


def interval(site: NDArray[np.float64], others: NDArray[np.float64]) -> str:
    """AUROC with its bootstrap interval."""
    random = np.random.default_rng(0)

    def once(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return auroc(np.arange(len(a) + len(b)) < len(a), np.concatenate([a, b]))

    drawn_values = [
        once(random.choice(site, len(site)), random.choice(others, len(others)))
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn_values, (0.025, 0.975))
    return f"{once(site, others):.4f} ({low:.4f} to {high:.4f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--images", type=int, default=100, help="of each site")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    random, check = np.random.default_rng(0), OrientationCheck.load()
    by_site: dict[str, list[Path]] = defaultdict(list)
    for data in options.data:
        for record in real_images(read_manifest(data)):
            by_site[f"{record.source} ({record.site})"].append(record.path)
    chests = {
        site: [
            read_image(paths[int(n)].read_bytes(), least_side=1).pixels.astype(np.uint8)
            for n in random.permutation(len(paths))[: options.images]
        ]
        for site, paths in sorted(by_site.items())
    }
    kinds: dict[str, list[GreyImage]] = defaultdict(list)
    for kind, picture in other_pictures(random, [one for each in chests.values() for one in each]):
        kinds[kind].append(picture)
    others = {kind: scores(check, pictures) for kind, pictures in kinds.items()}
    everything = np.concatenate(list(others.values()))
    limit = np.log(CHEST_PROBABILITY / (1 - CHEST_PROBABILITY))
    table = Table(
        "chest X-rays", "images", "doubted", "doubted turned, inverted", "AUROC (95 % CI)"
    )
    for site, images in chests.items():
        found = scores(check, images)
        changed = [np.ascontiguousarray(np.rot90(one)) for one in images] + [
            255 - one for one in images
        ]
        table.add_row(
            site,
            str(len(found)),
            f"{(found < limit).mean():.1%}",
            f"{(scores(check, changed) < limit).mean():.1%}",
            interval(found, everything),
        )
    second = Table("other pictures", "images", "doubted")
    for kind, found in others.items():
        second.add_row(kind, str(len(found)), f"{(found < limit).mean():.1%}")
    console = Console(width=120)
    console.print(table)
    console.print(second)


if __name__ == "__main__":
    main()
