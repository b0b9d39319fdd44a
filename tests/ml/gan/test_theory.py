"""The theory's charts against closed forms, other libraries and the objectives themselves."""

import math
import re

import numpy as np
import pytest
import theory
import torch
from scipy import integrate, stats
from torch import Tensor

from ml.gan.objectives import Minimax, Wgan, WganGp
from ml.reporting.charts import curve_chart, histogram_chart, path_chart

DISTANCES = np.array([0.25, 1.0, 2.0, 4.0, 8.0])


@pytest.fixture(scope="module")
def clipped() -> theory.ToyCritic:
    return theory.train_toy_critic(Wgan(0.1), steps=250)


@pytest.fixture(scope="module")
def penalised() -> theory.ToyCritic:
    return theory.train_toy_critic(WganGp(10.0), steps=250)


def test_simultaneous_play_spirals_outwards() -> None:
    radius = np.linalg.norm(theory.gradient_play((1.0, 0.5), 0.1, 50), axis=1)
    assert radius[1:] / radius[:-1] == pytest.approx(np.full(50, math.sqrt(1 + 0.1**2)))


def test_alternating_play_stays_on_an_ellipse() -> None:
    x, y = theory.gradient_play((1.0, 0.5), 0.1, 500, alternate=True).T
    assert x**2 - 0.1 * x * y + y**2 == pytest.approx(np.full(501, 1.2))


def test_play_at_the_nash_point_stays_there() -> None:
    assert not theory.gradient_play((0.0, 0.0), 0.3, 5).any()


def test_gradients_are_those_of_the_objectives() -> None:
    """A generator that shifts noise, its gradient by autograd over many samples."""
    distance, spread = 1.5, 0.8
    noise = spread * torch.randn(400_000, generator=torch.Generator().manual_seed(0)).double()

    def log_odds(images: Tensor) -> Tensor:
        # Of the best discriminator: log p - log q.
        return ((images - distance) ** 2 - images**2) / (2 * spread**2)

    def slope(loss: str) -> float:
        shift = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
        fakes = noise + shift
        losses = {
            "minimax": lambda: -torch.nn.functional.softplus(log_odds(fakes)).mean(),
            "non_saturating": lambda: Minimax().generator_loss(log_odds(fakes), fakes),
            "wasserstein": lambda: Wgan(1.0).generator_loss(-fakes, fakes),
        }
        return float(torch.autograd.grad(losses[loss](), shift)[0])

    found = theory.generator_gradients(np.array([distance]), spread)
    for loss in ("minimax", "non_saturating", "wasserstein"):
        assert slope(loss) == pytest.approx(getattr(found, loss)[0], rel=0.01), loss


def test_only_the_minimax_gradient_vanishes() -> None:
    found = theory.generator_gradients(np.array([2.0, 6.0, 12.0, 40.0]))
    assert (np.diff(found.minimax) < 0).all()
    # The overlap of the two decays like exp(-d^2 / 8), and is still seen where it underflows.
    assert found.minimax[2] < 12 * math.exp(-(12**2) / 8)
    assert 0 < found.minimax[3] < 1e-80
    assert (np.diff(found.non_saturating) > 0).all()
    assert (found.wasserstein == 1).all()


@pytest.mark.parametrize("spreads", [(1.0, 1.0), (1.0, 2.0), (0.5, 0.3)])
def test_gaussian_divergences_equal_numeric_ones(spreads: tuple[float, float]) -> None:
    p_spread, q_spread = spreads
    distances = np.array([0.0, 0.7, 2.0])
    found = theory.gaussian_divergences(distances, p_spread, q_spread)
    for number, distance in enumerate(distances):
        p, q = stats.norm(0, p_spread), stats.norm(distance, q_spread)
        assert found.kl[number] == pytest.approx(_kl(p, q), abs=1e-8)
        assert found.reverse_kl[number] == pytest.approx(_kl(q, p), abs=1e-8)
        assert found.js[number] == pytest.approx(_js(p, q), abs=1e-8)
        ranks = (np.arange(100_000) + 0.5) / 100_000
        transport = stats.wasserstein_distance(p.ppf(ranks), q.ppf(ranks))
        assert found.wasserstein[number] == pytest.approx(transport, abs=1e-3)


def _kl(p: stats.rv_continuous, q: stats.rv_continuous) -> float:
    low, high = p.mean() - 12 * p.std(), p.mean() + 12 * p.std()
    return float(
        integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), low, high, limit=200)[0]
    )


def _js(p: stats.rv_continuous, q: stats.rv_continuous) -> float:
    def excess(x: float) -> float:
        log_mean = np.logaddexp(p.logpdf(x), q.logpdf(x)) - math.log(2)
        return float(p.pdf(x) * (p.logpdf(x) - log_mean) + q.pdf(x) * (q.logpdf(x) - log_mean))

    spread = max(p.std(), q.std())
    return float(integrate.quad(excess, -12 * spread, q.mean() + 12 * spread, limit=200)[0] / 2)


