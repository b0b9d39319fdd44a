"""Finding tensors of an ONNX graph that lie in other files.

ONNX Runtime reads such a file from wherever the graph says, so a graph of a stranger could read any
file of the server; and the SHA-256 of a graph says nothing about weights outside of it. The package
`onnx` is not installed where models are served, so the few fields that matter are read here, from
the protocol buffer encoding (https://protobuf.dev/programming-guides/encoding/) and the field
numbers of `onnx.proto`; a test compares the numbers with the package's.
"""

from collections.abc import Iterator

# Message -> field number -> message. Only paths that lead to tensors.
TENSOR_PATHS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
# Of a tensor: where its data are, and the other file.
EXTERNAL_DATA, DATA_LOCATION = 13, 14
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10


def has_external_data(graph: bytes) -> bool:
    """Whether any tensor of a serialised model lies in another file.

    Raises:
        ValueError: it is no protocol buffer.
    """
    # Not recursive: graphs lie within graphs as deep as their author likes.
    waiting = [("ModelProto", memoryview(graph))]
    while waiting:
        message, content = waiting.pop()
        inner = TENSOR_PATHS[message]
        for number, value in _fields(content):
            is_location = number in (EXTERNAL_DATA, DATA_LOCATION)
            if message == "TensorProto" and is_location and value != 0:
                return True
            if number in inner and isinstance(value, memoryview):
                waiting.append((inner[number], value))
    return False


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: its number, and its bytes or, of a varint, its value."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == _LENGTH:
            length, place = _varint(content, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if place + length > len(content):
            raise ValueError("a field that is cut short")
        yield number, content[place : place + length]
        place += length


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """A number of variable length, and the place after it."""
    value = 0
    for count, byte in enumerate(content[place : place + _LONGEST_VARINT]):
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, place + count + 1
    raise ValueError("a number without an end")
