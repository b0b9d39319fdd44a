"""The OpenAPI document: FastAPI's, with the classes that the active model knows."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from app.core.addresses import UnderRootPath
from ml.classifier.predictor import UNCERTAIN
from ml.labels import NO_CLASS

Schema = dict[str, Any]


class Application(FastAPI):
    """An application below a root path, whose OpenAPI document follows the active model."""

    def build_middleware_stack(self) -> ASGIApp:
        """All that answers a request, below the root path of the settings."""
        root = self.state.settings.effective_root_path
        return UnderRootPath(super().build_middleware_stack(), root)

    def openapi(self) -> Schema:
        """The document as it is now; what does not depend on the model is made once."""
        document = super().openapi()
        if root := self.state.settings.effective_root_path:
            document["servers"] = [{"url": root}]
        services = getattr(self.state, "services", None)
        return with_labels(document, services.classifier.labels) if services else document


def with_labels(document: Schema, labels: Sequence[str]) -> Schema:
    """A copy of the document in which texts that are classes name those of the active model.

    A screening keeps the class of the model that made it, so that other texts stay possible.
    """
    found = deepcopy(document)
    schemas = found["components"]["schemas"]
    for place, further in (
        (schemas["ScreeningOut"]["properties"]["label"], ()),
        (schemas["ScreeningOut"]["properties"]["decision"], (UNCERTAIN,)),
        (schemas["ReviewIn"]["properties"]["label"], NO_CLASS),
        (schemas["ReviewOut"]["properties"]["label"], NO_CLASS),
    ):
        _name_classes(place, (*labels, *further))
    for name, schema in _query_parameters(found):
        if name == "label":
            _name_classes(schema, labels)
        elif name == "decision":
            _name_classes(schema, (*labels, UNCERTAIN))
    return found


def _name_classes(schema: Schema, classes: Iterable[str]) -> None:
    kind = {name: schema.pop(name) for name in ("type", "maxLength") if name in schema}
    others = schema.pop("anyOf", [kind])
    schema["anyOf"] = [{"type": "string", "enum": list(classes)}, *others]


def _query_parameters(document: Schema) -> Iterator[tuple[str, Schema]]:
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    yield parameter["name"], parameter["schema"]
