"""`xray storage`: stored images."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.settings import Settings
from ml.errors import counted

if TYPE_CHECKING:
    from app.core.database import Database
    from app.core.storage import Storage
storage_app = typer.Typer(no_args_is_help=True, help="Manage stored images.")


@storage_app.command("clean-up")
def clean_up(
    force: Annotated[
        bool, typer.Option("--force", help="Also where most images belong to no screening.")
    ] = False,
) -> None:
    """Move stored images that belong to no screening to the trash, and empty the trash.

    A crash may leave such images. Those stored within the last hour are kept, and where most images
    belong to no screening, nothing is removed. The server does this every hour as well.
    """
    from app.screenings.cleanup import LARGEST_CLEAN_UP, remove_orphaned_images
    from app.screenings.installation import require_one_installation
    from ml.errors import XrayError

    settings = Settings()
    database, storage = _opened(settings)
    require_one_installation(database, storage)
    done = remove_orphaned_images(database, storage, trash_days=settings.trash_days, force=force)
    if done.refused:
        raise XrayError(
            f"{done.unknown} stored images belong to no screening, which is most of them: nothing "
            "was removed. Check that the database is theirs, or use --force."
        )
    print(
        f"Moved {counted(done.moved, 'file')} to the trash, deleted {done.deleted}, "
        f"put back {done.put_back}."
    )
    if done.unknown > LARGEST_CLEAN_UP:
        print(f"{done.unknown - done.moved} more belong to no screening. Repeat the command.")


@storage_app.command("adopt")
def adopt(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make the configured database and storage belong together, after you moved one of them.

    A server refuses to start with a database and a storage of different installations, because it
    would take the images for deleted ones.
    """
    from app.screenings.installation import adopt_storage, describe_match

    database, storage = _opened(Settings())
    print(describe_match(database, storage))
    if not yes:
        typer.confirm("Do this database and this storage belong together?", abort=True)
    adopted = adopt_storage(database, storage, by="command-line")
    print(f"The database belongs to the storage {adopted} from now on.")


def replay_command(
    screening: Annotated[str, typer.Argument(help="Id of the screening.")],
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest difference of a probability that counts as none.")
    ] = 1e-4,
) -> None:
    """Recompute a past prediction from the stored image and its model version, and compare.

    The exit status is 0 only if the prediction is reproduced; otherwise the output names what
    differs or is missing.
    """
    import uuid

    from app.screenings.replay import replay
    from ml.errors import XrayError

    try:
        wanted = uuid.UUID(screening)
    except ValueError:
        raise XrayError(
            f"{screening!r} is not the id of a screening. Copy it from the page or from the API."
        ) from None
    settings = Settings()
    database, storage = _opened(settings)
    with database.sessions() as session:
        found = replay(session, settings, storage, wanted, tolerance=tolerance)
    database.close()
    print(f"screening {found.screening}")
    print(f"model {found.model}, thresholds of {found.decided_by}")
    for note in found.notes:
        print(f"note: {note}")
    if found.same_input:
        print("the classifier was given the same pixels")
    if found.largest_difference is not None:
        print(f"largest difference of a probability: {found.largest_difference:.2g}")
    if not found.is_equal:
        raise XrayError("The prediction is not reproduced. " + " ".join(found.faults))
    print("The prediction is reproduced: same class, same decision.")


def _opened(settings: Settings) -> "tuple[Database, Storage]":
    # Late, so that `xray --help` need not load the database and the storage.
    from app.core.storage import Storage
    from app.migrations import migrated_database

    return migrated_database(settings), Storage.open(settings.effective_storage_url)
