"""The generators that make images on demand."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy.orm import Session

from app.core.errors import NotFound
from app.registry.files import model_folder
from app.registry.queries import find_model, list_models
from app.registry.tables import ModelKind, ModelVersion
from app.settings import Settings
from ml.gan.onnx_generator import GRAPH
from ml.texts import msg


def usable_generators(settings: Settings, opened: Session) -> list[ModelVersion]:
    """The generators that make images of a class here, the newest first."""
    return [
        model
        for model in list_models(opened, ModelKind.GENERATOR)
        if classes_of(model) and (model_folder(settings, model) / GRAPH).is_file()
    ]


def find_generator(opened: Session, sha256: str) -> ModelVersion:
    """Generators that can make images here, newest first."""
    model = find_model(opened, sha256)
    if model.kind is not ModelKind.GENERATOR:
        raise NotFound(msg("This model does not generate images."))
    return model


def classes_of(model: ModelVersion) -> tuple[str, ...]:
    """The classes that a generator makes on demand; none for one that mixes several."""
    labels = labels_made_by(model)
    return labels if model.card["options"]["conditional"] or len(labels) == 1 else ()


def labels_made_by(model: ModelVersion) -> tuple[str, ...]:
    """The classes that a generator learned."""
    return tuple(str(model.card["options"]["labels"]).split(","))


def model_title(model: ModelVersion) -> str:
    """What people call a generator."""
    return f"{model.version} ({model.sha256[:8]})"


@dataclass(frozen=True, slots=True)
class GeneratorOption:
    """A generator that makes images on the spot."""

    sha256: str
    title: str
    labels: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, model: ModelVersion) -> Self:
        """Show a row."""
        size = int(model.card["options"]["size"])
        return cls(model.sha256, model_title(model), classes_of(model), size)


def generator_options(settings: Settings, opened: Session) -> list[GeneratorOption]:
    """The generators to choose from."""
    return [GeneratorOption.of(model) for model in usable_generators(settings, opened)]
