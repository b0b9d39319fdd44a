"""`xray backup` and `xray restore`."""

from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings


def backup(
    target: Annotated[Path, typer.Argument(help="Folder of backups; it is made where missing.")],
    keep: Annotated[
        int | None, typer.Option(min=1, help="Snapshots to keep. Default: all of them.")
    ] = None,
    check_all: Annotated[
        bool, typer.Option("--check-all", help="Also read and check the files of older backups.")
    ] = False,
) -> None:
    """Back up the database, images, models, data sets, run results and secret key.

    The server may continue meanwhile. Files that a backup in the same folder has already are not
    copied again. Everything that is written is read back and checked.
    """
    # Late, so that `xray --help` need not load the database and the storage.
    from app.backup.backup import write_backup
    from app.backup.snapshots import INDEX, BackupFolder, Index
    from app.migrations import migrated_database

    settings = Settings()
    database, folder = migrated_database(settings), BackupFolder(target)
    try:
        name = write_backup(settings, database, folder)
    finally:
        database.close()
    if check_all:
        index = Index(folder.snapshot(name) / INDEX)
        folder.check(index)
        index.close()
    print(f"snapshot {name} is complete and checked")
    if keep is not None:
        with folder.locked():
            print(f"removed {folder.keep_newest(keep)} object(s) of older snapshots")
    if settings.secret_key.get_secret_value():
        print("XRAY_SECRET_KEY is a setting, and not in the backup. Keep it elsewhere.")


def restore(
    source: Annotated[Path, typer.Argument(help="Folder of backups, as xray backup wrote it.")],
    snapshot: Annotated[
        str | None, typer.Option(help="Name of the snapshot. Default: the newest.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace what is there. Files in XRAY_HOME are moved to XRAY_HOME/replaced-TIME.",
        ),
    ] = False,
) -> None:
    """Restore a backup to the configured home folder, database and storage.

    Stop the server and the workers first. Every file is checked.
    """
    from app.backup.restore import restore_backup
    from app.backup.snapshots import BackupFolder

    done = restore_backup(Settings(), BackupFolder(source), snapshot, overwrite=overwrite)
    print(f"restored snapshot {done.name}: {done.screenings} screenings, checked")
    if done.without_image:
        print(f"{done.without_image} screening(s) were deleted during the backup: no image.")
    if done.set_aside:
        print(f"What was there before is in {done.set_aside}")
    if not done.has_secret_key:
        print("The backup has no secret key: set XRAY_SECRET_KEY to the one that was used.")
