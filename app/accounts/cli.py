"""`xray admin`: users from the command line, for a first admin and for one who is locked out."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.settings import Settings

admin_app = typer.Typer(no_args_is_help=True, help="Users who sign in.")
_BY = "command-line"
Name = Annotated[str, typer.Argument(help="What they type to sign in.")]


@admin_app.command("create")
def create(name: Name) -> None:
    """Make an admin and print the password; it cannot be shown again."""
    from app.accounts.tables import Role
    from app.accounts.users import create_user, new_password
    from app.migrations import migrated_database

    password = new_password()
    with migrated_database(Settings()).session() as session:
        create_user(session, name, password, Role.ADMIN, by=_BY)
    print(password)


@admin_app.command("password")
def password(name: Name) -> None:
    """Give a user another password and print it; their browsers are signed out."""
    from app.accounts.users import find_user_named, new_password, set_password
    from app.migrations import migrated_database

    made = new_password()
    with migrated_database(Settings()).session() as session:
        set_password(session, find_user_named(session, name), made, by=_BY)
    print(made)


@admin_app.command("list")
def list_command() -> None:
    """List the users."""
    from app.accounts.users import list_users
    from app.migrations import migrated_database

    table = Table("name", "role", "clinic", "made", "disabled")
    with migrated_database(Settings()).session() as session:
        for user in list_users(session):
            disabled = f"{user.disabled_at:%Y-%m-%d}" if user.disabled_at else ""
            clinic = user.clinic.name if user.clinic else ""
            table.add_row(user.name, user.role, clinic, f"{user.created_at:%Y-%m-%d}", disabled)
    Console().print(table)
