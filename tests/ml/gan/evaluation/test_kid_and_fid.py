"""Measures of synthetic images against second implementations, and where the answer is known."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg, stats
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torchmetrics.image.fid import FrechetInceptionDistance

from ml.errors import DataError
from ml.gan.evaluation.distances import (
    distances,
    diversity,
    mean_pairwise_distance,
    nearest,
    neighbour_radii,
    pixel_points,
)
from ml.gan.evaluation.divergences import (
    embedding_divergences,
    histogram_divergences,
    pixel_divergences,
    wasserstein_distance,
)
from ml.gan.evaluation.fid import fid, frechet_distance
from ml.gan.evaluation.kid import kid
from ml.gan.evaluation.memorisation import (
    closeness,
    copying_by_cell,
    copying_statistic,
    exact_copies,
    near_copies,
    nearest_percentiles,
    with_mirrored,
)
from ml.gan.evaluation.precision_recall import NEIGHBOURS, manifold, sample_realism
from ml.gan.evaluation.real_floor import real_floor
from ml.gan.evaluation.train_synthetic_test_real import (
    LabelledPoints,
    probe_auroc,
    synthetic_against_real,
)
from ml.imaging.types import GreyImages
from tests.support.images import synthetic_image

Points = NDArray[np.float32]


def cloud(seed: int, count: int = 60, shift: float = 0.0, features: int = 12) -> Points:
    random = np.random.default_rng(seed)
    spread = np.linspace(2, 0.3, features)
    return (random.normal(size=(count, features)) * spread + shift).astype(np.float32)


def textured_images(seed: int, count: int, side: int = 64) -> GreyImages:
    """Images with their own coarse structure each, as images of different people have."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        blobs = Image.fromarray(random.normal(0, 25, (9, 8)).astype(np.float32))
        texture = np.asarray(blobs.resize((side, side), Image.Resampling.BICUBIC))
        images.append(np.clip(synthetic_image(random, side, side) + texture, 0, 255))
    return np.stack(images).astype(np.uint8)


# --- distances ---------------------------------------------------------------------------------


def test_distances_equal_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    # Several blocks, the last one not full.
    monkeypatch.setattr("ml.gan.evaluation.distances._BLOCK", 7)
    real, samples = cloud(0), cloud(1, 40)
    assert np.allclose(distances(samples, real), reference.pairwise_distances(samples, real))
    distance, number = nearest(samples, real)
    expected, places = NearestNeighbors(n_neighbors=1).fit(real).kneighbors(samples)
    assert np.allclose(distance, expected[:, 0])
    assert (number == places[:, 0]).all()
    radii, _ = NearestNeighbors(n_neighbors=5).fit(real).kneighbors()
    assert np.allclose(neighbour_radii(real, 5), radii[:, -1])
    pairs = reference.pairwise_distances(real)[np.triu_indices(len(real), 1)]
    assert mean_pairwise_distance(real) == pytest.approx(pairs.mean())
    with pytest.raises(ValueError, match="more than 5"):
        neighbour_radii(real[:5], 5)


def test_diversity_is_one_for_alike_and_nothing_for_collapsed_images() -> None:
    images = textured_images(0, 40)
    one, other = pixel_points(images[:20]), pixel_points(images[20:])
    assert one.shape == (20, 32 * 32)
    assert diversity(one, other) == pytest.approx(1, abs=0.15)
    collapsed = pixel_points(np.repeat(images[:1], 20, axis=0))
    assert diversity(collapsed, other) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="all real images are equal"):
        diversity(one, np.zeros_like(other))
    with pytest.raises(ValueError, match="two points"):
        diversity(one[:1], other)


@pytest.mark.parametrize(("side", "expected"), [(16, 16), (64, 32), (100, 33), (256, 32)])
def test_pixel_points_are_averages_of_boxes(side: int, expected: int) -> None:
    images = textured_images(0, 2, side)
    points = pixel_points(images).reshape(2, expected, expected)
    factor = side // expected
    assert points[1, 0, 0] == pytest.approx(images[1, :factor, :factor].mean() / 255)


# --- KID and FID -------------------------------------------------------------------------------


