"""The models' commands: data, train, export, evaluate, compare, reproduce, predict."""

import typer

from ml.commands.audit import audit_command
from ml.commands.card import card_command
from ml.commands.classifier import (
    evaluate_classifier_command,
    export_classifier_command,
    export_weights_command,
    train_classifier_command,
)
from ml.commands.compare import compare_classifiers_command, compare_conditions_command
from ml.commands.data import data_app
from ml.commands.gan import train_gan_command
from ml.commands.gan_evaluation import compare_gans_command, evaluate_gan_command
from ml.commands.gan_release import export_generator_command
from ml.commands.interpolate import interpolate_command
from ml.commands.local import evaluate_local_command
from ml.commands.lungs import train_lungs_command
from ml.commands.orientation import train_orientation_command
from ml.commands.predict import predict
from ml.commands.reproduce import reproduce_report_command
from ml.commands.sites import evaluate_sites_command
from ml.commands.synthesize import synthesize_command
from ml.commands.validate import evaluate_reference_command, validate_command

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Chest X-ray screening: data, models, predictions and the web application.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train models.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Evaluate models.")
compare_app = typer.Typer(no_args_is_help=True, help="Compare models.")
export_app = typer.Typer(no_args_is_help=True, help="Export trained models.")
reproduce_app = typer.Typer(no_args_is_help=True, help="Reproduce published results.")

app.add_typer(data_app, name="data")
app.add_typer(train_app, name="train")
app.add_typer(export_app, name="export")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(compare_app, name="compare")
app.add_typer(reproduce_app, name="reproduce")
train_app.command("classifier")(train_classifier_command)
train_app.command("gan")(train_gan_command)
train_app.command("lungs")(train_lungs_command)
train_app.command("orientation")(train_orientation_command)
app.command("synthesize")(synthesize_command)
app.command("interpolate")(interpolate_command)
export_app.command("classifier")(export_classifier_command)
export_app.command("weights")(export_weights_command)
export_app.command("generator")(export_generator_command)
evaluate_app.command("classifier")(evaluate_classifier_command)
evaluate_app.command("sites")(evaluate_sites_command)
evaluate_app.command("local")(evaluate_local_command)
evaluate_app.command("reference")(evaluate_reference_command)
evaluate_app.command("gan")(evaluate_gan_command)
compare_app.command("conditions")(compare_conditions_command)
compare_app.command("classifiers")(compare_classifiers_command)
compare_app.command("gans")(compare_gans_command)
app.command("predict")(predict)
app.command("validate")(validate_command)
app.command("card")(card_command)
app.command("audit")(audit_command)
reproduce_app.command("report")(reproduce_report_command)
