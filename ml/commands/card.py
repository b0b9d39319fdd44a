"""`xray card`: write the model card."""

from pathlib import Path
from typing import Annotated

import typer

from ml.classifier.bundle import PRETRAINED, read_bundle
from ml.commands.classifier import BundleFolder
from ml.evaluation.evidence import read_evidence
from ml.reporting.model_card import render_model_card


def card_command(
    bundle: BundleFolder = PRETRAINED,
    generator: Annotated[
        Path | None, typer.Option(help="File of a generator, to print its card instead.")
    ] = None,
) -> None:
    """Print a bundle's or a generator's card as Markdown."""
    if generator:
        from ml.gan.generator_file import load_generator
        from ml.reporting.generator_card import render_generator_card

        print(render_generator_card(load_generator(generator)), end="")
        return
    card = read_bundle(bundle)[0]
    print(render_model_card(card, read_evidence(bundle, card.sha256)), end="")