def brute_force_kid(real: Points, samples: Points) -> float:
    """The unbiased estimate, written out pair by pair."""

    def kernel(x: Points, y: Points) -> float:
        return float((x.astype(float) @ y.astype(float) / len(x) + 1) ** 3)

    def within(points: Points) -> float:
        count = len(points)
        pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
        return sum(kernel(points[i], points[j]) for i, j in pairs) / len(pairs)

    across = np.mean([[kernel(x, y) for y in samples] for x in real])
    return within(real) + within(samples) - 2 * float(across)


def test_kid_equals_brute_force() -> None:
    real, samples = cloud(0, 30), cloud(1, 30, 0.5)
    ours = kid(real, samples, subset_size=30, subsets=2, draws=0)
    assert ours.value == pytest.approx(brute_force_kid(real, samples))
    assert ours.spread == pytest.approx(0, abs=1e-9)
    assert np.isnan(ours.low)
    assert np.isnan(ours.high)


def test_kid_and_fid_of_sets_that_are_alike_are_about_zero() -> None:
    real = cloud(0, 300)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-5)
    apart = kid(real, cloud(1, 300, 2), draws=0).value
    for alike in (real, cloud(1, 300)):
        assert abs(kid(real, alike, draws=0).value) < 0.01 * apart
        assert fid(real, alike, halvings=0).value < 0.1 * frechet_distance(real, cloud(1, 300, 2))


def test_kid_interval_holds_the_value_and_follows_the_number_of_patients() -> None:
    real, samples = cloud(0, 80), cloud(1, 50, 0.7)
    alone = kid(real, samples)
    assert alone.low < alone.value < alone.high
    assert (alone.real, alone.samples, alone.subset_size) == (80, 50, 25)
    few = kid(real, samples, patients=np.array([f"p{number // 20}" for number in range(80)]))
    assert few.value == alone.value
    one = kid(real, samples, patients=np.array(["p"] * 80))
    assert np.isfinite([one.low, one.high, few.low, few.high]).all()
    with pytest.raises(ValueError, match="patient keys"):
        kid(real, samples, patients=np.array(["p"]))


def test_kid_interval_is_as_wide_as_new_images_would_move_it() -> None:
    drawn = [kid(cloud(n, 60), cloud(1000 + n, 60, 1), draws=0).value for n in range(40)]
    intervals = [kid(cloud(n, 60), cloud(1000 + n, 60, 1), draws=200) for n in range(5)]
    width = np.mean([one.high - one.low for one in intervals])
    assert width == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.35)


def test_bootstrap_leaves_out_pairs_of_a_image_with_its_copy() -> None:
    """Drawn once each, the sums give the estimate itself, for images and for patients."""
    from ml.gan.evaluation import kid as quality

    real = cloud(0, 24)
    kernel = quality._kernel(real, real)
    patients = np.array([f"p{number % 7}" for number in range(24)])
    for groups in (np.arange(24), patients):
        sums = quality._KernelSums(real, groups)
        once = np.ones((1, len(sums.images)))
        others = ~np.eye(24, dtype=bool)
        assert sums.mean(once)[0] == pytest.approx(kernel[others].mean())
    # Patient 0 twice and patient 1 once, written out: copies of patient 0 do not meet.
    images = [(0, image) for image in np.flatnonzero(patients == "p0")]
    images += [(1, image) for image in np.flatnonzero(patients == "p0")]
    images += [(2, image) for image in np.flatnonzero(patients == "p1")]
    pairs = [
        kernel[i, j]
        for a, i in images
        for b, j in images
        if not (a == b and i == j) and {a, b} != {0, 1}
    ]
    counts = np.array([[2.0, 1, 0, 0, 0, 0, 0]])
    assert quality._KernelSums(real, patients).mean(counts)[0] == pytest.approx(np.mean(pairs))


