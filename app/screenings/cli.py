"""`xray storage`: stored images."""

import typer

from app.settings import Settings

storage_app = typer.Typer(no_args_is_help=True, help="Manage stored images.")


@storage_app.command("clean-up")
def clean_up() -> None:
    """Delete stored images that belong to no screening, as a crash may leave them.

    Images stored within the last hour are kept. The server does this every hour as well.
    """
    # Late, so that `xray --help` need not load the database and the storage.
    from app.core.storage import Storage
    from app.migrations import migrated_database
    from app.screenings.cleanup import remove_orphaned_images

    settings = Settings()
    database = migrated_database(settings)
    removed = remove_orphaned_images(database, Storage.open(settings.effective_storage_url))
    print(f"Deleted {removed} file(s).")
