"""Time of one GAN iteration, compared with a plain implementation in the same run.

    python -m benchmarks.gan_step [--preset wgan-gp] [--network report] [--size 64] [--batch 32]
                                  [--rounds 5]

One iteration of WGAN-GP: five critic steps with their double backward pass, one generator step; of
R3GAN: one step of each. Plain: `benchmarks.plain_gan`; ours: `ml.gan.step` as `xray train gan` runs
it. Same networks, batch and draws, on the GPU where there is one. The implementations take turns,
so that other load on the machine slows all of them; the median of each is reported.

The share of the device's peak is the number of operations in our iteration's products (counted by
torch) per second, divided by that of a large matrix product in the same precision.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_gan import PlainStep, plainly
from ml.gan.network_pairs import build_critic, build_generator
from ml.gan.step import AdversarialStep, Draw, TrainingImages, draw_step, prefer_speed
from ml.options.gan import GAN_PRESETS, GanOptions
from ml.training.distributed import ProcessGroup


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, the best of five."""
    side = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    one @ other
    return 2 * side**3 / min(seconds(lambda: one @ other, device) for _ in range(5))


def peak_bytes(device: torch.device) -> float:
    """Bytes read and written per second by a large copy, the best of five."""
    source = torch.zeros(2**28 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    best = min(seconds(lambda: target.copy_(source), device) for _ in range(5))
    return 2 * source.numel() * source.element_size() / best


class _NoModules(nullcontext[None]):
    parents = ("Global",)


def counted_flops(step: AdversarialStep, draws: list[Draw]) -> int:
    """Floating-point operations of the products of one iteration."""
    counter = FlopCounterMode(display=False)
    # Its tracker of modules cannot follow a gradient by the input; the sum needs no modules.
    counter.mod_tracker = _NoModules()
    with counter:
        step(draws, 0)
    return counter.get_total_flops()


def ways(
    options: GanOptions, device: torch.device
) -> tuple[dict[str, Callable[[list[Draw]], object]], dict[str, AdversarialStep]]:
    """All implementations of an iteration by name, and those that are ours."""
    torch.manual_seed(0)
    generator, critic = build_generator(options).to(device), build_critic(options).to(device)
    group = ProcessGroup(0, 1, device)
    plain: dict[str, Callable[[list[Draw]], object]] = {
        name: PlainStep(plainly(generator), plainly(critic), options, detached=detached)
        for name, detached in (("plain", False), ("plain, fakes detached", True))
    }
    ours = {
        f"ours, {precision}": AdversarialStep(
            copy.deepcopy(generator),
            copy.deepcopy(critic),
            replace(options, precision=precision),
            group,
        )
        for precision in ("float32", "bfloat16")
    }
    return plain | {name: _at_step_0(step) for name, step in ours.items()}, ours


def _at_step_0(step: AdversarialStep) -> Callable[[list[Draw]], object]:
    return lambda draws: step(draws, 0)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--preset", default="wgan-gp", choices=["wgan-gp", "r3gan"])
    arguments.add_argument("--network", default="report", choices=["report", "resnet"])
    arguments.add_argument("--size", type=int, default=64)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prefer_speed(device)
    options = replace(
        GAN_PRESETS[given.preset], network=given.network, size=given.size, batch_size=given.batch
    )
    count = 4 * given.batch
    grey = torch.randint(0, 256, (count, given.size, given.size), dtype=torch.uint8)
    images = TrainingImages(
        grey.to(device), torch.zeros(count, dtype=torch.int64), torch.ones(count)
    )
    draws = draw_step(images, options, 0, ProcessGroup(0, 1, device))

    every, ours = ways(options, device)
    for way in every.values():
        way(draws)  # the first call chooses kernels and takes memory
    times: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(given.rounds):
        for name, way in every.items():
            times[name].append(seconds(lambda way=way: way(draws), device))  # type: ignore[misc]

    base = statistics.median(times["plain"])
    peaks = {f"ours, {str(dtype)[6:]}": peak_flops(device, dtype)
             for dtype in (torch.float32, torch.bfloat16)}  # fmt: skip
    table = Table("implementation", "s per iteration", "images/s", "ratio", "share of peak")
    for name, taken in times.items():
        median = statistics.median(taken)
        speed = options.critic_steps * options.batch_size / median
        share = ""
        if name in ours:
            share = f"{counted_flops(ours[name], draws) / median / peaks[name]:.0%}"
        table.add_row(name, f"{median:.3f}", f"{speed:.0f}", f"{base / median:.2f}", share)
    console = Console()
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    console.print(
        f"{where}, {torch.get_num_threads()} threads; {given.preset}, {given.network}, "
        f"{given.size} px, batch {given.batch}, {options.critic_steps} critic steps; peak "
        + ", ".join(f"{value / 1e9:.0f} GFLOP/s {name[6:]}" for name, value in peaks.items())
        + f", {peak_bytes(device) / 1e9:.1f} GB/s copied"
    )
    console.print(table)


if __name__ == "__main__":
    main()
