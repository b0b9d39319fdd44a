"""The theory behind the objectives, drawn: the charts of the report's chapter 3 from code.

Every figure is a pure function of numbers and a chart of them. Nothing here needs images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.gan.objectives import CriticBatch, Objective, ScoredImages, gradient_norms
from ml.reporting.charts import Point, curve_chart, histogram_chart, path_chart

Floats = NDArray[np.float64]
RING_RADIUS = 2.0
RING_MODES = 8
# Lengths of the toy critic's layers, from a point of the plane to its score.
CRITIC_WIDTHS = (2, 64, 64, 64, 1)


def gradient_play(start: Point, rate: float, steps: int, *, alternate: bool = False) -> Floats:
    """Two players of V(x, y) = x y: one makes it small by x, the other large by y.

    Its Nash point is (0, 0). Played at the same time, every step leads further from it, by the
    factor sqrt(1 + rate^2). In turns, x^2 - rate x y + y^2 never changes: the way stays on an
    ellipse, and does not end at the Nash point either (Gidel et al., "Negative Momentum for
    Improved Game Dynamics", 2019).

    Args:
        start: (x, y) of the first point.
        rate: step size of both.
        steps: how many each player takes.
        alternate: whether y answers to where x already is.

    Returns:
        (steps + 1, 2) points in order, the start among them.
    """
    points = np.empty((steps + 1, 2))
    points[0] = x, y = start
    for number in range(1, steps + 1):
        moved = x - rate * y
        y += rate * (moved if alternate else x)
        x = moved
        points[number] = x, y
    return points


@dataclass(frozen=True, slots=True)
class GeneratorGradients:
    """Size of the generator's gradient under three losses, (N,) for N distances."""

    minimax: Floats
    non_saturating: Floats
    wasserstein: Floats


def generator_gradients(distances: Floats, spread: float = 1.0) -> GeneratorGradients:
    """How much a generator that only shifts its images learns from a perfect opponent.

    Real images are N(0, spread^2), fakes N(d, spread^2). The best discriminator is D = p / (p + q)
    (Goodfellow et al., 2014) and the best critic has slope -1. With either held fixed, the
    gradient by d is:

    - minimax, E[log(1 - D)]: (d / spread^2) E_q[D], which vanishes as the two part;
    - non-saturating, E[-log D]: (d / spread^2) E_q[1 - D], which does not;
    - Wasserstein, -E[D]: 1 at every distance.

    Args:
        distances: (N,) above zero, in units of the images.
        spread: standard deviation of both.
    """
    places = _grid(distances, spread)
    real = _log_normal(places, 0.0, spread)
    fake = _log_normal(places, distances[:, None], spread)
    # E_q[D] = integral of q p / (p + q), in logarithms: far apart, all three underflow.
    taken_for_real = np.exp(real + fake - np.logaddexp(real, fake))
    chance = np.trapezoid(taken_for_real, places, axis=1)
    slope = distances / spread**2
    return GeneratorGradients(slope * chance, slope * (1 - chance), np.ones_like(distances))


@dataclass(frozen=True, slots=True)
class Divergences:
    """How far a distribution Q lies from P, (N,) for N distances; the first three in nats.

    `kl` is KL(P || Q), `reverse_kl` KL(Q || P), `js` the Jensen-Shannon divergence and
    `wasserstein` the Wasserstein-1 distance, in units of the axis.
    """

    kl: Floats
    reverse_kl: Floats
    js: Floats
    wasserstein: Floats


def gaussian_divergences(
    distances: Floats, p_spread: float = 1.0, q_spread: float = 1.0
) -> Divergences:
    """P = N(0, p_spread^2) against Q = N(d, q_spread^2).

    All in closed form but the Jensen-Shannon divergence, which has none and is integrated. The
    best transport on a line keeps the order of the points, so Wasserstein-1 is the mean of
    |d + (q_spread - p_spread) z| over standard normal z.

    Args:
        distances: (N,) between the means.
        p_spread: standard deviation of P.
        q_spread: standard deviation of Q.
    """
    squared = distances**2
    log_ratio = math.log(q_spread / p_spread)
    kl = log_ratio + (p_spread**2 + squared) / (2 * q_spread**2) - 0.5
    reverse = -log_ratio + (q_spread**2 + squared) / (2 * p_spread**2) - 0.5
    places = _grid(distances, max(p_spread, q_spread))
    log_p = _log_normal(places, 0.0, p_spread)
    log_q = _log_normal(places, distances[:, None], q_spread)
    log_mean = np.logaddexp(log_p, log_q) - math.log(2)
    excess = np.exp(log_p) * (log_p - log_mean) + np.exp(log_q) * (log_q - log_mean)
    js: Floats = np.asarray(np.trapezoid(excess, places, axis=1) / 2)
    return Divergences(kl, reverse, js, _folded_mean(distances, abs(q_spread - p_spread)))


def uniform_divergences(distances: Floats, width: float = 1.0) -> Divergences:
    """Two uniform distributions of the same width, shifted against each other.

    Wherever one has mass and the other has none, KL is infinite: at any distance but zero. The
    Jensen-Shannon divergence grows to log 2 and stays there once the two no longer overlap.

    Args:
        distances: (N,) of the shift.
        width: of both.
    """
    apart = np.abs(distances)
    kl = np.where(apart > 0, np.inf, 0.0)
    js = np.minimum(apart / width, 1.0) * math.log(2)
    return Divergences(kl, kl.copy(), js, apart)


def _grid(distances: Floats, spread: float) -> Floats:
    """(N, 8001) places that hold all mass of N(0, spread^2) and of the one at each distance."""
    low = np.minimum(distances, 0.0) - 12 * spread
    high = np.maximum(distances, 0.0) + 12 * spread
    places: Floats = np.linspace(low, high, 8001, axis=1)
    return places


def _log_normal(places: Floats, mean: Floats | float, spread: float) -> Floats:
    z = (places - mean) / spread
    density: Floats = -0.5 * z**2 - math.log(spread * math.sqrt(2 * math.pi))
    return density


def _folded_mean(means: Floats, spread: float) -> Floats:
    """Mean of |x| for x ~ N(mean, spread^2)."""
    if spread == 0:
        return np.abs(means)
    z = means / spread
    within = np.array([math.erf(value / math.sqrt(2)) for value in z])
    mean: Floats = spread * math.sqrt(2 / math.pi) * np.exp(-0.5 * z**2) + means * within
    return mean


@dataclass(frozen=True, slots=True)
class ToyCritic:
    """A trained critic, seen from two sides.

    `radii` (N,) are places on a line from the fakes outwards, `slopes` (N,) the norms of the
    critic's gradient there, and `weights` (W,) all entries of its weight matrices.
    """

    radii: Floats
    slopes: Floats
    weights: Floats


def train_toy_critic(
    objective: Objective, *, steps: int = 300, batch_size: int = 128, seed: int = 0
) -> ToyCritic:
    """Train a small critic in the plane: fakes at the centre, real points on a ring around it.

    The generator stands still, so what is seen is what the objective does to the critic (as in
    figure 1 of Gulrajani et al., 2017). Every objective gets the same optimiser, Adam without
    momentum: nothing but the game differs. The state of torch's own randomness stays untouched.

    Args:
        objective: such as `Wgan` or `WganGp`.
        steps: of the critic.
        batch_size: real points, and as many fakes, for each step.
        seed: of the first weights and of all points.
    """
    random = torch.Generator().manual_seed(seed)
    critic = _PlaneCritic(seed)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
    classes = torch.zeros(batch_size, dtype=torch.long)
    for _ in range(steps):
        real, fake = _ring(batch_size, random), _centre(batch_size, random)
        mix = torch.rand(batch_size, generator=random)
        if objective.penalises_images:
            real, fake = real.requires_grad_(), fake.requires_grad_()
        of_real, of_fake = (
            ScoredImages(points, points, critic(points, classes)) for points in (real, fake)
        )
        loss = objective.critic_loss(of_real.scores, of_fake.scores)
        loss = loss + objective.penalty(critic, CriticBatch(of_real, of_fake, classes, mix))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        objective.constrain(critic)
    return _look_at(critic)


def clipped_slope_bound(clip: float) -> float:
    """The steepest that a toy critic can be whose weights lie in [-clip, clip].

    A product of matrices is no steeper than the product of their Frobenius norms, and LeakyReLU
    makes nothing steeper. The bound goes with clip to the power of the depth: one range is too
    narrow for a signal to come through, and one a little wider lets the slope explode.
    """
    return math.prod(clip * math.sqrt(a * b) for a, b in pairwise(CRITIC_WIDTHS))


class _PlaneCritic(nn.Module):
    """Scores points of the plane, each dressed as an image of 1 x 2 pixels: (B, 1, 1, 2) ->
    (B,).
    """

    def __init__(self, seed: int):
        super().__init__()
        parts: list[nn.Module] = [nn.Flatten()]
        # Layers draw their first weights from torch's own randomness.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for a, b in pairwise(CRITIC_WIDTHS):
                parts += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
        # A score is linear.
        self.layers = nn.Sequential(*parts[:-1])

    def forward(self, points: Tensor, classes: Tensor) -> Tensor:
        """The objectives speak of classes; a point has none."""
        del classes
        scores: Tensor = self.layers(points).squeeze(1)
        return scores


def _ring(count: int, random: torch.Generator) -> Tensor:
    """Real points: a few tight clusters around the centre."""
    turns = torch.randint(RING_MODES, (count,), generator=random) / RING_MODES
    angles = 2 * math.pi * turns
    modes = RING_RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)
    return (modes + 0.05 * torch.randn(count, 2, generator=random)).view(count, 1, 1, 2)


