"""What torch exports becomes the bytes of a graph that is given away."""

import onnx
from onnxscript.optimizer import fold_constants, remove_unused_nodes
from torch.onnx import ONNXProgram


def graph_bytes(program: ONNXProgram | None, facts: dict[str, str]) -> bytes:
    """Serialise an exported graph.

    Constants are folded, and the names of source files and machines are removed: nobody who runs
    the graph needs them.

    Args:
        program: from `torch.onnx.export` without a file's name, not optimised.
        facts: kept in the graph's metadata, by key.
    """
    assert program is not None  # it is None where a file is written
    fold_constants(program.model)
    remove_unused_nodes(program.model)
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]
    onnx.helper.set_model_props(proto, facts)
    serialised: bytes = proto.SerializeToString()
    return serialised
