"""What a run wrote, as a browser may see it: from its own folder alone, and never as our own page.

A run's folder is filled by programs that read data from anywhere, so nothing in it is believed:
a path that leads out of it does not exist, a page is shown in a sandbox that knows neither our
address nor our cookies, and what browsers need not understand is only downloaded.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from fastapi.responses import StreamingResponse

from app.settings import Settings
from ml.texts import msg

SAMPLES = "samples"
# What a run's program writes at the top of its folder, for people.
_RESULT_KINDS = frozenset((".csv", ".html", ".json", ".md", ".png", ".svg"))
_WORKING_FILES = frozenset(("options.json", "prepared.json", "run-options.json"))
_TITLES = {
    "report.html": msg("Report"),
    "conditions.html": msg("Report of the conditions"),
    "left-out.csv": msg("Files that the import left out, with the reasons"),
    "left-out-reviewed.csv": msg("Reviewed images that were left out, with the reasons"),
}
_CHUNK = 64 * 2**10
_SHOWN = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".json": "text/plain; charset=utf-8",
    ".jsonl": "text/plain; charset=utf-8",
    ".csv": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}
# Reports carry their style and pictures within themselves; in the sandbox no script runs.
_SANDBOX = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The address of a sample changes with the file.
_LASTING = "private, max-age=86400"


@dataclass(frozen=True, slots=True)
class Sample:
    """A grid of images that a training made on its way."""

    step: int
    url: str


def run_folder(settings: Settings, id: uuid.UUID) -> Path:
    """Where a run's program writes; it may not be there yet."""
    return settings.home_folder.run(id)


def file_url(id: uuid.UUID, path: str) -> str:
    """The address of a file in a run's folder."""
    return f"/admin/runs/{id}/files/{quote(path)}"


def is_sample(path: str) -> bool:
    """Whether a file is a grid that a training made: no patient's, and never changed."""
    return path.startswith(f"{SAMPLES}/")


def send_file(path: Path, *, download: bool = False, lasting: bool = False) -> StreamingResponse:
    """A run's file, safe to open in a browser whatever it holds.

    Args:
        path: as `app.core.safe_files.file_in` found it.
        download: also what a browser could show.
        lasting: a browser may keep it for a day; others it may not keep at all.
    """
    media_type = _SHOWN.get(path.suffix.lower())
    headers = {}
    if download or media_type is None:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(path.name)}"
    if path.suffix.lower() == ".html":
        headers["Content-Security-Policy"] = _SANDBOX
    if lasting:
        headers["Cache-Control"] = _LASTING
    # Without a length: the file may be growing.
    return StreamingResponse(
        _chunks(path), media_type=media_type or "application/octet-stream", headers=headers
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def list_samples(folder: Path, id: uuid.UUID) -> list[Sample]:
    """The grids of a training, in the order they were made."""
    samples = []
    for path in sorted((folder / SAMPLES).glob("*.png")):
        # A grid may be removed while we look: a long training keeps every second one.
        if path.stem.isdigit() and (changed := _changed_at(path)):
            url = f"{file_url(id, f'{SAMPLES}/{path.name}')}?v={changed}"
            samples.append(Sample(int(path.stem), url))
    return samples


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file with results of a run.

    Attributes:
        title: what it is, or its name.
    """

    name: str
    title: str
    url: str


def list_results(folder: Path, id: uuid.UUID) -> list[ResultFile]:
    """The files with results that a run wrote: those with a title first."""
    if not folder.is_dir():
        return []
    found = {path.name for path in folder.iterdir() if _is_result(path)}
    names = [*(name for name in _TITLES if name in found), *sorted(found - _TITLES.keys())]
    return [ResultFile(name, _TITLES.get(name, name), file_url(id, name)) for name in names]


def _is_result(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in _WORKING_FILES
    if hidden or path.suffix not in _RESULT_KINDS or path.is_symlink() or not path.is_file():
        return False
    # A table without a row says nothing.
    return path.suffix != ".csv" or _has_rows(path)


def _has_rows(path: Path) -> bool:
    with path.open("rb") as table:
        return len(list(islice(table, 2))) > 1


def state_of_files(folder: Path, names: tuple[str, ...]) -> list[int]:
    """Something that changes whenever one of the files or folders does."""
    return [_changed_at(folder / name) for name in names]


def _changed_at(path: Path) -> int:
    """When a file was changed, in ns; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
