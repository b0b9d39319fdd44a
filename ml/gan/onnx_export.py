"""A generator becomes a graph that makes images without torch, and is checked against torch."""

import numpy as np
import torch
from torch import Tensor, nn

from ml.errors import BundleError
from ml.gan.generator_file import LoadedGenerator
from ml.gan.latents import latents_of
from ml.gan.onnx_generator import FACTS_KEY, GeneratorGraph, GraphFacts
from ml.gan.sampling import grey_levels, images_of_latents
from ml.onnx_bytes import graph_bytes

# Grey levels by which a graph's images may differ from torch's, due to rounding.
TOLERANCE = 1
# Images of each class that are compared.
_CHECKED = 16


class _ExportedGraph(nn.Module):
    """What the graph computes: a generator, and grey levels of its images."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, L) float32, (B,) int64 where conditional -> (B, S, S) uint8."""
        return grey_levels(self.network(latents, classes))


def export_graph(loaded: LoadedGenerator) -> bytes:
    """The ONNX graph of a generator, with `ml.gan.onnx_generator.GraphFacts` in its metadata.

    Inputs are `latents` (B, L) float32 and, of a conditional generator, `classes` (B,) int64; the
    output is `images` (B, S, S) uint8.

    Args:
        loaded: the generator, on the CPU.

    Raises:
        BundleError: the graph does not make the images that torch makes.
    """
    options = loaded.card.options
    inputs: dict[str, Tensor] = {"latents": torch.zeros(2, options.latent)}
    if options.conditional:
        inputs["classes"] = torch.zeros(2, dtype=torch.int64)
    program = torch.onnx.export(
        _ExportedGraph(loaded.network).eval(),
        (),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["images"],
        dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC} for name in inputs},
        dynamo=True,
        verbose=False,
        # It would store the enlarged kernels of up-sampling convolutions, twice the weights. ONNX
        # Runtime makes them on loading.
        optimize=False,
    )
    facts = GraphFacts(
        loaded.sha256, loaded.labels, options.size, options.latent, options.conditional
    )
    serialised = graph_bytes(program, {FACTS_KEY: facts.to_json()})
    require_same_images(loaded, GeneratorGraph(serialised))
    return serialised


def require_same_images(loaded: LoadedGenerator, graph: GeneratorGraph) -> None:
    """Check that a graph makes the images that torch makes.

    Raises:
        BundleError: a pixel differs by more than `TOLERANCE`.
    """
    latents = latents_of(range(_CHECKED), loaded.card.options.latent)
    for number, label in enumerate(loaded.labels):
        expected = images_of_latents(loaded.network, latents, [number] * _CHECKED)
        made = graph.images_of_latents(latents, number)
        gap = int(np.abs(expected.astype(int) - made).max())
        if gap > TOLERANCE:
            raise BundleError(
                f"The graph's images of {label} differ from torch by {gap} grey levels. The export "
                "is not usable."
            )
