"""A selection of the gallery as a data set in a ZIP file, written while it is sent."""

import csv
import io
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import BadForm, NotFound
from app.core.safe_files import file_in
from app.gallery.tables import SyntheticFilm
from ml.data.manifest import COLUMNS, MANIFEST, SYNTHETIC_COLUMN
from ml.gan.synthesis.folder import CERTIFICATE_COLUMNS, CERTIFICATES
from ml.labels import label_name

MOST_FILMS = 5000
FOLDER = "synthetic-films"
# Nothing of a film tells when it was made, so the same selection is the same file.
_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 256 * 1024
_README = """\
Synthetic films of chest X-rays. No person was X-rayed for any of them.

{films} film(s): {classes}.
Generator(s), by the SHA-256 of their files:
{generators}

Each film's PNG file says in its text what it is: synthetic, its generator, seed and class.
manifest.csv lists the films; its column "synthetic" names the generator. certificates.csv tells how
near each film comes to the films that its generator learned from.

The folder is a data set as `xray train classifier --synthetic FOLDER` takes it: its films train,
and never validate or test. A film's class is what the generator was asked for, which no physician
has confirmed. For research and education; not for judging patients. Licences stand in the column
"license" of manifest.csv.
"""


@dataclass(frozen=True, slots=True)
class ArchivedFilm:
    """A film of the archive.

    Attributes:
        path: its file.
        row: its row in the manifest, with the name that the film has in the archive.
        certificate: its row in the certificates; empty where it was not compared.
    """

    path: Path
    row: dict[str, str]
    certificate: dict[str, str]


def choose(films: Sequence[SyntheticFilm], folders: Mapping[str, Path]) -> list[ArchivedFilm]:
    """Look the films up in their data sets; the same film out of two of them comes once.

    Args:
        films: of the gallery.
        folders: of their data versions, by SHA-256.

    Raises:
        BadForm: no film, or too many of them.
        NotFound: a film's file is gone.
    """
    if not films:
        raise BadForm({"films": "tick the films that you want, and then download them"})
    if len(films) > MOST_FILMS:
        raise BadForm({"films": f"up to {MOST_FILMS:,} films come at once, not {len(films):,}"})
    wanted = {(film.data_sha256, film.image): film for film in films}
    found: dict[tuple[str, str], ArchivedFilm] = {}
    names: set[str] = set()
    for sha256, folder in folders.items():
        for row in _rows_of(folder):
            film = wanted.get((sha256, row["image"]))
            if film is None or (film.model_sha256, film.image) in found:
                continue
            name = film.image
            if name in names:
                # Another generator's set has a film of this name.
                name = f"images/{film.model_sha256[:12]}/{name.removeprefix('images/')}"
            names.add(name)
            try:
                path = file_in(folder, film.image)
            except NotFound as gone:
                raise NotFound(f"film {film.id} is no longer stored: leave it out") from gone
            certificate = film.certificate | {"file": name} if film.certificate else {}
            # Masks stay with their own set.
            row |= {"image": name, "lung_mask": ""}
            found[film.model_sha256, film.image] = ArchivedFilm(path, row, certificate)
    return list(found.values())


def _rows_of(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig") as lines:
        yield from csv.DictReader(lines, restval="")


def stream(films: Sequence[ArchivedFilm]) -> Iterator[bytes]:
    """The ZIP file in pieces; one film is in memory at a time."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, text in _texts(films):
            archive.writestr(_entry(name, zipfile.ZIP_DEFLATED), text)
        for film in films:
            # A PNG is compressed already.
            archive.writestr(_entry(film.row["image"], zipfile.ZIP_STORED), film.path.read_bytes())
            if pipe.waiting >= _CHUNK_BYTES:
                yield pipe.take()
    yield pipe.take()


def _texts(films: Sequence[ArchivedFilm]) -> Iterator[tuple[str, str]]:
    yield "README.txt", _readme(films)
    yield MANIFEST, _as_csv((*COLUMNS, SYNTHETIC_COLUMN), [film.row for film in films])
    certificates = [film.certificate for film in films if film.certificate]
    if certificates:
        yield CERTIFICATES, _as_csv(CERTIFICATE_COLUMNS, certificates)


def _readme(films: Sequence[ArchivedFilm]) -> str:
    classes = Counter(label_name(film.row["label"]) for film in films)
    generators = sorted({film.row[SYNTHETIC_COLUMN] for film in films})
    return _README.format(
        films=len(films),
        classes=", ".join(f"{count} {name}" for name, count in classes.items()),
        generators="\n".join(generators),
    )


def _as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{FOLDER}/{name}", _TIME)
    entry.compress_type = compression
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


class _Pipe(io.RawIOBase):
    """What is written to it is taken out of it; it cannot go back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(content))
        self.waiting += len(content)
        return len(content)

    def take(self) -> bytes:
        """Everything that was written since."""
        taken = b"".join(self._parts)
        self._parts.clear()
        self.waiting = 0
        return taken
