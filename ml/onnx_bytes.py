"""From a torch network to the bytes of an ONNX graph, and its weights back again."""

from collections.abc import Mapping, Sequence

import onnx
import torch
from onnxscript.optimizer import fold_constants, remove_unused_nodes
from torch import nn
from torch.onnx import ONNXProgram

from ml.errors import BundleError

# Counts batches of training; only a batch norm without momentum would use it.
_COUNTER = "num_batches_tracked"


def graph_bytes(program: ONNXProgram | None, facts: Mapping[str, str]) -> bytes:
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
    onnx.helper.set_model_props(proto, dict(facts))
    serialised: bytes = proto.SerializeToString()
    return serialised


def image_graph(
    network: nn.Module, side: int, outputs: Sequence[str], facts: Mapping[str, str] | None = None
) -> bytes:
    """Export a network that reads images as a graph for batches of any size.

    Args:
        network: on the CPU and in evaluation mode; reads (B, 1, side, side) uint8.
        side: of the images, in pixels.
        outputs: the name of each output.
        facts: kept in the graph's metadata, by key.
    """
    return graph_bytes(image_program(network, side, outputs), facts or {})


def image_program(network: nn.Module, side: int, outputs: Sequence[str]) -> torch.onnx.ONNXProgram:
    """The same before it is bytes.

    Args:
        network: on the CPU and in evaluation mode; reads (B, 1, side, side) uint8.
        side: of the images, in pixels.
        outputs: the name of each output.
    """
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, side, side, dtype=torch.uint8),),
        input_names=["images"],
        output_names=list(outputs),
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
        # It would fold batch norms into convolutions. ONNX Runtime does so too, on loading; left
        # to it, every weight stands in the graph under its own name (`load_from_graph`).
        optimize=False,
    )
    assert program is not None  # it is None where a file is written
    return program


def load_from_graph(network: nn.Module, graph: bytes, *, command: str) -> None:
    """Give a network the weights of a graph in which it is the part called `network`.

    Args:
        network: takes the weights.
        graph: of `image_graph`, which holds every weight under its torch name.
        command: makes such a graph, for the error.

    Raises:
        BundleError: the graph does not hold all weights.
    """
    found = {
        one.name.removeprefix("network."): torch.from_numpy(onnx.numpy_helper.to_array(one).copy())
        for one in onnx.load_model_from_string(graph).graph.initializer
        if one.name.startswith("network.")
    }
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in found and not name.endswith(_COUNTER)]
    if missing:
        raise BundleError(
            f"The graph lacks {len(missing)} of the weights, such as {missing[0]}: it was exported "
            f"with batch norms folded into convolutions. Make it again with {command}."
        )
    network.load_state_dict({name: found.get(name, value) for name, value in wanted.items()})
