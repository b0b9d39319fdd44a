"""Weights in other files are found wherever a graph can have them."""

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TrainingInfoProto,
)

from ml.classifier.bundle import GRAPH, PRETRAINED
from ml.errors import BundleError
from ml.onnx_external_data import DATA_LOCATION, EXTERNAL_DATA, TENSOR_PATHS, has_external_data
from ml.onnx_runtime import open_graph


def external() -> TensorProto:
    tensor = TensorProto(name="weights", dims=[4], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.key")
    return tensor


SPARSE = SparseTensorProto(values=external())
INNER = GraphProto(initializer=[external()])
MODELS = {
    "initializer": ModelProto(graph=INNER),
    "sparse": ModelProto(graph=GraphProto(sparse_initializer=[SPARSE])),
    "training": ModelProto(training_info=[TrainingInfoProto(initialization=INNER)]),
    "function": ModelProto(
        functions=[FunctionProto(attribute_proto=[AttributeProto(t=external())])]
    ),
} | {
    f"attribute {name}": ModelProto(
        graph=GraphProto(node=[NodeProto(attribute=[AttributeProto(**{name: value})])])
    )
    for name, value in {
        "t": external(),
        "g": INNER,
        "tensors": [external()],
        "graphs": [INNER],
        "sparse_tensor": SPARSE,
        "sparse_tensors": [SPARSE],
    }.items()
}


@pytest.mark.parametrize("place", MODELS)
def test_external_data_is_found(place: str) -> None:
    assert has_external_data(MODELS[place].SerializeToString())
    with pytest.raises(BundleError, match="weights in other files"):
        open_graph(MODELS[place].SerializeToString())


def test_location_alone_is_enough() -> None:
    tensor = TensorProto(data_location=TensorProto.EXTERNAL)
    model = ModelProto(graph=GraphProto(initializer=[tensor]))
    assert has_external_data(model.SerializeToString())


def test_graphs_within_graphs_are_no_refuge() -> None:
    graph = INNER
    for _ in range(30):
        attribute = AttributeProto(g=graph)
        graph = GraphProto(node=[NodeProto(attribute=[attribute])])
    assert has_external_data(ModelProto(graph=graph).SerializeToString())


def test_released_classifier_has_none() -> None:
    assert not has_external_data((PRETRAINED / GRAPH).read_bytes())


def test_field_numbers_are_those_of_onnx() -> None:
    found: dict[str, dict[int, str]] = {}
    waiting: list[Descriptor] = [ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name not in found:
            inner = [field for field in message.fields if reaches_tensor(field.message_type)]
            found[message.name] = {field.number: field.message_type.name for field in inner}
            waiting += [field.message_type for field in inner]
    assert found == TENSOR_PATHS
    numbers = {field.name: field.number for field in TensorProto.DESCRIPTOR.fields}
    assert (numbers["external_data"], numbers["data_location"]) == (EXTERNAL_DATA, DATA_LOCATION)


def reaches_tensor(message: Descriptor | None, above: frozenset[str] = frozenset()) -> bool:
    if message is None or message.name in above:
        return False
    below = above | {message.name}
    return message.name == "TensorProto" or any(
        reaches_tensor(field.message_type, below) for field in message.fields
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        assert has_external_data(content) in (True, False)
    except ValueError:
        return
