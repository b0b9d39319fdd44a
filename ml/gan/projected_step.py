"""The adversarial step of a projected critic: one look at the images serves both networks.

The frozen network costs more than the heads. So the fakes of the last critic update are those of
the generator's update too, and its features are computed once; the gradient penalty is taken by the
features, where no gradient passes the frozen network twice.

A projected critic alone lets the generator collapse: on a few thousand X-rays it made one image of
each class, whatever the latent. The generator's loss therefore has a second term, the energy
distance (Szekely and Rizzo, "Energy statistics", 2013) between summaries of its images and of real
ones: samples are drawn to real images and pushed away from each other, and only the distribution of
the real images balances both.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ml.gan.diffaugment import DRAWS
from ml.gan.objectives import interpolate, squared_gradient_norms
from ml.gan.projected import ProjectedCritic, Seen
from ml.gan.step import AdversarialStep, Draw, StepMetrics, TrainingImages, to_signed
from ml.options.gan import GanOptions
from ml.training.distributed import ProcessGroup

# Real images of each class whose summaries the samples are compared with, and the batches of them
# that the critic's maps are scaled to.
REFERENCES = 512
CALIBRATION_BATCHES = 8
BATCH_SIZE = 32


class _Look(NamedTuple):
    """What the critic sees of one draw's images."""

    real: Seen  # without a graph
    fake: Seen  # with the generator's graph, or without one
    draw: Draw

    @property
    def fixed_fake(self) -> list[Tensor]:
        """The views of the fakes, without the generator's graph."""
        return [view.detach() for view in self.fake.views]


