"""Sample images of the start page, with which visitors try the application.

They are images of the demonstration set: a generator made them, and no person was X-rayed.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.core.errors import NotFound
from app.datasets.versions import SHIPPED
from ml.labels import label_name
from ml.texts import msg

REFERENCE = "Synthetic sample"
NOTICE = msg(
    "This image is synthetic: a generator made it, and no person was X-rayed. "
    "The prediction says nothing about a person."
)
# Of each class one; their names are those of the set.
_NAMES = ("covid-51", "pneumonia-28", "normal-161")


@dataclass(frozen=True, slots=True)
class StartPageSample:
    """One image.

    Attributes:
        name: in addresses.
        label_name: the class that its generator was asked for.
    """

    name: str
    label_name: str

    @property
    def file(self) -> Path:
        """The image."""
        return SHIPPED / "images" / f"{self.name}.png"


SAMPLES = tuple(StartPageSample(name, label_name(name.split("-")[0])) for name in _NAMES)


def find_sample(name: str) -> StartPageSample:
    """The sample of a name.

    Raises:
        NotFound: there is none.
    """
    for sample in SAMPLES:
        if sample.name == name:
            return sample
    raise NotFound(msg("There is no such sample. Choose one on the start page."))


def is_of_a_sample(sha256: str) -> bool:
    """Whether a file with this hash is one of the samples, by whichever way it came."""
    return sha256 in _hashes()


@cache
def _hashes() -> frozenset[str]:
    return frozenset(hashlib.sha256(sample.file.read_bytes()).hexdigest() for sample in SAMPLES)