def _centre(count: int, random: torch.Generator) -> Tensor:
    return 0.1 * torch.randn(count, 1, 1, 2, generator=random)


def _look_at(critic: _PlaneCritic) -> ToyCritic:
    radii = torch.linspace(0.0, RING_RADIUS, 81)
    # From the fakes straight to one of the real clusters.
    line = torch.stack([radii, torch.zeros_like(radii)], dim=1).view(-1, 1, 1, 2)
    line.requires_grad_()
    slopes = gradient_norms(critic(line, torch.zeros(len(line), dtype=torch.long)), line)
    matrices = [part.weight.flatten() for part in critic.layers if isinstance(part, nn.Linear)]
    return ToyCritic(
        radii=radii.double().numpy(),
        slopes=slopes.detach().double().numpy(),
        weights=torch.cat(matrices).detach().double().numpy(),
    )


def orbit_chart(start: Point = (1.0, 0.0), rate: float = 0.1, steps: int = 120) -> str:
    """The ways of `gradient_play`, at the same time and in turns, as SVG."""
    ways = {
        "both at the same time": gradient_play(start, rate, steps),
        "one after the other": gradient_play(start, rate, steps, alternate=True),
    }
    return path_chart(
        {name: _points(way[:, 0], way[:, 1]) for name, way in ways.items()},
        {"Nash point": (0.0, 0.0), "start": start},
        title="Gradient play on V(x, y) = xy around its Nash point",
        x_label="x, made to minimise",
        y_label="y, made to maximise",
    )


