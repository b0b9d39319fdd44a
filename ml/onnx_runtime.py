"""ONNX Runtime, imported with its telemetry disabled, and the one way to open a graph.

It reports its use to its maker unless `ORT_DISABLE_TELEMETRY` is set before it is imported. A
program that sees patients' images sends nothing anywhere, so every module takes it from here.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as onnxruntime

from ml.errors import BundleError
from ml.onnx_external_data import has_external_data


def open_graph(
    graph: bytes, *, threads: int = 1, serving: bool = False
) -> onnxruntime.InferenceSession:
    """Open a graph that reads nothing but its own bytes.

    Args:
        graph: a serialised ONNX model.
        threads: cores that one call may use.
        serving: for a server, whose calls are of one image each. It keeps the memory of a call for
            the next one, as it becomes fragmented if it is requested each time, and threads that
            wait leave the cores to others.

    Raises:
        BundleError: it has weights in other files.
        ValueError: it is no ONNX model. Other errors are ONNX Runtime's own.
    """
    if has_external_data(graph):
        raise BundleError(
            "The graph has weights in other files, which could be any file of this machine. "
            "Export it as one file."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Elsewhere it would hold the memory of the largest batch as long as the program runs.
    options.enable_cpu_mem_arena = serving
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if serving else "1")
    # Its other format would not be read by `has_external_data`.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
