"""One GAN iteration as a CUDA graph, or with a compiled generator, beside `ml.gan.step`.

On a GPU small networks wait for the processor that starts their kernels. A graph starts all kernels
of an iteration at once. `torch.compile` cannot take the critic, since it has no second derivatives
for the gradient penalty; the generator needs none.
"""

from collections.abc import Sequence

import torch

from ml.gan.step import AdversarialStep, Draw, StepMetrics

WARM_UPS = 3


class GraphedStep:
    """Replays one captured iteration on the inputs of each call."""

    def __init__(self, step: AdversarialStep, draws: Sequence[Draw]):
        """Capture an iteration on a GPU.

        Args:
            step: whose optimisers have made no step yet.
            draws: of the shapes of all later calls.
        """
        for optimizer in (step.generator_optimizer, step.critic_optimizer):
            for group in optimizer.param_groups:
                group["capturable"] = True
        self._inputs = [Draw(*(value.clone() for value in draw)) for draw in draws]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                step(self._inputs, 0)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._metrics = step(self._inputs, 0)

    def __call__(self, draws: Sequence[Draw]) -> StepMetrics:
        """Update both networks; the metrics are overwritten by the next call."""
        for inputs, draw in zip(self._inputs, draws, strict=True):
            for target, value in zip(inputs, draw, strict=True):
                target.copy_(value)
        self._graph.replay()
        return self._metrics


def compiled_generator(step: AdversarialStep, backend: str = "inductor") -> AdversarialStep:
    """The step with a compiled generator, whose weights stay those of the step's optimiser."""
    step.generator = torch.compile(step.generator, backend=backend)  # type: ignore[assignment]
    return step
