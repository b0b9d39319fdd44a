"""`xray synthesize`: make images with a trained generator."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import Progress, TextColumn

from ml.commands.common import DeviceName, device_named, until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest
from ml.errors import XrayError
from ml.options import SynthesisOptions
from ml.training.progress import ImageLog

if TYPE_CHECKING:
    import torch

    from ml.gan.generator_file import LoadedGenerator
    from ml.gan.synthesis.folder import SyntheticFolder
    from ml.gan.synthesis.privacy_check import PrivacyChecker
    from ml.gan.synthesis.synthesize import OnImages, Outcome, Wanted
NO_PRIVACY_CHECK = (
    "no privacy checks: these images are not compared with those that the generator learned from; "
    "one of them may show a patient's image again"
)


@dataclass(frozen=True)
class SynthesizeOptions(SynthesisOptions):
    """Options of the command; those that a run can be given are inherited."""

    mark: bool = Field(
        default=False, description="Write SYNTHETIC on the images; not for training."
    )
    privacy_check: bool = Field(
        default=True,
        description="Compare each image with the training data and refuse near copies.",
    )
    progress: bool = Field(default=False, description="Write progress to metrics.jsonl beside OUT.")
    freeze: bool = Field(
        default=False, description="Freeze the data set once all images are written."
    )
    steps: int = Field(default=8, ge=2, le=256, description="Images of an interpolation.")


@with_flags(SynthesizeOptions, panel="Options")
def synthesize_command(
    out: Annotated[Path, typer.Option(help="The folder of the images; the same one goes on.")],
    generator: Annotated[
        Path | None, typer.Option(help="A generator's file; default: the released one.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            envvar="XRAY_DATA", help="The data set that the generator learned from, to compare."
        ),
    ] = None,
    interpolate: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Interpolate between the images of two seeds instead."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Where embeddings of real images are kept, so that the next call starts sooner; "
            "default: xray-screening in ~/.cache or XDG_CACHE_HOME."
        ),
    ] = None,
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Generate synthetic images, each with a privacy check, as a data set for training.

    Images that are too close to a training image are refused. Running the command again adds only
    missing images and resumes an interrupted run. SIGTERM and Ctrl-C end it after the current
    batch, with exit status 143 or 130.
    """
    from ml.gan.generator_file import PRETRAINED, load_generator
    from ml.gan.synthesis.folder import SyntheticFolder
    from ml.gan.synthesis.synthesize import classes_to_make, draw_way

    options = SynthesizeOptions(**given)
    wanted = _wanted(options, given, interpolate)
    place = device_named(device)
    loaded = load_generator(generator or PRETRAINED, place)
    # Mistakes in the flags are reported before images are read.
    classes_to_make(loaded, options.label)
    folder, checker = SyntheticFolder(out), None
    if options.privacy_check:
        checker = _privacy_checker(loaded, against, cache, place)
    else:
        print(NO_PRIVACY_CHECK, file=sys.stderr)
    if interpolate:
        with _room_in(out):
            print(f"wrote {draw_way(loaded, out, interpolate, options.steps, wanted, checker)}")
    else:
        _make_images(loaded, folder, wanted, checker, log=options.progress)
        with _room_in(out):
            _freeze(folder, asked=options.freeze)


def _wanted(
    options: SynthesizeOptions, given: Mapping[str, object], interpolate: tuple[int, int] | None
) -> "Wanted":
    """What to generate; raises XrayError where the flags contradict each other."""
    from ml.gan.latents import SEEDS
    from ml.gan.synthesis.synthesize import Wanted, parse_seeds

    if ("count" in given) + bool(options.seeds) + bool(interpolate) > 1:
        raise XrayError("Give one of --count, --seeds and --interpolate.")
    if min(interpolate or (0,)) < 0 or max(interpolate or (0,)) >= SEEDS:
        raise XrayError("--interpolate takes seeds from 0 to 2^32 - 1.")
    return Wanted(
        count=options.count,
        seeds=parse_seeds(options.seeds) if options.seeds else (),
        label=options.label,
        truncation=options.truncation,
        mark=options.mark,
        refuse_below=options.refuse_below,
    )


def _make_images(
    loaded: "LoadedGenerator",
    folder: "SyntheticFolder",
    wanted: "Wanted",
    checker: "PrivacyChecker | None",
    *,
    log: bool,
) -> None:
    from ml.gan.synthesis.synthesize import synthesize

    total = len(wanted.seeds) or wanted.count
    with until_stopped() as should_stop, _room_in(folder.root):
        rows = ImageLog(folder.root.absolute().parent, total) if log else None
        with _bar(total, rows) as on_images:
            outcome = synthesize(
                loaded, folder, wanted, checker, on_images=on_images, should_stop=should_stop
            )
        _print_outcome(outcome, folder)


def _freeze(folder: "SyntheticFolder", *, asked: bool) -> None:
    """Freeze the images where that is wanted, or was before there were more of them."""
    from ml.data.versioning import SUMMARY, freeze

    if asked and not folder.rows:
        raise XrayError("every image was refused: there is no data set to freeze")
    if folder.rows and (asked or (folder.root / SUMMARY).exists()):
        print(f"frozen {folder.root}: SHA-256 {freeze(folder.root).sha256}")


@contextmanager
def _bar(total: int, log: "ImageLog | None") -> "Iterator[OnImages]":
    """A bar on a terminal, moved by the number of images that came to be; and rows of a log."""
    columns = (*Progress.get_default_columns(), TextColumn("{task.completed} images"))
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("making images", total=total)

        def on_images(images: int, seconds: float) -> None:
            bar.advance(task, images)
            if log:
                log.add(images, seconds)

        yield on_images


@contextmanager
def _room_in(out: Path) -> Iterator[None]:
    """Say what to do where a folder cannot be written to."""
    try:
        yield
    except OSError as problem:
        raise XrayError(
            f"cannot write to {out}: {problem.strerror or problem}. The images in its manifest are "
            "complete: mend that and give the same command"
        ) from problem


def _print_outcome(outcome: "Outcome", folder: "SyntheticFolder") -> None:
    for reason, number in outcome.refused.most_common():
        print(f"refused, {reason}: {number}")
    speed = f" ({outcome.written / outcome.seconds:.0f} images/s)" if outcome.written else ""
    print(
        f"made {outcome.written} image(s){speed}, {outcome.present} were there; "
        f"{folder.root} has {len(folder.rows)} now"
    )
    bare = sum(image not in folder.privacy_checks for image in folder.rows)
    if bare:
        print(f"without a privacy check: {bare}")


def _privacy_checker(
    loaded: "LoadedGenerator", against: Path | None, cache: Path | None, device: "torch.device"
) -> "PrivacyChecker":
    """What images are compared with."""
    from ml.gan.evaluation.embedding_cache import EmbeddingCache, usual_cache
    from ml.gan.evaluation.features import IMAGENET, feature_space
    from ml.gan.synthesis.privacy_check import PrivacyChecker

    if against is None:
        raise XrayError(
            "images are compared with those that the generator learned from: name that data set "
            "(--against DATA or XRAY_DATA), or make images without (--no-privacy check)"
        )
    privacy_checker = PrivacyChecker(
        loaded,
        read_manifest(against),
        lambda: feature_space(IMAGENET, device=device),
        cache=EmbeddingCache(cache or usual_cache()),
    )
    if not privacy_checker.complete:
        print(
            f"warning: {against} is not the data set that this generator learned from: the "
            "privacy checks speak of these images alone, and say so",
            file=sys.stderr,
        )
    return privacy_checker
