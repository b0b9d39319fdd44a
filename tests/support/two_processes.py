"""What two processes do together, and one alone: run by `test_distributed.py`, in both ways.

Results are written to the folder named, one file for each process.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from ml.classifier import networks
from ml.classifier.networks import Backbone
from ml.classifier.training import train_classifier
from ml.data.manifest import ImageRecord
from ml.gan.training import train_gan
from ml.labels import LABELS
from ml.options.classifier import ClassifierOptions
from ml.training.distributed import ProcessGroup, join_process_group
from ml.training.synchronised_layers import synchronise_layers
from tests.support.gan_world import CPU, pixel_space, tiny

SIDE = 16
OPTIONS = ClassifierOptions(
    network="report-cnn",
    epochs=2,
    small_epochs=0,
    batch_size=16,
    learning_rate=1e-2,
    patience=2,
    ema_decay=0.8,
)
# Batch norm in the generator, the spread of the batch and both classes in the critic.
GAN = tiny("resnet", labels=",".join(LABELS), conditional=True, batch_std=True, augment=0.5)


def small(_pretrained: bool = False) -> nn.Module:
    """A backbone with both kinds of batch normalisation.

    A bias before a normalisation has no gradient but rounding errors, which Adam would scale up.
    """
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
        BatchNormAct2d(6),
    )


def register() -> None:
    """Put the backbone in the place of the report's, whose name options accept."""
    networks.BACKBONES["report-cnn"] = Backbone(small, features=6, size=SIDE)


def layer_results(group: ProcessGroup, count: int) -> dict[str, Tensor]:
    """One training step's outputs, gradients and statistics on a batch of `count` images."""
    torch.manual_seed(3)
    network = synchronise_layers(nn.Sequential(small(), nn.Dropout(0.5), nn.Flatten()), group)
    images = torch.randn(count, 1, SIDE, SIDE) + 2
    targets = torch.randn(count, 96)
    torch.manual_seed(4)
    output = network(group.slice_of(images))
    loss = (output - group.slice_of(targets)).square().mean() * group.weight_of(count)
    torch.autograd.backward(loss)
    group.average_gradients(network.parameters())
    return {
        "output": torch.from_numpy(group.gather(output.detach().numpy())),
        **{f"gradient {name}": one.grad for name, one in network.named_parameters()},
        **{f"buffer {name}": one for name, one in network.named_buffers()},
    }


def second_order(group: ProcessGroup) -> Tensor:
    """The gradient of a gradient's norm, through a sum over the processes."""
    values = torch.arange(4.0, requires_grad=True)
    own = group.slice_of(values)
    total = group.sum(own.pow(3).sum())
    (slope,) = torch.autograd.grad(total, values, create_graph=True)
    (curve,) = torch.autograd.grad(slope.square().sum(), values)
    return curve


def records_in(folder: Path) -> list[ImageRecord]:
    """The images named `<number>-<patient>.png`."""
    return [
        ImageRecord(path, LABELS[int(path.stem.split("-")[0]) % 3], "s", path.stem.split("-")[1])
        for path in sorted(folder.glob("*.png"))
    ]


def main(folder: Path) -> None:
    """Do all of it as one of several processes."""
    group = join_process_group(CPU)
    results: dict[str, object] = {"rank": group.rank, "world_size": group.world_size}
    results["agreed"] = [group.agree(flag) for flag in (False, group.rank == 1, group.is_first)]
    results["parts"] = [group.part_of(count).indices(count)[:2] for count in (1, 2, 5)]
    rows = np.arange(5) * 10
    results["gathered"] = group.gather(group.slice_of(rows)).tolist()
    results["layers"] = {count: layer_results(group, count) for count in (6, 5)}
    results["curve"] = second_order(group)
    group.barrier()
    register()
    train_classifier(records_in(folder / "images"), folder / "run", OPTIONS, device=CPU)
    train_gan(
        records_in(folder / "images"), folder / "gan", GAN, device=CPU, features=pixel_space()
    )
    torch.save(results, folder / f"rank{group.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