def test_kid_is_repeatable_and_leaves_the_random_state() -> None:
    real, samples = cloud(0), cloud(1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = kid(real, samples)
    assert torch.equal(torch.rand(2), expected)
    assert kid(real, samples) == first
    assert kid(real, samples, seed=1).value != first.value


@pytest.mark.parametrize("features", [12, 100])
def test_fid_equals_the_closed_form(features: int) -> None:
    """Also where there are more features than images."""
    real, samples = cloud(0, 40, 0, features), cloud(1, 35, 0.4, features)
    means = real.mean(axis=0, dtype=float) - samples.mean(axis=0, dtype=float)
    one, other = np.cov(real.T.astype(float)), np.cov(samples.T.astype(float))
    # tr (AB)^1/2 from the root of a symmetric matrix, which is defined for singular ones too.
    values, vectors = linalg.eigh(one)
    half = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    roots = np.sqrt(np.maximum(linalg.eigvalsh(half @ other @ half), 0))
    expected = means @ means + np.trace(one) + np.trace(other) - 2 * roots.sum()
    assert frechet_distance(real, samples) == pytest.approx(expected, rel=1e-6)
    if features < len(samples):
        root = np.trace(linalg.sqrtm(one @ other).real)
        assert roots.sum() == pytest.approx(root, rel=1e-6)


@pytest.mark.parametrize(("count", "features"), [(60, 12), (20, 40)])
def test_fid_equals_torchmetrics(count: int, features: int) -> None:
    class Given(torch.nn.Module):
        num_features = features

        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return points

    real, samples = cloud(0, count, features=features), cloud(1, count + 5, 0.4, features)
    library = FrechetInceptionDistance(Given())
    library.update(torch.from_numpy(real).double(), real=True)
    library.update(torch.from_numpy(samples).double(), real=False)
    assert frechet_distance(real, samples) == pytest.approx(float(library.compute()), rel=1e-5)


def test_fid_compares_equal_numbers_and_says_how_sure_it_is() -> None:
    real, samples = cloud(0, 90), cloud(1, 50, 0.7)
    ours = fid(real, samples)
    assert ours.n == 50
    assert ours.low < ours.value < ours.high
    assert fid(real, samples) == ours
    small = fid(real, samples, n=20)
    assert small.n == 20
    assert small.error > ours.error
    assert np.isnan(fid(real, samples, halvings=0).error)
    # Two samples of one distribution: the interval reaches 0 and does not go below.
    assert fid(cloud(0, 40), cloud(1, 40)).low >= 0


def test_fid_error_is_what_new_images_would_move_it() -> None:
    values = [fid(cloud(n, 60), cloud(99 + n, 60, 1), halvings=0).value for n in range(40)]
    errors = [fid(cloud(n, 60), cloud(99 + n, 60, 1)).error for n in range(6)]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def test_floor_is_between_disjoint_patients_and_fid_is_measured_by_it() -> None:
    real = cloud(0, 120)
    patients = np.array([f"p{number // 3}" for number in range(120)])
    floor = real_floor(real, patients, 40, repeats=4)
    assert (floor.n, floor.repeats) == (40, 4)
    assert floor.fid_spread > 0
    assert floor.kid_spread > 0
    assert abs(floor.kid) < 0.2
    apart = fid(cloud(2, 40, 1), cloud(3, 40), halvings=0)
    alike = fid(cloud(2, 40), cloud(3, 40), halvings=0)
    assert floor.ratio(apart) < 0.5
    assert floor.ratio(alike) == pytest.approx(1, abs=0.4)
    with pytest.raises(ValueError, match="no floor of 40"):
        floor.ratio(fid(cloud(2, 30), cloud(3, 30), halvings=0))


def test_floor_of_copies_of_a_patient_is_not_nothing() -> None:
    """Every patient's images are the same image: halves that shared a patient would be alike."""
    real = np.repeat(cloud(0, 20), 6, axis=0)
    patients = np.array([f"p{number // 6}" for number in range(120)])
    floor = real_floor(real, patients, 54, repeats=3)
    assert floor.fid > 3 * real_floor(cloud(0, 120), np.arange(120).astype(str), 54, repeats=3).fid


@pytest.mark.parametrize("patients_of", [lambda number: "p", lambda number: f"p{number % 2}"])
def test_floor_without_enough_patients_is_refused(patients_of: Callable[[int], str]) -> None:
    patients = np.array([patients_of(number) for number in range(60)])
    with pytest.raises(DataError, match="share no patient"):
        real_floor(cloud(0), patients, 31)


def test_too_few_images_are_refused() -> None:
    for measure in (kid, fid, frechet_distance, manifold):
        with pytest.raises(DataError, match="60 real and 3 synthetic images are too few"):
            measure(cloud(0), cloud(1, 3))
    with pytest.raises(DataError, match="at least 50"):
        fid(cloud(0), cloud(1, 40), n=50)


def test_library_warnings_are_not_silenced_for_others() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        kid(cloud(0), cloud(1), draws=0)
        warnings.warn("something else", stacklevel=1)
    assert [str(one.message) for one in heard] == ["something else"]


# --- precision, recall, density, coverage --------------------------------------------------------


def test_neighbourhoods_equal_a_second_implementation() -> None:
    real, samples = cloud(0, 70), cloud(1, 50, 0.4)
    k = 5

    def radii(points: Points) -> NDArray[np.float64]:
        return NearestNeighbors(n_neighbors=k).fit(points).kneighbors()[0][:, -1]

    apart = reference.pairwise_distances(real, samples)
    inside = apart <= radii(real)[:, None]
    ours = manifold(real, samples, k)
    assert ours.precision == pytest.approx(inside.any(axis=0).mean())
    assert ours.recall == pytest.approx((apart <= radii(samples)).any(axis=1).mean())
    assert ours.density == pytest.approx(inside.sum() / (k * len(samples)))
    assert ours.coverage == pytest.approx(inside.any(axis=1).mean())
    assert 0 < ours.precision < 1
    assert 0 < ours.coverage < 1
    assert (ours.real, ours.samples) == (70, 50)


def test_neighbourhoods_of_the_same_and_of_far_images() -> None:
    real = cloud(0)
    same = manifold(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = manifold(real, cloud(1, 60, 50))
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    collapsed = manifold(real, np.repeat(real[:1], 60, axis=0))
    assert collapsed.precision == 1
    assert collapsed.recall < 0.05
    assert collapsed.coverage < 0.5


def test_realism_falls_with_the_distance_from_real_images() -> None:
    real = cloud(0)
    samples = np.concatenate([real[:20], cloud(1, 20, 3), cloud(2, 20, 30)])
    radii = neighbour_radii(real, NEIGHBOURS)
    realism = sample_realism(distances(samples, real), radii).reshape(3, 20)
    assert realism[0].min() >= realism[1].max()
    assert realism[1].min() > realism[2].max()
    assert np.isfinite(realism).all()


# --- memorisation --------------------------------------------------------------------------------


def test_planted_copies_have_low_percentiles_and_fresh_images_have_not() -> None:
    training, held_out = cloud(0, 200), cloud(1, 100)
    fresh = cloud(2, 100)
    copies = training[:10] + np.float32(1e-3)
    of_held_out = nearest(held_out, training)[0]
    percentiles = nearest_percentiles(
        nearest(np.concatenate([copies, fresh]), training)[0], of_held_out
    )
    assert (percentiles[:10] == 0).all()
    # Fresh images spread over all percentiles.
    assert stats.kstest(percentiles[10:], "uniform").pvalue > 0.01
    assert nearest_percentiles(np.array([1.0, 2.0, 9.0]), np.array([2.0, 3.0])).tolist() == [
        0,
        0.5,
        1,
    ]
    with pytest.raises(DataError, match="no held-out"):
        nearest_percentiles(np.ones(2), np.empty(0))


def test_pixels_find_noisy_mirrored_copies_and_name_their_images() -> None:
    images = textured_images(0, 90)
    training, held_out, fresh = images[:40], images[40:65], images[65:]
    noise = np.random.default_rng(1).normal(0, 10, (10, 64, 64))
    noisy = np.clip(training[:10, :, ::-1] + noise, 0, 255).astype(np.uint8)
    samples = pixel_points(np.concatenate([noisy, fresh]))
    known = pixel_points(with_mirrored(training))
    ours = closeness(samples, pixel_points(held_out), known)
    assert (ours.percentiles[:10] == 0).all()
    assert (ours.nearest[:10] == np.arange(40, 50)).all()
    assert ours.percentiles[10:].mean() == pytest.approx(0.5, abs=0.2)
    copied = closeness(samples[:10], pixel_points(held_out), known)
    assert (copied.percentiles == ours.percentiles[:10]).all()
    assert copied.copying < -3
    assert abs(closeness(samples[10:], pixel_points(held_out), known).copying) < 3
    with pytest.raises(DataError, match="no training image"):
        closeness(samples, samples, samples[:0])


def test_copying_statistic_equals_scipy() -> None:
    random = np.random.default_rng(0)
    samples, held_out = random.integers(9, size=40).astype(float), random.normal(4, 2, 30)
    held_out[:10] = held_out[:10].round()
    ours = copying_statistic(samples, held_out)
    expected = stats.mannwhitneyu(
        samples, held_out, alternative="less", method="asymptotic", use_continuity=False
    )
    assert stats.norm.cdf(ours) == pytest.approx(expected.pvalue)
    assert copying_statistic(np.ones(5), np.ones(4)) == 0
    with pytest.raises(DataError, match="There are 0 and 3"):
        copying_statistic(np.empty(0), np.ones(3))


def test_copying_statistic_tells_copies_from_fresh_and_from_poor_images() -> None:
    training, held_out = cloud(0, 200), cloud(1, 100)
    of_held_out = nearest(held_out, training)[0]

    def statistic(samples: Points) -> float:
        return copying_statistic(nearest(samples, training)[0], of_held_out)

    assert statistic(training[:80] + np.float32(0.01)) < -5
    assert abs(statistic(cloud(2, 80))) < 3
    assert statistic(cloud(2, 80, 3)) > 5


def test_copying_in_one_cell_is_seen_beside_poor_images_in_another() -> None:
    training = np.concatenate([cloud(0, 100), cloud(1, 100, 40)])
    held_out = np.concatenate([cloud(2, 50), cloud(3, 50, 40)])
    copied, poor = training[:50] + np.float32(0.01), cloud(4, 50, 44)
    samples = np.concatenate([copied, poor])
    cells = copying_by_cell(samples, held_out, training, cells=2)
    assert cells.cells == 2
    assert cells.lowest < -5
    assert copying_by_cell(samples, held_out, training, cells=2) == cells
    fresh = copying_by_cell(held_out[::-1], held_out, training, cells=2)
    assert fresh.value == pytest.approx(0, abs=1e-6)
    none = copying_by_cell(samples, held_out, training, cells=2, least=1000)
    assert none.cells == 0
    assert np.isnan(none.value)
    with pytest.raises(DataError, match="too few for 500 cells"):
        copying_by_cell(samples, held_out, training, cells=500)


def test_exact_and_near_copies_are_flagged_mirrored_too_and_fresh_images_are_not() -> None:
    training = textured_images(0, 20)
    fresh = textured_images(1, 10)
    brighter = np.clip(training[4] * 1.1 + 5, 0, 255).astype(np.uint8)
    samples = np.stack([training[0], training[1, :, ::-1], brighter, brighter[:, ::-1], *fresh])
    expected_exact = [True, True] + [False] * 12
    assert exact_copies(samples, training).tolist() == expected_exact
    expected_near = [True] * 4 + [False] * 10
    assert near_copies(samples, training).tolist() == expected_near
    # The mirrored ones are not copies of the images as they are.
    assert not near_copies(samples[1:2], training[:1]).any()


def test_near_copies_are_those_that_data_sets_are_searched_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ml.data.near_duplicates import close_images, close_to
    from ml.gan.evaluation.memorisation import hash_all

    monkeypatch.setattr("ml.data.near_duplicates._BLOCK", 5)
    images = textured_images(0, 12)
    samples = images[:3, 1:-1, 1:-1]
    hashes, references = hash_all(samples), hash_all(images)
    for most in (12, 60):
        pairs = close_images(np.concatenate([hashes, references]), most)
        near = [image for image, copies in pairs if image < 3 and copies.max() >= 3]
        expected = np.isin(np.arange(3), near)
        assert (close_to(hashes, references, most) == expected).all()


def test_mirroring_is_from_left_to_right() -> None:
    images = textured_images(0, 2)
    both = with_mirrored(images)
    assert (both[:2] == images).all()
    assert (both[2, :, 0] == images[0, :, -1]).all()


# --- divergences -------------------------------------------------------------------------------


def test_divergences_of_histograms_equal_scipy() -> None:
    random = np.random.default_rng(0)
    real, samples = random.integers(50, 900, size=(2, 30))
    ours = histogram_divergences(real, samples)
    p, q = real / real.sum(), samples / samples.sum()
    assert ours.kl_real_samples == pytest.approx(stats.entropy(real + 0.5, samples + 0.5))
    assert ours.kl_samples_real == pytest.approx(stats.entropy(samples + 0.5, real + 0.5))
    middle = (p + q) / 2
    assert ours.js == pytest.approx((stats.entropy(p, middle) + stats.entropy(q, middle)) / 2)
    places = np.arange(30)
    assert ours.wasserstein == pytest.approx(stats.wasserstein_distance(places, places, p, q))


def test_disjoint_histograms_are_at_the_ends_of_their_ranges() -> None:
    left, right = np.zeros((2, 10), np.int64)
    left[2], right[7] = 1000, 500
    apart = histogram_divergences(left, right)
    assert apart.js == pytest.approx(np.log(2))
    assert apart.wasserstein == pytest.approx(5)
    assert np.isfinite([apart.kl_real_samples, apart.kl_samples_real]).all()
    assert apart.kl_real_samples > 5
    alike = histogram_divergences(left, left)
    assert (alike.js, alike.wasserstein, alike.kl_real_samples) == (0, 0, 0)
    with pytest.raises(ValueError, match="empty"):
        histogram_divergences(left, np.zeros(10, np.int64))
    with pytest.raises(ValueError, match="same bins"):
        histogram_divergences(left, right[:5])


def test_shifted_greys_are_as_far_as_the_shift() -> None:
    images = np.clip(textured_images(0, 3, 16), 0, 200)
    shifted = pixel_divergences(images, images + np.uint8(30))
    assert shifted.wasserstein == pytest.approx(30)
    other = textured_images(1, 4, 16)
    expected = stats.wasserstein_distance(images.ravel(), other.ravel())
    assert pixel_divergences(images, other).wasserstein == pytest.approx(expected)


def test_wasserstein_of_numbers_equals_scipy() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(size=31), random.normal(1, 2, size=17)
    expected = stats.wasserstein_distance(one, other)
    assert wasserstein_distance(one, other) == pytest.approx(expected)
    assert wasserstein_distance(one, one + 3) == pytest.approx(3)


def test_divergences_of_embeddings_grow_with_the_distance() -> None:
    real = cloud(0, 300)
    alike, near, far = (embedding_divergences(real, cloud(1, 300, by)) for by in (0, 0.5, 5))
    for name in ("kl_real_samples", "kl_samples_real", "js", "wasserstein"):
        values = [getattr(one, name) for one in (alike, near, far)]
        assert values == sorted(values)
        assert np.isfinite(values).all()
    assert far.js <= np.log(2)
    itself = embedding_divergences(real, real)
    assert (itself.js, itself.wasserstein) == (0, 0)
    # One standard deviation along an axis that is known.
    line = np.zeros((200, 3))
    line[:, 1] = np.linspace(-1, 1, 200)
    moved = line + np.array([0, line[:, 1].std(), 0])
    assert embedding_divergences(line, moved).wasserstein == pytest.approx(1)
    for too_few in (real[:5], np.zeros_like(real)):
        with pytest.raises(ValueError, match="real images"):
            embedding_divergences(too_few, real)


# --- training on synthetic images, testing on real ones -------------------------------------------


def labelled(seed: int, count: int, apart: float) -> LabelledPoints:
    labels = np.arange(count) % 3
    return LabelledPoints(cloud(seed, count) + apart * np.eye(3, 12)[labels], labels)


def test_probe_equals_scikit_learn_and_is_worth_what_its_images_are() -> None:
    test, real = labelled(0, 90, 3.0), labelled(1, 120, 3.0)
    patients = np.array([f"p{number // 2}" for number in range(90)])
    useful = synthetic_against_real(labelled(2, 120, 3.0), real, test, patients)
    useless = synthetic_against_real(labelled(2, 120, 0.0), real, test, patients)
    assert useful.real.low < useful.real.value < useful.real.high
    assert useful.real.n == 90
    assert useful.synthetic.value > 0.85
    assert abs(useful.gap) < 0.08
    assert useless.gap > 0.2
    assert useless.real == useful.real
    scaler = StandardScaler().fit(real.points)
    model = LogisticRegression(C=0.01).fit(scaler.transform(real.points), real.labels)
    answers = model.predict_proba(scaler.transform(test.points))
    expected = reference.roc_auc_score(test.labels, answers, multi_class="ovr")
    assert useful.real.value == pytest.approx(expected, abs=1e-3)


def test_probe_without_a_class_is_refused() -> None:
    test = labelled(0, 30, 1.0)
    two = LabelledPoints(test.points[test.labels < 2], test.labels[test.labels < 2])
    patients = np.arange(30).astype(str)
    with pytest.raises(DataError, match=r"synthetic images .* classes \[0, 1\]"):
        synthetic_against_real(two, test, test, patients)
    # Class numbers need not start at zero nor follow each other.
    other = LabelledPoints(two.points, two.labels * 2 + 1)
    expected = probe_auroc(two, two, patients[: len(two.labels)], name="real")
    assert probe_auroc(other, other, patients[: len(two.labels)], name="real") == expected
