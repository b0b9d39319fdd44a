"""`xray synthesize`: generate a data set of synthetic images with a trained generator."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.commands.common import DeviceName, device_named, until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest
from ml.errors import XrayError
from ml.options.gan import SynthesisOptions
from ml.progress import progress
from ml.training.progress import ImageLog

if TYPE_CHECKING:
    import torch

    from ml.gan.generator_file import LoadedGenerator
    from ml.gan.synthesis.folder import SyntheticFolder
    from ml.gan.synthesis.privacy_check import PrivacyChecker
    from ml.gan.synthesis.synthesize import OnImages, SynthesisResult
NO_PRIVACY_CHECK = (
    "warning: without privacy checks these images are not compared with the training images of the "
    "generator, and one of them may reproduce a patient's image"
)
GeneratorFile = Annotated[
    Path | None, typer.Option("--generator", help="File of a generator; default: the released one.")
]
ComparedData = Annotated[
    Path | None,
    typer.Option(
        "--against", envvar="XRAY_DATA", help="The generator's training data, for privacy checks."
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Cache folder for embeddings of real images; default: "
        "xray-screening in ~/.cache or XDG_CACHE_HOME.",
    ),
]


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


@with_flags(SynthesizeOptions, panel="Options")
def synthesize_command(
    out: Annotated[Path, typer.Option(help="Folder of the images; the same folder resumes.")],
    generator: GeneratorFile = None,
    against: ComparedData = None,
    cache: CacheFolder = None,
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Generate synthetic images, each with a privacy check, as a data set for training.

    Images that are too close to a training image are refused. Running the command again adds only
    missing images and resumes an interrupted run. SIGTERM and Ctrl-C end it after the current
    batch, with exit status 143 or 130.
    """
    from ml.gan.synthesis.folder import SyntheticFolder
    from ml.gan.synthesis.request import SynthesisRequest, parse_seeds
    from ml.gan.synthesis.synthesize import synthesize

    if "count" in given and given.get("seeds"):
        raise XrayError("Give --count or --seeds, not both.")
    options = SynthesizeOptions(**given)
    request = SynthesisRequest(
        count=options.count,
        seeds=parse_seeds(options.seeds) if options.seeds else (),
        label=options.label,
        truncation=options.truncation,
        mark=options.mark,
        refuse_below=options.refuse_below,
    )
    place = device_named(device)
    loaded = load_for_class(generator, options.label, place)
    folder = SyntheticFolder(out)
    checker = open_checker(loaded, against, cache, place) if options.privacy_check else None
    if checker is None:
        print(NO_PRIVACY_CHECK, file=sys.stderr)
    total = len(request.seeds) or request.count
    with until_stopped() as should_stop, explain_write_errors(out):
        log = ImageLog(out.absolute().parent, total) if options.progress else None
        with _progress_bar(total, log) as on_images:
            result = synthesize(
                loaded, folder, request, checker, on_images=on_images, should_stop=should_stop
            )
        _print_result(result, folder)
    with explain_write_errors(out):
        _freeze(folder, wanted=options.freeze)


def load_for_class(generator: Path | None, label: str, device: "torch.device") -> "LoadedGenerator":
    """Load a generator, and check that it makes a class before anything slow begins.

    Args:
        generator: its file; None for the released one.
        label: the classes, commas between; empty for all that the generator makes.
        device: where images are generated.

    Raises:
        XrayError: the generator cannot be read, or does not make a class.
    """
    from ml.gan.generator_file import PRETRAINED, load_generator
    from ml.gan.synthesis.request import classes_to_generate

    loaded = load_generator(generator or PRETRAINED, device)
    classes_to_generate(loaded, label)
    return loaded


def open_checker(
    loaded: "LoadedGenerator", against: Path | None, cache: Path | None, device: "torch.device"
) -> "PrivacyChecker":
    """Prepare the comparison with training images.

    Args:
        loaded: the generator.
        against: the folder of its training data.
        cache: folder for embeddings; None for the usual one.
        device: where images are embedded.

    Raises:
        XrayError: no data set is given, or it cannot be used.
    """
    from ml.gan.evaluation.embedding_cache import EmbeddingCache, usual_cache
    from ml.gan.evaluation.features import IMAGENET, feature_space
    from ml.gan.synthesis.privacy_check import PrivacyChecker

    if against is None:
        raise XrayError(
            "Privacy checks need the generator's training data. Give its folder with --against or "
            "XRAY_DATA, or skip the checks with --no-privacy-check."
        )
    checker = PrivacyChecker(
        loaded,
        read_manifest(against),
        lambda: feature_space(IMAGENET, device=device),
        cache=EmbeddingCache(cache or usual_cache()),
    )
    if not checker.complete:
        print(
            f"warning: {against} is not the data set that this generator was trained on. The "
            "privacy checks cover only the images of that folder, and record this.",
            file=sys.stderr,
        )
    return checker


@contextmanager
def explain_write_errors(out: Path) -> Iterator[None]:
    """Turn an OSError in a folder into an XrayError that says what to do."""
    try:
        yield
    except OSError as problem:
        raise XrayError(
            f"Cannot write to {out}: {problem.strerror or problem}. The images in its manifest are "
            "complete. Fix the problem and run the same command again."
        ) from problem


def _freeze(folder: "SyntheticFolder", *, wanted: bool) -> None:
    """Freeze the images where wanted, or again where an earlier call froze them."""
    from ml.data.versioning import SUMMARY, freeze

    if wanted and not folder.rows:
        raise XrayError("There is no data set to freeze, because every image was refused.")
    if folder.rows and (wanted or (folder.root / SUMMARY).exists()):
        print(f"frozen {folder.root}: SHA-256 {freeze(folder.root).sha256}")


@contextmanager
def _progress_bar(total: int, log: "ImageLog | None") -> "Iterator[OnImages]":
    """Progress on standard error, and rows of a log."""
    with progress("generating images", total) as counter:

        def on_images(images: int, seconds: float) -> None:
            counter.advance(images)
            if log:
                log.add(images, seconds)

        yield on_images


def _print_result(result: "SynthesisResult", folder: "SyntheticFolder") -> None:
    for reason, number in result.refused.most_common():
        print(f"refused, {reason}: {number}")
    speed = f" ({result.written / result.seconds:.0f} images/s)" if result.written else ""
    print(
        f"generated: {result.written}{speed}, already present: {result.present}, now in "
        f"{folder.root}: {len(folder.rows)}"
    )
    unchecked = sum(image not in folder.privacy_checks for image in folder.rows)
    if unchecked:
        print(f"without a privacy check: {unchecked}")
