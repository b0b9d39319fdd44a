"""The projected critic: what it sees, what bounds it, and what keeps its generator varied."""

import copy

import pytest
import torch

from ml.errors import XrayError
from ml.gan.checks import check_options
from ml.gan.evaluation.features import unseen_spaces
from ml.gan.network_pairs import build_critic, build_generator
from ml.gan.projected import ProjectedCritic
from ml.gan.projected_step import ProjectedStep, build_step, energy_distance
from ml.gan.step import TrainingImages, draw_step
from ml.options.gan import GanOptions
from ml.training.distributed import ProcessGroup
from tests.support.gan_world import CPU, SIDE, one_thread, tiny  # noqa: F401

ALONE = ProcessGroup(0, 1, CPU)
OPTIONS = tiny("projected", labels="covid,normal", conditional=True)


def training_images() -> TrainingImages:
    random = torch.Generator().manual_seed(2)
    grey = torch.randint(0, 256, (24, SIDE, SIDE), generator=random, dtype=torch.uint8)
    return TrainingImages(grey, torch.arange(24) % 2, torch.ones(24))


@pytest.fixture(scope="module")
def critic() -> ProjectedCritic:
    torch.manual_seed(1)
    critic = build_critic(OPTIONS)
    assert isinstance(critic, ProjectedCritic)
    return critic


def a_step(critic: ProjectedCritic, options: GanOptions = OPTIONS) -> ProjectedStep:
    torch.manual_seed(3)
    step = build_step(build_generator(options), critic, options, ALONE)
    assert isinstance(step, ProjectedStep)
    step.prepare(training_images())
    return step


def test_frozen_network_is_no_part_of_the_critic(critic: ProjectedCritic) -> None:
    frozen = {id(weight) for weight in critic._frozen[0].parameters()}
    assert frozen
    assert not frozen & {id(weight) for weight in critic.parameters()}
    assert sum(value.numel() for value in critic.state_dict().values()) < 1_000_000
    critic.requires_grad_(True)
    assert not any(weight.requires_grad for weight in critic._frozen[0].parameters())


def test_calibrated_views_of_real_images_have_mean_0_and_deviation_1(
    critic: ProjectedCritic,
) -> None:
    images = torch.rand(16, 1, 64, 64) * 2 - 1
    critic.calibrate([images[:8], images[8:]])
    views = [
        torch.cat(pair)
        for pair in zip(*(critic.see(h).views for h in images.split(8)), strict=True)
    ]
    for view in views[:-1]:
        torch.testing.assert_close(
            view.mean(dim=(0, 2, 3)), torch.zeros(view.shape[1]), atol=1e-3, rtol=0
        )
        assert float(view.std(dim=(0, 2, 3)).median()) == pytest.approx(1, abs=0.05)
    assert torch.equal(views[-1], images)
    # Each depth has the same share of the distance of two images, which is 1 on the average.
    summary = torch.cat([critic.see(h).summary for h in images.split(8)])
    assert float(torch.pdist(summary).square().mean()) == pytest.approx(1, abs=0.15)


def test_each_head_sees_its_view_alone(critic: ProjectedCritic) -> None:
    images, classes = torch.rand(8, 1, SIDE, SIDE) * 2 - 1, torch.arange(8) % 2
    views = critic.see(images).views
    scores = critic.score(views, classes)
    assert scores.shape == (8, len(views))
    torch.testing.assert_close(critic(images, classes), scores.mean(dim=1))
    for number in range(len(views)):
        changed = [v + 1 if k == number else v for k, v in enumerate(views)]
        differs = (critic.score(changed, classes) != scores).any(dim=0)
        assert differs.tolist() == [k == number for k in range(len(views))]


def test_feature_penalty_of_heads_without_slope_is_its_weight(critic: ProjectedCritic) -> None:
    step = a_step(copy.copy(critic))
    draw = draw_step(training_images(), OPTIONS, 0, ALONE)[0]
    look = step._look(draw, with_graph=False)
    weights = copy.deepcopy(critic.state_dict())
    with torch.no_grad():
        for weight in critic.parameters():
            weight.zero_()
    # Every slope is 0, one less than it should be.
    assert step.feature_penalty(look).item() == pytest.approx(OPTIONS.penalty, abs=1e-4)
    critic.load_state_dict(weights)
    assert step.feature_penalty(look).item() > 0


def test_step_updates_the_heads_and_the_generator(critic: ProjectedCritic) -> None:
    step = a_step(critic)
    before = copy.deepcopy([*step.generator.parameters(), *critic.parameters()])
    metrics = step(draw_step(training_images(), OPTIONS, 0, ALONE), 0)
    assert all(torch.isfinite(value) for value in metrics)
    changed = [
        not torch.equal(old, new)
        for old, new in zip(
            before, [*step.generator.parameters(), *critic.parameters()], strict=True
        )
    ]
    # The embedding of a class that the batch lacks stays as it is; nothing else does.
    assert sum(changed) > 0.9 * len(changed)


def test_energy_distance_is_least_for_samples_of_the_same_distribution() -> None:
    random = torch.Generator().manual_seed(0)
    real = torch.randn(400, 6, generator=random)
    like = float(energy_distance(torch.randn(300, 6, generator=random), real))
    collapsed = float(energy_distance(real.mean(dim=0).expand(300, -1), real))
    wider = float(energy_distance(2 * torch.randn(300, 6, generator=random), real))
    assert like < collapsed - 0.5
    assert like < wider - 0.3
    # As many points on both sides of one distribution: the mean distance of two of its points.
    assert like == pytest.approx(float(torch.pdist(real).mean()), rel=0.03)


def test_energy_pushes_equal_samples_apart() -> None:
    real = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    samples = (
        0.01 * torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
    ).requires_grad_()
    for _ in range(60):
        (slope,) = torch.autograd.grad(energy_distance(samples, real), samples)
        samples = (samples - 2 * slope).detach().requires_grad_()
    spread = torch.pdist(samples.detach()).mean() / torch.pdist(real).mean()
    assert float(spread) > 0.6


def test_generator_of_a_projected_critic_is_not_judged_where_the_critic_looked() -> None:
    names = ["efficientnet-lite0", "classifier", "efficientnet-lite2"]
    assert unseen_spaces(names, [tiny("wgan-gp")]) == names
    assert unseen_spaces(names, [tiny("wgan-gp"), OPTIONS]) == ["efficientnet-lite2", "classifier"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"objective": "r3gan"}, "hinge or wgan-gp"), ({"network": "resnet"}, "--energy compares")],
)
def test_options_that_do_not_fit_the_projected_critic_are_refused(
    changes: dict[str, str], reason: str
) -> None:
    with pytest.raises(XrayError, match=reason):
        check_options(tiny("projected", **changes))
