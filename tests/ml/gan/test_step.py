"""The fast step makes the updates of the plain one; augmentation is differentiable."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.plain_gan import critic_loss, plainly, r3gan_critic_loss
from ml.gan.diffaugment import DRAWS, diff_augment
from ml.gan.network_pairs import build_critic, build_generator
from ml.gan.step import AdversarialStep, Draw, TrainingImages, draw_step
from ml.options.gan import GanOptions
from ml.training.distributed import ProcessGroup
from tests.support.gan_world import CPU, SIDE, tiny

ALONE = ProcessGroup(0, 1, CPU)
PAIRS = [("wgan-gp", "report"), ("wgan-gp", "resnet"), ("wgan-gp", "mlp"), ("wgan", "report")]


def a_draw(options: GanOptions) -> Draw:
    random = torch.Generator().manual_seed(5)
    images = TrainingImages(
        torch.randint(0, 256, (20, SIDE, SIDE), generator=random, dtype=torch.uint8),
        torch.arange(20) % len(options.label_names),
        torch.ones(20),
    )
    draw = draw_step(images, options, 0, ALONE)[0]
    return draw._replace(latents=draw.latents.double(), mix=draw.mix.double())


def a_step(options: GanOptions) -> AdversarialStep:
    torch.manual_seed(3)
    generator, critic = build_generator(options).double(), build_critic(options).double()
    return AdversarialStep(generator, critic, options, ALONE)


@pytest.mark.parametrize(("objective", "network"), PAIRS)
def test_critic_gradients_equal_the_plain_ones(objective: str, network: str) -> None:
    options = tiny(objective, network=network, dropout=0.0)
    draw, step = a_draw(options), a_step(options)
    generator, critic = plainly(step.generator), plainly(step.critic)
    loss, _, penalty = step.critic_losses(draw, penalised=True)
    (loss + penalty).backward()
    critic_loss(generator, critic, draw, options).backward()
    _require_equal_gradients(step.critic, critic)


@pytest.mark.parametrize(("objective", "network"), PAIRS)
def test_generator_gradients_equal_the_plain_ones(objective: str, network: str) -> None:
    options = tiny(objective, network=network, dropout=0.0)
    draw, step = a_draw(options), a_step(options)
    generator, critic = plainly(step.generator), plainly(step.critic)
    step.generator_loss(draw).backward()
    (-critic(generator(draw.latents, draw.classes), draw.classes).mean()).backward()
    _require_equal_gradients(step.generator, generator)


@pytest.mark.parametrize("network", ["report", "resnet", "mlp"])
@pytest.mark.parametrize("augment", [0.0, 0.8])
def test_r3gan_gradients_equal_those_of_separate_passes(network: str, augment: float) -> None:
    """Loss and penalties of one pass are those of four, by the images before augmentation."""
    options = tiny("r3gan", network=network, augment=augment, dropout=0.0, penalty=2.0)
    draw, step = a_draw(options), a_step(options)
    draw = draw._replace(changes=draw.changes.double())
    generator, critic = plainly(step.generator), plainly(step.critic)
    loss, _, penalty = step.critic_losses(draw, penalised=True)
    (loss + penalty).backward()
    r3gan_critic_loss(generator, critic, draw, options, detached=True).backward()
    _require_equal_gradients(step.critic, critic, tolerance=1e-9)


def test_r3gan_scores_each_batch_once() -> None:
    options = tiny("r3gan")
    step, draw = a_step(options), a_draw(options)
    passes = []
    step.critic.register_forward_hook(lambda *_: passes.append(1))
    step.update_critic(draw, penalised=True)
    assert len(passes) == 1
    assert all(p.grad is None for p in step.generator.parameters())


def _require_equal_gradients(ours: nn.Module, plain: nn.Module, tolerance: float = 1e-6) -> None:
    gradients = [p.grad for p in ours.parameters()]
    others = [p.grad for p in plain.parameters()]
    scale = max(gradient.abs().max().item() for gradient in others if gradient is not None)
    for gradient, other in zip(gradients, others, strict=True):
        assert gradient is not None
        assert other is not None
        assert (gradient - other).abs().max().item() <= tolerance * scale


def test_lazy_penalty_comes_rarely_and_weighs_more() -> None:
    options = tiny(penalty_every=3, critic_steps=1, dropout=0.0)
    step = a_step(options)
    draw = a_draw(options)
    always = a_step(tiny(critic_steps=1, dropout=0.0)).critic_losses(draw, penalised=True)[2]
    lazy = step.critic_losses(draw, penalised=True)[2]
    torch.testing.assert_close(lazy, 3 * always)
    penalties = [step([draw, draw], number).penalty.item() for number in range(6)]
    assert [value > 0 for value in penalties] == [True, False, False] * 2


def test_clipped_weights_stay_in_range_after_every_step() -> None:
    options = tiny("wgan")
    step, draw = a_step(options), a_draw(options)
    step([draw] * 3, 0)
    assert all(p.abs().max() <= options.clip for p in step.critic.parameters())


def test_generator_update_leaves_the_critic_alone() -> None:
    options = tiny()
    step, draw = a_step(options), a_draw(options)
    before = copy.deepcopy(step.critic.state_dict())
    step.update_generator(draw)
    for name, value in step.critic.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert all(p.grad is None for p in step.critic.parameters())


def test_draws_depend_on_the_step_and_balance_the_classes() -> None:
    options = tiny(labels="covid,normal", conditional=True, batch_size=64)
    classes = torch.tensor([0] * 90 + [1] * 10)
    chances = (1 / torch.bincount(classes).double())[classes]
    images = TrainingImages(torch.zeros(100, SIDE, SIDE, dtype=torch.uint8), classes, chances)
    one, again, other = (draw_step(images, options, step, ALONE) for step in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one[0], again[0], strict=True))
    assert not torch.equal(one[0].latents, other[0].latents)
    share = torch.cat([draw.classes for draw in one]).double().mean().item()
    assert 0.35 < share < 0.65


def test_unchanged_images_pass_and_no_share_changes_none() -> None:
    images = torch.rand(4, 1, SIDE, SIDE) * 2 - 1
    draws = torch.rand(4, DRAWS)
    assert diff_augment(images, draws, 0.0) is images
    # Draws in the middle of their range shift, zoom and shade by nothing.
    middle = torch.full((4, DRAWS), 0.5)
    torch.testing.assert_close(diff_augment(images, middle, 1.0), images, atol=1e-6, rtol=0)
    kept = draws.clone()
    kept[:, 0] = 0.9
    torch.testing.assert_close(diff_augment(images, kept, 0.5), images, atol=1e-6, rtol=0)


def test_changes_shift_images_over_black_and_shade_them() -> None:
    images = torch.ones(1, 1, SIDE, SIDE)
    draws = torch.full((1, DRAWS), 0.5)
    draws[0, 0], draws[0, 1] = 0.0, 1.0  # down by an eighth
    moved = diff_augment(images, draws, 1.0)
    assert moved[0, 0, 0].eq(-1).all()
    assert moved[0, 0, -1].eq(1).all()
    draws = torch.full((1, DRAWS), 0.5)
    draws[0, 0], draws[0, 5] = 0.0, 1.0
    torch.testing.assert_close(diff_augment(images, draws, 1.0), images + 0.2)


def test_gradient_passes_through_changes() -> None:
    images = (torch.rand(2, 1, 6, 6, dtype=torch.float64) * 2 - 1).requires_grad_()
    draws = torch.rand(2, DRAWS, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: diff_augment(f, draws, 1.0), images)
