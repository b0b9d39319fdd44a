"""`xray synthesize`: make images with a trained generator."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn

from ml.commands.common import DeviceName, device_named, until_stopped
from ml.data.manifest import read_manifest
from ml.errors import XrayError
from ml.training.progress import ImageLog

if TYPE_CHECKING:
    import torch

    from ml.gan.generator_file import LoadedGenerator
    from ml.gan.synthesis.folder import SyntheticFolder
    from ml.gan.synthesis.privacy_check import PrivacyChecker
    from ml.gan.synthesis.synthesize import OnImages, Outcome
DEFAULT_COUNT = 64
NO_PRIVACY_CHECK = (
    "no privacy checks: these images are not compared with those that the generator learned from; "
    "one of them may show a patient's image again"
)


def synthesize_command(
    out: Annotated[Path, typer.Option(help="The folder of the images; the same one goes on.")],
    generator: Annotated[
        Path | None, typer.Option(help="A generator's file; default: the released one.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help=f"How many images, from seed 0 on; default: {DEFAULT_COUNT}."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Images of these seeds instead, such as 0-63,100.")
    ] = "",
    label: Annotated[
        str, typer.Option(help="The class; default: as many of each that the generator makes.")
    ] = "",
    truncation: Annotated[
        float, typer.Option(min=0.1, max=1.0, help="Below 1: more usual images, less varied.")
    ] = 1.0,
    mark: Annotated[
        bool, typer.Option("--mark", help="Write SYNTHETIC on the images. Not for training.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            envvar="XRAY_DATA", help="The data set that the generator learned from, to compare."
        ),
    ] = None,
    refuse_below: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            help="Refuse an image nearer to a training image than all but so many percent of "
            "held-out real images; default: 1.",
        ),
    ] = None,
    no_privacy_check: Annotated[
        bool, typer.Option("--no-privacy-check", help="Compare with nothing, refuse nothing.")
    ] = False,
    interpolate: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Draw the way between the images of two seeds instead."),
    ] = None,
    steps: Annotated[int, typer.Option(min=2, max=256, help="Images of that way.")] = 8,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Where embeddings of real images are kept, so that the next call starts sooner; "
            "default: xray-screening in ~/.cache or XDG_CACHE_HOME."
        ),
    ] = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Write how far it is to metrics.jsonl beside OUT.")
    ] = False,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Freeze the data set when all images are there.")
    ] = False,
    device: DeviceName = "auto",
) -> None:
    """Make synthetic images with a privacy check each, as a data set to train a classifier with.

    Images that are too near to one that the generator learned from are refused. The same command
    adds nothing that is there already; interrupted, it goes on. SIGTERM and Ctrl-C end it after the
    images in hand; the exit status is then 143 or 130.
    """
    from ml.gan.generator_file import PRETRAINED, load_generator
    from ml.gan.latents import SEEDS
    from ml.gan.synthesis.folder import SyntheticFolder
    from ml.gan.synthesis.privacy_check import REFUSE_BELOW
    from ml.gan.synthesis.synthesize import (
        Wanted,
        classes_to_make,
        draw_way,
        parse_seeds,
        synthesize,
    )

    if (count is not None) + bool(seeds) + bool(interpolate) > 1:
        raise XrayError("give one of --count, --seeds and --interpolate")
    if min(interpolate or (0,)) < 0 or max(interpolate or (0,)) >= SEEDS:
        raise XrayError("--interpolate takes seeds of 0 to 2^32 - 1")
    wanted = Wanted(
        count=DEFAULT_COUNT if count is None else count,
        seeds=parse_seeds(seeds) if seeds else (),
        label=label,
        truncation=truncation,
        mark=mark,
        refuse_below=REFUSE_BELOW if refuse_below is None else refuse_below,
    )
    place = device_named(device)
    loaded = load_generator(generator or PRETRAINED, place)
    # What a person did wrong is told before images are read.
    classes_to_make(loaded, label)
    folder = SyntheticFolder(out)
    privacy_checker = None if no_privacy_check else _privacy_checker(loaded, against, cache, place)
    if privacy_checker is None:
        print(NO_PRIVACY_CHECK, file=sys.stderr)
    if interpolate:
        with _room_in(out):
            print(f"wrote {draw_way(loaded, out, interpolate, steps, wanted, privacy_checker)}")
        return
    total = len(wanted.seeds) or wanted.count
    with until_stopped() as should_stop, _room_in(out):
        log = ImageLog(out.absolute().parent, total) if progress else None
        with _bar(total, log) as on_images:
            outcome = synthesize(
                loaded,
                folder,
                wanted,
                privacy_checker,
                on_images=on_images,
                should_stop=should_stop,
            )
        _print_outcome(outcome, folder)
    with _room_in(out):
        _freeze(folder, asked=freeze)


def _freeze(folder: "SyntheticFolder", *, asked: bool) -> None:
    """Freeze the images where that is wanted, or was before there were more of them."""
    from ml.data.versioning import SUMMARY, freeze

    if asked and not folder.rows:
        raise XrayError("every image was refused: there is no data set to freeze")
    if folder.rows and (asked or (folder.root / SUMMARY).exists()):
        print(f"frozen {folder.root}: SHA-256 {freeze(folder.root)['sha256']}")


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
