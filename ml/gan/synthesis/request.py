"""Which synthetic images to generate: seeds, classes, truncation, mark, privacy threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml.errors import XrayError
from ml.gan.generator_file import LoadedGenerator
from ml.gan.latents import SEEDS
from ml.gan.onnx_generator import class_number
from ml.gan.synthesis.privacy_check import REFUSE_BELOW

MOST_SEEDS = 1_000_000


@dataclass(frozen=True, slots=True)
class SynthesisRequest:
    """Which images to generate, and how.

    Attributes:
        count: number of images, from seed 0 on; a refused image is replaced by the next seed.
        seeds: exactly these seeds, instead of a count.
        label: the classes, commas between, of each the same number; empty for all of the
            generator's classes.
        truncation: of the latents, above 0 and at most 1.
        mark: write the word SYNTHETIC on the images.
        refuse_below: percentile under which an image is too near to a training image, 0 to 100.
    """

    count: int = 0
    seeds: Sequence[int] = ()
    label: str = ""
    truncation: float = 1.0
    mark: bool = False
    refuse_below: float = REFUSE_BELOW

    @property
    def variant(self) -> str:
        """The part of a file name that distinguishes images of the same seed."""
        truncated = f"-t{self.truncation:g}" if self.truncation != 1 else ""
        return truncated + ("-marked" if self.mark else "")


def parse_seeds(text: str) -> list[int]:
    """Numbers and ranges separated by commas, such as `0-63,100`; each once, in that order.

    Raises:
        XrayError: the text is no such list, or names more than a million seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        # A longer number does not fit 32 bits.
        too_long = max(len(first), len(last)) > len(str(SEEDS))
        if too_long or not first.isdecimal() or not (last.isdecimal() or "-" not in part):
            raise XrayError(
                f"--seeds {text:.40} is not a list of seeds. Give one such as 0-63,100."
            )
        low, high = int(first), int(last or first)
        if not low <= high < SEEDS:
            raise XrayError(
                f"--seeds {part.strip()} is out of range. Give seeds from 0 to 2^32 - 1, the lower "
                "one first."
            )
        if high - low + len(seeds) >= MOST_SEEDS:
            raise XrayError(
                f"--seeds {text:.40} names too many seeds. Give at most {MOST_SEEDS:,} at once."
            )
        seeds |= dict.fromkeys(range(low, high + 1))
    return list(seeds)


def classes_to_generate(loaded: LoadedGenerator, label: str) -> list[str]:
    """The classes of the images to generate.

    Args:
        loaded: the generator.
        label: the wanted classes, commas between; empty for all classes of the generator.

    Raises:
        XrayError: the generator does not make one of them, or mixes its classes.
    """
    labels = list(loaded.labels)
    wanted = [name.strip() for name in label.split(",") if name.strip()]
    for name in wanted or labels[:1]:
        class_number(name, labels, conditional=loaded.card.options.conditional)
    return list(dict.fromkeys(wanted)) or labels
