"""`xray admin` and `xray key`: users and API keys from the command line.

The commands import the database late, so that `xray --help` need not load it.
"""

import uuid
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.core.cli_output import AsJson, print_json, row_values
from app.settings import Settings

admin_app = typer.Typer(no_args_is_help=True, help="Manage users.")
key_app = typer.Typer(no_args_is_help=True, help="Manage API keys of clinics.")
_ACTOR = "command-line"
Name = Annotated[str, typer.Argument(help="Name of the user.")]


@admin_app.command("create")
def create_admin(name: Name) -> None:
    """Create an admin and print the password. It is not shown again."""
    from app.accounts.tables import Role
    from app.accounts.users import create_user, new_password
    from app.migrations import migrated_database

    password = new_password()
    with migrated_database(Settings()).session() as session:
        create_user(session, name, password, Role.ADMIN, by=_ACTOR)
    print(password)


@admin_app.command("password")
def reset_password(name: Name) -> None:
    """Set a new password, print it, and end the user's sessions. It is not shown again."""
    from app.accounts.users import find_user_named, new_password, set_password
    from app.migrations import migrated_database

    password = new_password()
    with migrated_database(Settings()).session() as session:
        set_password(session, find_user_named(session, name), password, by=_ACTOR)
    print(password)


@admin_app.command("list")
def list_all_users(as_json: AsJson = False) -> None:
    """List all users."""
    from app.accounts.users import list_users
    from app.migrations import migrated_database

    table = Table("name", "role", "clinic", "created", "disabled")
    with migrated_database(Settings()).session() as session:
        users = list_users(session)
        if as_json:
            print_json(
                {
                    **row_values(each, without=["password_hash"]),
                    "clinic": each.clinic.name if each.clinic else None,
                }
                for each in users
            )
            return
        for user in users:
            disabled = f"{user.disabled_at:%Y-%m-%d}" if user.disabled_at else ""
            clinic = user.clinic.name if user.clinic else ""
            table.add_row(user.name, user.role, clinic, f"{user.created_at:%Y-%m-%d}", disabled)
    Console().print(table)


@key_app.command("create")
def create_clinic_key(
    clinic: Annotated[str, typer.Option(help="Name of the clinic; a new clinic is created.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
) -> None:
    """Create an API key and print it. It is not shown again."""
    from app.accounts.api_keys import create_key
    from app.migrations import migrated_database

    with migrated_database(Settings()).session() as session:
        print(create_key(session, clinic, name))


@key_app.command("list")
def list_clinic_keys(as_json: AsJson = False) -> None:
    """List all API keys by their first characters."""
    from app.accounts.api_keys import list_keys
    from app.migrations import migrated_database

    table = Table("id", "clinic", "name", "starts with", "created", "revoked")
    with migrated_database(Settings()).session() as session:
        keys = list_keys(session)
        if as_json:
            print_json(
                {**row_values(each, without=["key_hash"]), "clinic": each.clinic.name}
                for each in keys
            )
            return
        for key in keys:
            revoked = f"{key.revoked_at:%Y-%m-%d}" if key.revoked_at else ""
            created = f"{key.created_at:%Y-%m-%d}"
            table.add_row(str(key.id), key.clinic.name, key.name, key.prefix, created, revoked)
    Console().print(table)


@key_app.command("revoke")
def revoke_clinic_key(
    id: Annotated[uuid.UUID, typer.Argument(help="The key's id, from xray key list.")],
) -> None:
    """Revoke an API key at once."""
    from app.accounts.api_keys import revoke_key
    from app.migrations import migrated_database

    with migrated_database(Settings()).session() as session:
        revoke_key(session, id)
