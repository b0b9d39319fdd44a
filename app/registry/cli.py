"""`xray model`: the registry from the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from app.core.cli_output import AsJson, print_json, row_values
from app.settings import Settings
from ml.errors import XrayError, counted

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.registry.tables import ModelVersion
model_app = typer.Typer(no_args_is_help=True, help="Registered models, and the active one.")
_BY = "command-line"
Digest = Annotated[str, typer.Argument(help="SHA-256 of the model, or its first characters.")]


@model_app.command("register")
def register(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a classifier bundle or of an exported generator.")
    ],
) -> None:
    """Register a classifier or generator, copy its files, and print its SHA-256."""
    from app.registry.files import WEIGHTS
    from app.registry.registration import register_classifier, register_generator

    settings = Settings()
    keep = register_generator if (folder / WEIGHTS).exists() else register_classifier
    with _registry(settings) as session:
        print(keep(session, settings, folder, run=None, by=_BY).sha256)


@model_app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the models, newest first."""
    from app.registry.queries import list_models, serving_sha256

    settings = Settings()
    table = Table(
        Column("SHA-256", min_width=12), "kind", "version", "state", "registered", "training data"
    )
    with _registry(settings) as session:
        present = serving_sha256(session, settings)
        models = list_models(session, all_of_them=True)
        if as_json:
            print_json(
                {**row_values(each, without=["card"]), "state": _state(each, present)}
                for each in models
            )
            return
        for model in models:
            data = model.data_sha256[:12] if model.data_sha256 else ""
            state = _state(model, present)
            made = f"{model.registered_at:%Y-%m-%d}"
            table.add_row(model.sha256[:12], model.kind, model.version, state, made, data)
    Console().print(table)


def _state(model: "ModelVersion", present: str | None) -> str:
    if model.sha256 == present:
        return "active"
    if model.archived_at:
        return "archived"
    return "registered" if model.folder else "card only"


@model_app.command("activate")
def activate_command(
    sha256: Digest,
    override: Annotated[
        str,
        typer.Option(
            help="Reason to activate it despite failed promotion checks; kept in the audit log."
        ),
    ] = "",
) -> None:
    """Activate a classifier. Running servers follow within two seconds."""
    from app.registry.activation import activate

    settings = Settings()
    with _registry(settings) as session:
        model = _named(session, sha256)
        activate(session, settings, model, by=_BY, override=override)
        print(f"{model.version} is active: {model.sha256}")


@model_app.command("roll-back")
def roll_back_command() -> None:
    """Activate the previously active classifier."""
    from app.registry.activation import roll_back
    from app.registry.queries import find_model

    settings = Settings()
    with _registry(settings) as session:
        model = find_model(session, roll_back(session, settings, by=_BY).model_sha256)
        print(f"{model.version} is active again: {model.sha256}")


@contextmanager
def _registry(settings: Settings) -> "Iterator[Session]":
    """A session on the registry, in which are the models that the application came with."""
    from app.migrations import migrated_database
    from app.registry.registration import register_released

    database = migrated_database(settings)
    try:
        register_released(database, settings)
    except XrayError as problem:
        # Activating another one may be the way out.
        Console(stderr=True).print(f"The released models were not registered. {problem}")
    try:
        with database.session() as session:
            yield session
    finally:
        database.close()


def _named(session: "Session", begins: str) -> "ModelVersion":
    from app.registry.queries import list_models

    found = [one for one in list_models(session, all_of_them=True) if one.sha256.startswith(begins)]
    if len(found) != 1:
        number = counted(len(found), "model") if found else "No model"
        raise XrayError(
            f"{number} with a SHA-256 that begins with {begins!r}. See xray model list."
        )
    return found[0]
