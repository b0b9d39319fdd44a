"""Whether a device computes what the CPU computes, and how fast one GAN iteration is there.

python -m scripts.gpu.check --out check.json [--toy]
"""

import argparse
import copy
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gan_graph import GraphedStep, compiled_generator
from benchmarks.gan_step import counted_flops, peak_flops, seconds
from benchmarks.plain_gan import PlainStep, plainly
from ml.gan.network_pairs import build_critic, build_generator
from ml.gan.projected_step import build_step
from ml.gan.step import AdversarialStep, Draw, TrainingImages, draw_step, prefer_speed
from ml.options.gan import GAN_PRESETS, GanOptions
from ml.training.distributed import ProcessGroup

CPU = torch.device("cpu")
# Of the largest gradient: float32 without TF32 against float64.
TOLERANCE = 1e-3
CHECKED = ("wgan-gp", "resnet", "r3gan")
ROUNDS = 20


def a_draw(options: GanOptions, device: torch.device, dtype: torch.dtype) -> list[Draw]:
    """The draws of step 0 on noise, the same numbers on every device."""
    random = torch.Generator().manual_seed(4)
    count, side = 4 * options.batch_size, options.size
    grey = torch.randint(0, 256, (count, side, side), generator=random, dtype=torch.uint8)
    classes = torch.arange(count) % len(options.label_names)
    images = TrainingImages(grey.to(device), classes, torch.ones(count))
    draws = draw_step(images, options, 0, ProcessGroup(0, 1, device))
    return [
        draw._replace(latents=draw.latents.to(dtype), changes=draw.changes.to(dtype))
        for draw in draws
    ]


def gradients(options: GanOptions, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """Gradients of critic and generator after one evaluation of both losses, on the CPU."""
    torch.manual_seed(0)
    generator = build_generator(options).to(device, dtype)
    critic = build_critic(options).to(device, dtype)
    step = AdversarialStep(generator, critic, options, ProcessGroup(0, 1, device))
    draw = a_draw(options, device, dtype)[0]
    loss, _, penalty = step.critic_losses(draw, penalised=True)
    of_critic = torch.autograd.grad(loss + penalty, list(critic.parameters()))
    of_generator = torch.autograd.grad(step.generator_loss(draw), list(generator.parameters()))
    return [gradient.double().cpu() for gradient in (*of_critic, *of_generator)]


def largest_difference(options: GanOptions, device: torch.device) -> float:
    """Largest difference of float32 gradients on a device from float64 ones on the CPU.

    Relative to the largest gradient of all weights.
    """
    expected = gradients(options, CPU, torch.float64)
    found = gradients(options, device, torch.float32)
    scale = max(value.abs().max().item() for value in expected)
    pairs = zip(found, expected, strict=True)
    return max((one - other).abs().max().item() for one, other in pairs) / scale


def ways(
    options: GanOptions, device: torch.device
) -> dict[str, Callable[[Sequence[Draw]], object]]:
    """Implementations of one iteration by name; graphs only where there is CUDA."""
    torch.manual_seed(0)
    generator, critic = build_generator(options).to(device), build_critic(options).to(device)
    group, reduced = ProcessGroup(0, 1, device), replace(options, precision="bfloat16")

    def ours(changed: GanOptions) -> AdversarialStep:
        return build_step(copy.deepcopy(generator), copy.deepcopy(critic), changed, group)

    found: dict[str, Callable[[Sequence[Draw]], object]] = {
        "plain": PlainStep(plainly(generator), plainly(critic), options, detached=False),
        "ours, float32": _at_step_0(ours(options)),
        "ours, bfloat16": _at_step_0(ours(reduced)),
        "ours, bfloat16, compiled generator": _at_step_0(
            compiled_generator(ours(reduced), "inductor" if device.type == "cuda" else "eager")
        ),
    }
    if device.type == "cuda":
        draws = a_draw(options, device, torch.float32)
        found["ours, bfloat16, CUDA graph"] = GraphedStep(ours(reduced), draws)
    return found


def _at_step_0(step: AdversarialStep) -> Callable[[Sequence[Draw]], object]:
    return lambda draws: step(list(draws), 0)


def speed(options: GanOptions, device: torch.device, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of an iteration, its ratio to the plain way, and the share of the device's peak."""
    every, draws = ways(options, device), a_draw(options, device, torch.float32)
    for way in every.values():
        way(draws)  # the first call chooses kernels and takes memory
    times: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(rounds):
        for name, way in every.items():
            times[name].append(seconds(lambda way=way: way(draws), device))  # type: ignore[misc]
    group = ProcessGroup(0, 1, device)
    torch.manual_seed(0)
    networks = build_generator(options).to(device), build_critic(options).to(device)
    products = counted_flops(AdversarialStep(*networks, options, group), draws)
    peak = peak_flops(device, torch.bfloat16)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        name: {
            "seconds": median,
            "ratio": medians["plain"] / median,
            "share_of_bfloat16_peak": products / median / peak,
        }
        for name, median in medians.items()
    }


def check(out: Path, *, toy: bool = False) -> bool:
    """Write exactness and speed to a JSON file; returns whether the device is exact enough."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, batch, rounds = (16, 8, 1) if toy else (64, 32, ROUNDS)
    small = {"size": size, "batch_size": 8, "dropout": 0.0, "width": 4 if toy else 16}
    differences = {
        name: largest_difference(replace(GAN_PRESETS[name], **small), device)  # type: ignore[arg-type]
        for name in CHECKED
    }
    prefer_speed(device)
    cases = {}
    sizes = [("resnet", size)] if toy else [("report", size), ("resnet", 256)]
    for network, side in sizes:
        options = replace(
            GAN_PRESETS["wgan-gp"],
            network=network,  # type: ignore[arg-type]
            size=side,
            batch_size=batch,
            width=4 if toy else 16,
        )
        cases[f"{network}, {side} px, batch {batch}"] = speed(options, device, rounds)
    exact = all(value <= TOLERANCE for value in differences.values())
    report = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "difference_from_float64": differences,
        "exact": exact,
        "speed": cases,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(out.read_text())
    return exact


def main() -> None:
    """The command line; the exit status is 1 where the device is not exact enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--toy", action="store_true", help="tiny networks, for a rehearsal")
    given = parser.parse_args()
    raise SystemExit(0 if check(given.out, toy=given.toy) else 1)


if __name__ == "__main__":
    main()
