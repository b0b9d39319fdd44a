"""Archives from strangers: unpacked within bounds, and never outside their folder.

What an archive says of itself is not believed: bytes are counted as they come out.
"""

import gzip
import io
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ml.data.manifest import listed
from ml.errors import DataError, counted

GIGABYTE = 1_000_000_000
_CHUNK = 1 << 20
# Room that stays on the disk.
_RESERVE = GIGABYTE // 2
# In bytes; file systems take no longer names, and paths not much longer.
_LONGEST_NAME, _LONGEST_PATH = 255, 2000
# C: and the like.
_DRIVE = re.compile("[A-Za-z]:")
# Of ZIP archives: a name in UTF-8, and the system that packed it.
_UTF8_FLAG, _FAT = 0x800, 0
# Two or more kana, CJK characters or full-width forms.
_JAPANESE = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e]{2,}")
_LINK = "It is a link or a device. Pack the files themselves."
# What lies between two files of a TAR archive: headers, their padding, the reader's own buffer.
_BETWEEN = 4 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may come to.

    Attributes:
        files: most files in it.
        bytes: of all of them together.
        ratio: how many times the size of the archive that may be. Images are packed already, so
            an archive that grows much more is no archive of images.
        free: bytes that small archives may come to whatever the ratio.
    """

    files: int = 200_000
    bytes: int = 60 * GIGABYTE
    ratio: int = 100
    free: int = 200_000_000


class _TooMuch(Exception):
    """The archive goes beyond a bound; the message says which."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in an archive.

    Attributes:
        name: as the archive has it.
        fault: why it is not unpacked; empty where it is.
        is_folder: it has no content.
        open: its content.
    """

    name: str
    fault: str
    is_folder: bool
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Whether the file is a ZIP or TAR archive, by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or _is_tar(path))


def unpack(
    archive: Path,
    to: Path,
    bounds: Bounds | None = None,
    on_chunk: Callable[[], None] = lambda: None,
) -> int:
    """Unpack a ZIP or TAR archive, TAR also compressed by gzip.

    Args:
        archive: its file; recognized by its content, not by its name.
        to: a folder that is made. After an error it may hold some of the files.
        bounds: what the archive may come to.
        on_chunk: called after every megabyte and every file; may raise to stop.

    Returns:
        How many files were unpacked.

    Raises:
        DataError: names every file that leads out of the folder, is a link or a device, stands
            in the archive twice or is damaged; or the archive is none, or goes beyond a bound.
    """
    bounds = bounds or Bounds()
    to.mkdir(parents=True)
    fitting = bounds.free + bounds.ratio * archive.stat().st_size
    most = max(0, min(bounds.bytes, fitting, shutil.disk_usage(to).free - _RESERVE))
    unpacker = _Unpacker(to, bounds.files, most, on_chunk)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                unpacker.take(_zip_members(opened))
        elif _is_tar(archive):
            _unpack_tar(archive, unpacker, most)
        else:
            raise DataError(
                f"{archive.name} is not a ZIP or TAR archive. Pack the images as one of these."
            )
    except _TooMuch as problem:
        raise DataError(f"{archive.name} {problem}") from problem
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        gzip.BadGzipFile,
    ) as problem:
        unpacker.faults.append(f"It is damaged or incomplete ({problem}). Pack or upload it again.")
    if unpacker.faults:
        faults = unpacker.faults
        raise DataError(f"{archive.name} has {counted(len(faults), 'error')}:{listed(faults)}")
    if not unpacker.files:
        raise DataError(f"{archive.name} is empty. Pack it again.")
    return unpacker.files


class _Unpacker:
    """Writes members, counts what comes out, and collects what is wrong."""

    def __init__(
        self, to: Path, most_files: int, most_bytes: int, on_chunk: Callable[[], None]
    ) -> None:
        self._to = to
        self._most_files, self._most_bytes = most_files, most_bytes
        self._on_chunk = on_chunk
        self._members = self._bytes = 0
        self.files = 0
        self.faults: list[str] = []

    def take(self, members: Iterator[_Member]) -> None:
        """Unpack members as they come."""
        for member in members:
            self._members += 1
            if self._members > self._most_files:
                raise _TooMuch(f"has more than {self._most_files:,} files. Split it.")
            fault = member.fault or _name_fault(member.name)
            if not fault and not member.is_folder:
                fault = self._write(member)
            if fault:
                self.faults.append(f"{member.name[:200]!r}: {fault}")
            self._on_chunk()

    def _write(self, member: _Member) -> str:
        """Write a file; what is wrong with it, or nothing."""
        path = self._to / PurePosixPath(member.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Exclusively: no file replaces another one, nor is one written through a link.
            with member.open() or io.BytesIO() as source, path.open("xb") as target:
                while chunk := source.read(_CHUNK):
                    self._bytes += len(chunk)
                    if self._bytes > self._most_bytes:
                        raise _TooMuch(
                            f"unpacks to more than {self._most_bytes / 1e6:,.0f} MB, which is too "
                            "much for its size or for the disk. Split it, or unpack it yourself "
                            "and import the folder."
                        )
                    target.write(chunk)
                    self._on_chunk()
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return "Another file in the archive has the same name."
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as bad:
            return f"It cannot be unpacked ({bad})."
        self.files += 1
        return ""


def _name_fault(name: str) -> str:
    path = PurePosixPath(name)
    try:
        longest = max((len(part.encode()) for part in path.parts), default=0)
    except UnicodeEncodeError:
        return "Its name is not valid UTF-8."
    if "\\" in name or "\0" in name or _DRIVE.match(name):
        return "Its name is not valid here. Pack it with / between folders."
    if path.is_absolute() or ".." in path.parts:
        return "Its path leads out of the folder."
    if longest > _LONGEST_NAME or len(name) > _LONGEST_PATH:
        return "Its name is too long."
    return ""


# --- ZIP --------------------------------------------------------------------------------------


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        name = zip_name(info)
        yield _Member(name, _zip_fault(info), info.is_dir(), partial(archive.open, info))


def zip_name(info: zipfile.ZipInfo) -> str:
    """A file's name in a ZIP archive, as the system that packed it meant it.

    Marked as UTF-8 it is that. Otherwise it comes in the code page of that system, and the archive
    does not say which one.
    """
    # `ZipInfo` cuts names at a NUL and replaces the system's own separator.
    name = info.orig_filename
    if not info.flag_bits & _UTF8_FLAG:
        name = decoded_name(name.encode("cp437"), "cp437")
    # Some packers of Windows put its own separator between folders.
    return name.replace("\\", "/") if info.create_system == _FAT else name


def decoded_name(raw: bytes, otherwise: str) -> str:
    """A file's name of an unknown encoding: UTF-8, Japanese, or what it is otherwise.

    Args:
        raw: the name.
        otherwise: an encoding in which every byte has a meaning.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        japanese = raw.decode("cp932")
    except UnicodeDecodeError:
        return raw.decode(otherwise)
    # In Western names single letters have accents, and look like single Japanese ones.
    runs = re.findall("[^\0-\x7f]+", japanese)
    western = raw.decode(otherwise)
    separators = "\\" in western and "\\" not in japanese
    is_japanese = separators or all(_JAPANESE.fullmatch(run) for run in runs)
    return japanese if is_japanese else western


