"""Several processes that train one network: one on each GPU, on one host or several.

Every process draws the same global batch from the same generator, works on its own part of it, and
averages its gradients with those of the others, so all of them make the step that one process would
have made with the whole batch. Networks, optimisers and averages stay equal without being sent.

DistributedDataParallel is not used: its hooks do not support the second backward pass that a
gradient penalty needs, and it averages as if all parts were equally large.
"""

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

Batch = TypeVar("Batch", Tensor, NDArray[Any])


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those that train together; a single one needs no process group.

    Attributes:
        rank: 0 to world_size - 1.
        world_size: how many processes there are, on all hosts.
        device: where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def part_of(self, count: int) -> slice:
        """This process's images of a global batch of `count`: contiguous, sizes differ by one.

        Empty where the batch has fewer images than there are processes.
        """
        first, last = (count * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return slice(first, last)

    def slice_of(self, batch: Batch) -> Batch:
        """(B, ...) -> this process's part of it, along the first axis."""
        return batch[self.part_of(len(batch))]

    def weight_of(self, count: int) -> float:
        """The weight of this process's mean loss over its part of a batch of `count` images.

        1.0 where the parts are equal, and in a single process. Else the loss is multiplied by it
        before the backward pass (not the gradients after it: through shared batch statistics the
        loss of one process reaches the gradients of the others).
        """
        return len(range(count)[self.part_of(count)]) * self.world_size / count

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes; differentiable, as often as one likes.

        All processes call it in the same order, with the same shape.
        """
        if self.world_size == 1:
            return values
        summed: Tensor = _Sum.apply(values)
        return summed

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, in one exchange.

        That is the gradient of the mean over the global batch where its parts are equal, or the
        losses were multiplied by `weight_of`.

        Args:
            parameters: the same in every process, of one type; those without a gradient stay so.
        """
        if self.world_size == 1:
            return
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        parts = torch.split(flat / self.world_size, sizes)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, flag: bool) -> bool:
        """Whether the flag is true in any process; the same answer for all, at the same time."""
        if self.world_size == 1:
            return flag
        votes = torch.tensor([float(flag)], device=self.device)
        distributed.all_reduce(votes)
        return bool(votes.item() > 0)

    def of_first(self, number: float) -> float:
        """The first process's number, in all of them."""
        own = number if self.is_first else 0.0
        return self.sum(torch.tensor(own, dtype=torch.float64, device=self.device)).item()

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.agree(False)

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Put together what each process has: (n, ...) -> (sum of all n, ...), in order of rank.

        Undoes `slice_of`; the parts may differ in length.
        """
        if self.world_size == 1:
            return rows
        parts: list[NDArray[Any]] = [rows] * self.world_size
        distributed.all_gather_object(parts, rows)
        return np.concatenate(parts)


class _Sum(torch.autograd.Function):
    """The sum over processes, whose gradient is the same sum of gradients."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        """Values of this process -> their sum over all."""
        summed = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Any:
        """Every process's loss depends on this process's values."""
        return _Sum.apply(gradients[0])


def join_process_group(device: torch.device) -> ProcessGroup:
    """This process among those started together, or alone where it was started alone.

    Args:
        device: where to compute; with several processes each one takes the GPU of its number.

    Returns:
        The processes that `accelerate launch` or `torchrun` started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ProcessGroup(0, 1, device)
    from accelerate import PartialState  # type: ignore[import-untyped]  # it has no hints

    state = PartialState(cpu=device.type == "cpu")
    atexit.register(state.destroy_process_group)
    return ProcessGroup(state.process_index, state.num_processes, state.device)