def gradient_chart(distances: Floats) -> str:
    """The generator's gradients by distance, (N,) above zero, on a logarithmic axis, as SVG."""
    gradients = generator_gradients(distances)
    return curve_chart(
        {
            "minimax: E[log(1 - D)]": _points(distances, gradients.minimax),
            "non-saturating: E[-log D]": _points(distances, gradients.non_saturating),
            "Wasserstein critic: -E[D]": _points(distances, gradients.wasserstein),
        },
        title="Size of the generator's gradient under a perfect opponent",
        x_label="distance between real and fake, in standard deviations",
        y_label="size of the gradient",
        log_y=True,
    )


def gaussian_chart(distances: Floats, p_spread: float = 1.0, q_spread: float = 1.5) -> str:
    """Divergences of two Gaussians of unequal spread by distance, (N,), as SVG."""
    found = gaussian_divergences(distances, p_spread, q_spread)
    return curve_chart(
        {
            "KL(P ‖ Q)": _points(distances, found.kl),
            "KL(Q ‖ P)": _points(distances, found.reverse_kl),
            "Jensen-Shannon": _points(distances, found.js),
            "Wasserstein-1": _points(distances, found.wasserstein),
        },
        title=f"Divergences of P = N(0, {p_spread:g}²) and Q = N(distance, {q_spread:g}²)",
        x_label="distance of the means",
        y_label="divergence",
    )


def uniform_chart(distances: Floats) -> str:
    """Divergences of two uniform distributions by distance, (N,), as SVG.

    KL is infinite and therefore not drawn.
    """
    found = uniform_divergences(distances)
    return curve_chart(
        {
            "Jensen-Shannon: log 2 once nothing overlaps": _points(distances, found.js),
            "Wasserstein-1: the distance": _points(distances, found.wasserstein),
        },
        title="Divergences of two uniform distributions of width 1",
        x_label="distance",
        y_label="divergence",
    )


def slope_chart(critics: Mapping[str, ToyCritic]) -> str:
    """Slopes of named critics from the fakes to a real cluster, on a logarithmic axis, as SVG."""
    return curve_chart(
        {name: _points(critic.radii, critic.slopes) for name, critic in critics.items()},
        title="Slope of the critic on the way from the fakes to a real cluster",
        x_label=f"distance from the fakes; the real cluster lies at {RING_RADIUS:g}",
        y_label="norm of the gradient",
        log_y=True,
    )


def weight_chart(critic: ToyCritic, name: str, bins: int = 40) -> str:
    """How the weights of a critic are spread, as SVG."""
    reach = float(np.abs(critic.weights).max())
    counts, edges = np.histogram(critic.weights, bins=bins, range=(-reach, reach))
    return histogram_chart(
        (counts / len(critic.weights)).tolist(),
        edges.tolist(),
        title=f"Weights of a critic: {name}",
        x_label=f"weight; {name}",
        y_label="share of the weights",
    )


def _points(x: Floats, y: Floats) -> list[Point]:
    return list(zip(x.tolist(), y.tolist(), strict=True))