def _zip_fault(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    # Archives made elsewhere than on Unix leave it empty.
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return _LINK
    if info.flag_bits & 1:
        return "It is encrypted. Pack it without a password."
    return ""


# --- TAR --------------------------------------------------------------------------------------


class _Counted(io.RawIOBase):
    """A stream that gives out no more than it is allowed; what a header claims is no reason."""

    def __init__(self, source: IO[bytes], most: int) -> None:
        self._source = source
        self._left = most
        # Until the next file's content, so that no header of gigabytes gets into memory.
        self.allowed = _BETWEEN

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(_CHUNK if size < 0 else size)
        self.allowed -= len(chunk)
        self._left -= len(chunk)
        if self._left < 0 or self.allowed < 0:
            raise _TooMuch(
                "has headers that are too large for an archive of images. Pack it again."
            )
        return chunk


def _is_tar(archive: Path) -> bool:
    try:
        with archive.open("rb") as raw, _plain(raw) as source:
            block = source.read(512)
            tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        return False
    return True


def _plain(raw: IO[bytes]) -> IO[bytes]:
    """The bytes of the archive, whether they are compressed or not."""
    magic = raw.read(2)
    raw.seek(0)
    return gzip.open(raw) if magic == b"\x1f\x8b" else raw  # type: ignore[return-value]


def _unpack_tar(archive: Path, unpacker: _Unpacker, most: int) -> None:
    with archive.open("rb") as raw, _plain(raw) as source:
        # Headers and padding come on top of the files.
        counted = _Counted(source, most + most // 4 + _BETWEEN)
        with tarfile.open(fileobj=counted, mode="r|") as opened:
            unpacker.take(_tar_members(opened, counted))


def _tar_members(archive: tarfile.TarFile, counted: _Counted) -> Iterator[_Member]:
    for info in archive:
        counted.allowed = info.size + _BETWEEN
        fault = (
            ""
            if info.isreg() or info.isdir()
            else "It is a link or a device. Pack the files themselves."
        )
        name = decoded_name(info.name.encode(errors="surrogateescape"), "latin-1")
        yield _Member(name, fault, info.isdir(), partial(archive.extractfile, info))