class ProjectedStep(AdversarialStep):
    """Updates a generator and the heads of a projected critic."""

    critic: ProjectedCritic

    @torch.no_grad()
    def prepare(self, images: TrainingImages) -> None:
        """Scale the critic's maps to the training images, and summarise some of each class.

        The same images give the same numbers, so a resumed run prepares what it had before.
        """
        random = torch.Generator().manual_seed(self.options.seed)
        chosen = _evenly(images.classes, random)
        changes = torch.rand(len(chosen), DRAWS, generator=random)
        batches = []
        parts = torch.split(chosen, BATCH_SIZE), torch.split(changes, BATCH_SIZE)
        for numbers, draws in zip(*parts, strict=True):
            real = to_signed(images.grey[numbers.to(images.grey.device)], self.dtype)
            batches.append(self._augmented(real, draws.to(real.device)))
        self.critic.calibrate(batches[:CALIBRATION_BATCHES])
        self._references = torch.cat([self.critic.see(batch).summary for batch in batches])
        self._reference_classes = images.classes[chosen].to(self._references.device)

    def __call__(self, draws: list[Draw], step: int) -> StepMetrics:
        """Update the critic once for each draw but the first, and the generator on the last one.

        Args:
            draws: of this step.
            step: its number, from 0; it decides when a lazy penalty is due.
        """
        updates = []
        for number, draw in enumerate(draws[1:], start=step * self.options.critic_steps):
            look = self._look(draw, with_graph=draw is draws[-1])
            penalised = number % self.options.penalty_every == 0
            updates.append(torch.stack(self._update_heads(look, penalised=penalised)))
        loss, distance, penalty, norm = torch.stack(updates).mean(dim=0)
        return StepMetrics(loss, distance, penalty, norm, *self._update_by(look))

    def _look(self, draw: Draw, *, with_graph: bool) -> _Look:
        """See the real images of a draw and as many fakes."""
        with torch.set_grad_enabled(with_graph), self._reduced_precision():
            fake = self.generator(draw.latents, draw.classes)
            fake = self._augmented(fake.to(self.dtype), draw.changes[:, 1])
            of_fake = self.critic.see(fake)
        with torch.no_grad(), self._reduced_precision():
            real = self._augmented(to_signed(draw.images, self.dtype), draw.changes[:, 0])
            return _Look(self.critic.see(real), of_fake, draw)

    def _update_heads(self, look: _Look, *, penalised: bool) -> tuple[Tensor, ...]:
        """Update the critic once: its loss, score difference, penalty and gradient norm."""
        real = self._scores_of(look.real.views, look.draw)
        fake = self._scores_of(look.fixed_fake, look.draw)
        loss = self.objective.critic_loss(real.flatten(), fake.flatten())
        penalty = loss.new_zeros(())
        if penalised and self.options.penalty:
            penalty = self.options.penalty_every * self.feature_penalty(look)
        self.critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss + penalty)
        norm = self._apply(self.critic, self.critic_optimizer)
        return loss.detach(), (real.mean() - fake.mean()).detach(), penalty.detach(), norm

    def feature_penalty(self, look: _Look) -> Tensor:
        """The weighted gradient penalty of WGAN-GP, by what each head sees.

        One point lies between each real and fake view; each head's slope there is pulled to 1.
        """
        pairs = zip(look.real.views, look.fixed_fake, strict=True)
        between = [
            interpolate(real.detach(), fake, look.draw.mix).requires_grad_() for real, fake in pairs
        ]
        # Each head sees one view, so the gradient of their sum by a view is that head's.
        squared = squared_gradient_norms(self._scores_of(between, look.draw).flatten(), between)
        slopes = (torch.stack(squared) + 1e-12).sqrt()  # (heads, B)
        return self.options.penalty * (slopes - 1).square().mean()

    def _update_by(self, look: _Look) -> tuple[Tensor, Tensor]:
        """Update the generator by the critic's last look: its loss and gradient norm."""
        self.critic.requires_grad_(False)
        scores = self._scores_of(look.fake.views, look.draw).flatten()
        loss = self.objective.generator_loss(scores, scores.detach())
        if self.options.energy:
            loss = loss + self.options.energy * self._energy(look)
        self.generator_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.critic.requires_grad_(True)
        return loss.detach(), self._apply(self.generator, self.generator_optimizer)

    def _energy(self, look: _Look) -> Tensor:
        """The energy distance of samples from real images, within each class if conditional."""
        summary, classes = look.fake.summary.float(), look.draw.classes
        if not self.options.conditional:
            return energy_distance(summary, self._references)
        parts = []
        for number in range(len(self.options.label_names)):
            own = summary[classes == number]
            if len(own) > 1:
                references = self._references[self._reference_classes == number]
                parts.append(len(own) * energy_distance(own, references))
        return torch.stack(parts).sum() / len(summary)

    def _scores_of(self, views: list[Tensor], draw: Draw) -> Tensor:
        """(B, heads) in at least float32."""
        with self._reduced_precision():
            scores = self.critic.score(views, draw.classes)
        return scores.float() if scores.dtype == torch.bfloat16 else scores


def energy_distance(samples: Tensor, references: Tensor) -> Tensor:
    """2 E|x - y| - E|x - x'|: the energy distance without the part that no sample changes.

    Args:
        samples: (n, F), two or more.
        references: (m, F).
    """
    count = len(samples)
    within = _distances(samples, samples).sum() / (count * (count - 1))
    return 2 * _distances(samples, references).mean() - within


def _distances(points: Tensor, others: Tensor) -> Tensor:
    """(n, F), (m, F) -> (n, m), with a finite slope where two points are equal."""
    squared = points.square().sum(1)[:, None] + others.square().sum(1) - 2 * points @ others.T
    return (squared.clamp(min=0) + 1e-6).sqrt()


def _evenly(classes: Tensor, random: torch.Generator) -> Tensor:
    """Numbers of as many images of each class, in random order."""
    counts = torch.bincount(classes).tolist()
    count = min(REFERENCES, *(found for found in counts if found))
    chosen = []
    for number, found in enumerate(counts):
        own = torch.nonzero(classes == number)[:, 0]
        chosen.append(own[torch.randperm(found, generator=random)[:count]])
    together = torch.cat(chosen)
    return together[torch.randperm(len(together), generator=random)]


def build_step(
    generator: nn.Module,
    critic: nn.Module,
    options: GanOptions,
    group: ProcessGroup,
) -> AdversarialStep:
    """The step that fits a pair of networks."""
    kind = ProjectedStep if isinstance(critic, ProjectedCritic) else AdversarialStep
    return kind(generator, critic, options, group)
