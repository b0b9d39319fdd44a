"""Files to a machine without a network, in parts, and its results back. Needs Python alone.

    python -m scripts.gpu.transfer pack --data DATA --wheels WHEELS --out PARTS
    python scripts/gpu/transfer.py unpack PARTS/part-1.tar --home HOME
    python -m scripts.gpu.transfer join RESULTS --to FOLDER

A part is a tar archive that can be copied and unpacked alone, in any order; unpacking one twice
changes nothing. With the last one the wheels are installed to HOME/site.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MIB = 2**20
PART_BYTES = 60 * MIB  # of at most 64 MiB that travel at once, the rest for headers and the script
RESULT_BYTES = 16 * MIB
MOST_RESULTS = 8
CODE = ("ml", "benchmarks", "scripts", "pyproject.toml")
# Nothing that the steps read.
LEFT_OUT = ("__pycache__", "demonstration", "generator")


def pack(data: Path, wheels: Path | None, out: Path, *, limit: int = PART_BYTES) -> list[Path]:
    """Write a data set, the code and wheels as parts.

    Args:
        data: folder with manifest.csv and images.
        wheels: folder with *.whl of packages that the machine lacks.
        out: folder of the parts; older ones in it are replaced.
        limit: bytes of a part's contents.

    Raises:
        SystemExit: one file is larger than a part.
    """
    files = dict(_files_to_send(data, wheels))
    groups: list[dict[str, Path]] = [{}]
    room = limit
    for name, path in files.items():
        size = path.stat().st_size + 1024  # its header and padding
        if size > limit:
            sys.exit(f"{path} has {size} bytes, more than a part of {limit}. Leave it out.")
        if size > room:
            groups.append({})
            room = limit
        groups[-1][name] = path
        room -= size
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part-*.tar"):
        old.unlink()
    return [_write_part(out, n, len(groups), group) for n, group in enumerate(groups, start=1)]


def _files_to_send(data: Path, wheels: Path | None) -> Iterator[tuple[str, Path]]:
    """Names in the machine's folder and paths here, the code first."""
    for name in CODE:
        for path in _all_files(REPOSITORY / name):
            inner = path.relative_to(REPOSITORY)
            if not set(LEFT_OUT) & set(inner.parts):
                yield f"code/{inner.as_posix()}", path
    for path in sorted(wheels.glob("*.whl")) if wheels else []:
        yield f"wheels/{path.name}", path
    for path in _all_files(data):
        yield f"data/{path.relative_to(data).as_posix()}", path


def _all_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def _write_part(out: Path, number: int, count: int, files: Mapping[str, Path]) -> Path:
    path = out / f"part-{number}.tar"
    digests = {}
    with tarfile.open(path, "w") as archive:
        for name, source in files.items():
            content = source.read_bytes()
            digests[name] = hashlib.sha256(content).hexdigest()
            _add(archive, name, content)
        # Last: a part whose list is there is whole.
        listed = json.dumps({"parts": count, "sha256": digests}).encode()
        _add(archive, f"parts/{number}.json", listed)
    return path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def unpack(parts: Iterable[Path], home: Path) -> list[int]:
    """Unpack parts to the machine's disk, and install the wheels once all are there.

    Returns:
        The numbers of the parts that are still missing.

    Raises:
        SystemExit: a file differs from what was packed.
    """
    for part in parts:
        with tarfile.open(part) as archive:
            archive.extractall(home, filter="data")
    lists = {int(path.stem): json.loads(path.read_text()) for path in home.glob("parts/*.json")}
    for number, listed in lists.items():
        for name, digest in listed["sha256"].items():
            if hashlib.sha256((home / name).read_bytes()).hexdigest() != digest:
                (home / f"parts/{number}.json").unlink()
                sys.exit(f"{name} of part {number} is damaged. Copy that part again.")
    count = max((listed["parts"] for listed in lists.values()), default=0)
    missing = sorted(set(range(1, count + 1)) - set(lists))
    if not missing:
        _install(home)
    return missing


def _install(home: Path) -> None:
    """Install the wheels beside the machine's own packages, once."""
    wheels, done = sorted(home.glob("wheels/*.whl")), home / "site" / "installed.json"
    names = json.dumps([wheel.name for wheel in wheels])
    if not wheels or (done.exists() and done.read_text() == names):
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--upgrade", "--target", home / "site", *wheels], check=True)
    done.write_text(names)


def collect(files: Iterable[Path], root: Path, out: Path, name: str) -> list[str]:
    """Write result files as at most 8 pieces of 16 MiB.

    Args:
        files: the most important first.
        root: their names are relative to this folder.
        out: folder of the pieces.
        name: of the pieces; older ones of this name are replaced.

    Returns:
        Names of the files that had no room.
    """
    stream, left_out = io.BytesIO(), []
    room = MOST_RESULTS * RESULT_BYTES - 64 * 1024
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in files:
            size = path.stat().st_size + 1024
            if size > room:
                left_out.append(path.relative_to(root).as_posix())
                continue
            room -= size
            _add(archive, path.relative_to(root).as_posix(), path.read_bytes())
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{name}.tar.*"):
        old.unlink()
    content = stream.getvalue()
    for number, start in enumerate(range(0, len(content), RESULT_BYTES)):
        (out / f"{name}.tar.{number}").write_bytes(content[start : start + RESULT_BYTES])
    return left_out


def join(results: Path, to: Path) -> list[str]:
    """Unpack the pieces of `collect`; returns the names of the steps that they are of."""
    names = sorted({path.name.split(".")[0] for path in results.glob("*.tar.*")})
    for name in names:
        pieces = sorted(results.glob(f"{name}.tar.*"), key=lambda path: int(path.suffix[1:]))
        content = b"".join(piece.read_bytes() for piece in pieces)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(to / name, filter="data")
    return names


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("--data", type=Path, required=True)
    packing.add_argument("--wheels", type=Path)
    packing.add_argument("--out", type=Path, required=True)
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("parts", type=Path, nargs="+")
    unpacking.add_argument("--home", type=Path, required=True)
    joining = commands.add_parser("join")
    joining.add_argument("results", type=Path)
    joining.add_argument("--to", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "pack":
        for path in pack(given.data, given.wheels, given.out):
            print(f"{path}: {path.stat().st_size / MIB:.0f} MiB")
    elif given.command == "unpack":
        missing = unpack(given.parts, given.home)
        print(f"missing parts: {', '.join(map(str, missing)) or 'none'}")
    else:
        print("joined:", ", ".join(join(given.results, given.to)))


if __name__ == "__main__":
    main()