def test_divergences_of_gaussians_as_they_part() -> None:
    found = theory.gaussian_divergences(DISTANCES, 1.0, 2.0)
    assert (found.reverse_kl > 1.5 * found.kl)[2:].all()
    # Twice as far: KL four times as large, Wasserstein twice, Jensen-Shannon at its end.
    assert found.kl[4] / found.kl[3] == pytest.approx(4, rel=0.2)
    assert found.wasserstein[4] / found.wasserstein[3] == pytest.approx(2, rel=0.01)
    far = theory.gaussian_divergences(np.array([100.0, 200.0]))
    assert far.js == pytest.approx(math.log(2))
    assert far.kl == pytest.approx([5000, 20_000])
    same = theory.gaussian_divergences(np.zeros(1))
    for name in ("kl", "reverse_kl", "js", "wasserstein"):
        assert getattr(same, name) == pytest.approx(0, abs=1e-12)


def test_divergences_of_uniforms() -> None:
    """Against a reckoning over the three stretches: only P, both, only Q."""
    found = theory.uniform_divergences(np.array([0.0, 0.5, 2.0, 6.0]), width=2.0)
    # A quarter of either mass stands alone, where the ratio to the mean is 2.
    assert found.js == pytest.approx(np.array([0, 0.25, 1, 1]) * math.log(2))
    assert found.wasserstein == pytest.approx([0, 0.5, 2, 6])
    for kl in (found.kl, found.reverse_kl):
        assert kl.tolist() == [0, math.inf, math.inf, math.inf]


def test_clipping_pushes_weights_to_the_ends(clipped: theory.ToyCritic) -> None:
    assert np.abs(clipped.weights).max() == pytest.approx(0.1)
    assert (np.abs(clipped.weights) > 0.095).mean() > 0.8


def test_penalty_leaves_weights_spread_and_slopes_near_one(penalised: theory.ToyCritic) -> None:
    reach = np.abs(penalised.weights).max()
    assert (np.abs(penalised.weights) > 0.95 * reach).mean() < 0.05
    between = (penalised.radii > 0.3) & (penalised.radii < theory.RING_RADIUS - 0.1)
    assert penalised.slopes[between] == pytest.approx(1, abs=0.25)


def test_slope_under_clipping_follows_the_range(clipped: theory.ToyCritic) -> None:
    """Four layers: a range ten times as small leaves about a ten-thousandth of the slope."""
    narrow = theory.train_toy_critic(Wgan(0.01), steps=250)
    assert theory.clipped_slope_bound(0.1) == pytest.approx(1e4 * theory.clipped_slope_bound(0.01))
    assert 2 < np.median(clipped.slopes) < clipped.slopes.max() < theory.clipped_slope_bound(0.1)
    assert 1e-5 < np.median(narrow.slopes) < 1e-3
    assert narrow.slopes.max() < theory.clipped_slope_bound(0.01)


def test_toy_critic_repeats_and_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (theory.train_toy_critic(WganGp(10.0), steps=2) for _ in range(2))
    assert (first.weights == second.weights).all()
    assert (first.weights != theory.train_toy_critic(WganGp(10.0), steps=2, seed=1).weights).any()
    assert torch.equal(before, torch.random.get_rng_state())


def test_charts_of_the_theory(clipped: theory.ToyCritic, penalised: theory.ToyCritic) -> None:
    critics = {"clipping": clipped, "penalty": penalised}
    expected = {
        theory.orbit_chart(): ("Nash point", 2),
        theory.gradient_chart(DISTANCES): ("generator&#x27;s gradient", 3),
        theory.gaussian_chart(DISTANCES): ("Gauss|N\\(0, 1²\\)", 4),
        theory.uniform_chart(DISTANCES): ("uniform", 2),
        theory.slope_chart(critics): ("Slope of the critic", 2),
        theory.weight_chart(clipped, "clipping"): ("Weights of a critic: clipping", 0),
    }
    for chart, (title, lines) in expected.items():
        assert re.search(f'aria-label="[^"]*({title})', chart)
        assert chart.count("<polyline") == lines
        assert not re.search(r"\b(nan|inf)\b", chart)


def test_logarithmic_axis_places_powers_evenly() -> None:
    chart = curve_chart(
        {"a": [(0, 1), (1, 0.1), (2, 0.01)]}, title="t", x_label="x", y_label="y", log_y=True
    )
    (line,) = re.findall(r'<polyline class="line s0" points="([^"]+)"', chart)
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0]) == 120
    assert ">10⁻²<" in chart
    assert ">1<" in chart


def test_plane_has_one_scale_and_names_its_marks() -> None:
    square = [(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)]
    chart = path_chart({"way": square}, {"<end>": (3, 1)}, title="t", x_label="x", y_label="y")
    (line,) = re.findall(r'<polyline class="line s0" points="([^"]+)"', chart)
    a, b, c = (tuple(map(float, point.split(","))) for point in line.split())
    assert (b[0] - a[0]) / 3 == pytest.approx(b[1] - c[1])
    assert "&lt;end&gt;" in chart


def test_bars_stand_on_zero() -> None:
    chart = histogram_chart([0.25, 0.75], [-1, 0, 1], title="t", x_label="x", y_label="y")
    bars = [
        [float(value) for value in bar]
        for bar in re.findall(
            r'class="bar" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', chart
        )
    ]
    (x0, y0, w0, h0), (x1, y1, _, h1) = bars
    assert x0 + w0 == pytest.approx(x1)
    assert y0 + h0 == pytest.approx(y1 + h1)
    assert h1 == pytest.approx(3 * h0)
