"""The averaged generator: an exponential moving average of the training weights.

The averaged weights make better images than those of any one step (Yazici et al., "The Unusual
Effectiveness of Averaging in GAN Training", 2019); they are what is evaluated and saved.
"""

import torch
from torch import nn

from ml.gan.step import TrainingImages
from ml.options.gan import GanOptions

_STATISTICS_BATCHES, _STATISTICS_BATCH_SIZE = 16, 64


@torch.no_grad()
def update_average(
    average: nn.Module, generator: nn.Module, options: GanOptions, steps_done: int
) -> None:
    """Move the averaged weights towards those of the generator.

    Args:
        average: changed in place.
        generator: a network of the same layers.
        options: `ema_images` is the number of generated images after which half is forgotten.
        steps_done: of the whole run, the latest one included.
    """
    half_life = options.ema_images
    forget = 1 - 0.5 ** (options.batch_size / half_life) if half_life else 1.0
    # Early on the average forgets faster, or it would consist mostly of the random start.
    forget = max(forget, 1 / (steps_done + 1))
    for ours, value in zip(average.parameters(), generator.parameters(), strict=True):
        ours.lerp_(value, forget)


@torch.no_grad()
def refresh_batch_statistics(
    average: nn.Module, images: TrainingImages, options: GanOptions
) -> None:
    """Compute the averaged generator's batch-norm statistics from its own weights.

    The statistics of the training weights fit it badly and a moving average lags behind, so they
    are computed over many latents (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021).
    Generators without batch norm are left as they are.
    """
    norms = [module for module in average.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    random = torch.Generator().manual_seed(options.seed)
    device = images.grey.device
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    for _ in range(_STATISTICS_BATCHES):
        latents = torch.randn(_STATISTICS_BATCH_SIZE, options.latent, generator=random)
        chosen = torch.multinomial(
            images.chances, _STATISTICS_BATCH_SIZE, replacement=True, generator=random
        )
        average(latents.to(device), images.classes[chosen].to(device))
    average.eval()
