"""The adversarial loop in a tiny world: resumed exactly, stopped cleanly, refused clearly."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import torch as safetensors

from ml.data.manifest import ImageRecord, in_split
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, XrayError
from ml.gan.generator_file import load_generator
from ml.gan.latents import latents_of
from ml.gan.sampling import grid_of, images_of_latents, sample_images
from ml.gan.training import CHECKPOINT, train_gan
from ml.options.common import FINISH_EARLY
from ml.options.gan import GAN_PRESETS, GanOptions
from ml.training.checkpoint import load_checkpoint
from tests.support.gan_world import CPU, IMAGES_OF_SPLIT, SIDE, pixel_space, tiny, write_images


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    return write_images(tmp_path_factory.mktemp("images"))


def train(
    records: list[ImageRecord], out: Path, options: GanOptions, **arguments: object
) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    train_gan(
        records,
        out,
        options,
        device=CPU,
        features=pixel_space(),
        on_tick=rows.append,
        **arguments,  # type: ignore[arg-type]
    )
    return rows


def after(calls: int) -> Callable[[], bool]:
    """False for some calls, then true."""
    left = calls

    def should_stop() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    return should_stop


def require_equal_states(one: Path, other: Path) -> None:
    """Networks, averages and optimisers of two runs are equal to the last bit."""
    states = [load_checkpoint(path / CHECKPOINT) for path in (one, other)]
    parts = ("generator", "critic", "average", "generator_optimizer", "critic_optimizer")
    for part in parts:
        flat = [_tensors(state[part]) for state in states]
        assert flat[0].keys() == flat[1].keys()
        for name, value in flat[0].items():
            assert torch.equal(value, flat[1][name]), f"{part}: {name}"


def _tensors(state: object, prefix: str = "") -> dict[str, torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return {prefix: state}
    if isinstance(state, dict):
        items = [(str(key), value) for key, value in state.items()]
    elif isinstance(state, list):
        items = [(str(number), value) for number, value in enumerate(state)]
    else:
        return {prefix: torch.tensor(float(state))} if isinstance(state, int | float) else {}
    return {n: v for key, inner in items for n, v in _tensors(inner, f"{prefix}.{key}").items()}


NETWORKS_OF_PRESETS = [
    *product(list(GAN_PRESETS)[:-1], ["mlp", "report", "resnet"]),
    ("projected", "projected"),
]


@pytest.mark.parametrize(("preset", "network"), NETWORKS_OF_PRESETS)
def test_every_objective_trains_every_network(
    records: list[ImageRecord], tmp_path: Path, preset: str, network: str
) -> None:
    options = tiny(preset, network=network, steps=2)
    options = replace(options, critic_norm=options.critic_norm and network == "report")
    rows = train(records, tmp_path, options)
    assert [row["step"] for row in rows] == [2]
    assert all(np.isfinite(value) for value in rows[0].values())
    loaded = load_generator(tmp_path / "generator.safetensors")
    images = sample_images(loaded.network, range(3), 0, length=loaded.card.options.latent)
    assert images.shape == (3, SIDE, SIDE)


def test_run_that_crashes_between_evaluations_continues_from_its_last_checkpoint(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.gan.training.STEPS_PER_CHECK", 1)
    monkeypatch.setattr("ml.gan.training.SECONDS_PER_CHECKPOINT", 0)
    options = tiny(steps=4, evaluation_interval=4)
    calls = iter(range(10))

    def crash() -> bool:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        train(records, tmp_path / "parts", options, should_stop=crash)
    assert load_checkpoint(tmp_path / "parts" / CHECKPOINT)["step"] == 2
    train(records, tmp_path / "parts", options)
    train(records, tmp_path / "whole", options)
    require_equal_states(tmp_path / "whole", tmp_path / "parts")


@dataclass(frozen=True)
class WholeRun:
    """A run that nothing interrupted."""

    options: GanOptions
    folder: Path
    rows: list[dict[str, float]]


@pytest.fixture(
    scope="module",
    params=[
        tiny(conditional=True, labels="covid,normal", augment=0.7),
        tiny("resnet", batch_std=True, penalty_every=2),
        tiny("dcgan"),
        tiny("wgan"),
        tiny("r3gan", precision="bfloat16"),
        tiny("projected", labels="covid,normal", conditional=True, precision="bfloat16"),
    ],
    ids=lambda options: options.objective,
)
def whole(
    request: pytest.FixtureRequest,
    records: list[ImageRecord],
    tmp_path_factory: pytest.TempPathFactory,
) -> WholeRun:
    folder = tmp_path_factory.mktemp("whole")
    return WholeRun(request.param, folder, train(records, folder, request.param))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_resumed_run_equals_uninterrupted_run(
    records: list[ImageRecord], tmp_path: Path, whole: WholeRun, steps: int
) -> None:
    options = whole.options
    if steps <= 2:
        with pytest.raises(CheckpointError, match="before its first evaluation"):
            train(records, tmp_path / "parts", options, should_stop=after(steps - 1))
    else:
        train(records, tmp_path / "parts", options, should_stop=after(steps - 1))
    assert load_checkpoint(tmp_path / "parts" / CHECKPOINT)["step"] == steps
    train(records, tmp_path / "parts", options)
    require_equal_states(whole.folder, tmp_path / "parts")
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "images_per_second")
    for line, row in zip(lines, whole.rows, strict=True):
        found = json.loads(line)
        assert {k: v for k, v in found.items() if k not in timed} == pytest.approx(
            {k: v for k, v in row.items() if k not in timed}, rel=1e-12
        )
    # The card has the time it was made; all weights are the same.
    folders = (whole.folder, tmp_path / "parts")
    best = [load_generator(folder / "generator.safetensors") for folder in folders]
    for name, value in best[0].network.state_dict().items():
        assert torch.equal(value, best[1].network.state_dict()[name])


def test_finished_run_is_not_trained_again(records: list[ImageRecord], tmp_path: Path) -> None:
    assert len(train(records, tmp_path, tiny())) == 2
    before = (tmp_path / CHECKPOINT).read_bytes()
    assert train(records, tmp_path, tiny()) == []
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_run_leaves_grids_and_a_card(records: list[ImageRecord], tmp_path: Path) -> None:
    options = tiny(labels="covid,normal", conditional=True)
    train(records, tmp_path, options)
    grids = sorted((tmp_path / "samples").glob("*.png"))
    assert [grid.name for grid in grids] == ["0000002.png", "0000004.png"]
    with Image.open(grids[0]) as grid:
        assert (grid.size, grid.mode) == ((8 * SIDE, 8 * SIDE), "L")
    card = load_generator(tmp_path / "generator.safetensors").card
    assert card.options == options
    assert card.images == dict.fromkeys(("covid", "normal"), IMAGES_OF_SPLIT[Split.TRAIN])
    assert card.metrics.features.startswith("pixels")


def test_budget_ends_the_run_with_a_tick(records: list[ImageRecord], tmp_path: Path) -> None:
    rows = train(
        records, tmp_path, tiny(steps=1000, evaluation_interval=1000), budget_minutes=0.001
    )
    assert len(rows) == 1
    assert rows[0]["step"] < 1000
    assert (
        train(records, tmp_path, tiny(steps=1000, evaluation_interval=1000), budget_minutes=0.001)
        == []
    )


def test_patience_ends_the_run(records: list[ImageRecord], tmp_path: Path) -> None:
    # Steps of no size: no tick is better than the first.
    still = tiny(steps=40, generator_learning_rate=0.0, ema_images=0, patience=2)
    rows = train(records, tmp_path, still)
    assert len(rows) == 3


def test_run_that_is_asked_to_finish_early_evaluates_and_keeps_its_best(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    def ask(row: dict[str, float]) -> None:
        (tmp_path / FINISH_EARLY).touch()

    rows: list[dict[str, float]] = []
    options = tiny(steps=1000, evaluation_interval=2)
    for _ in range(2):
        # Called again, as after a crash, it ends as soon; the export follows.
        generator = train_gan(
            records,
            tmp_path,
            options,
            device=CPU,
            features=pixel_space(),
            on_tick=lambda row: (rows.append(row), ask(row))[0],
        )
        assert generator.exists()
    assert [row["step"] for row in rows] == [2, 3, 4]


def test_divergence_stops_the_run_and_keeps_the_last_good_state(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    wild = tiny(
        steps=400, evaluation_interval=1, generator_learning_rate=1e30, critic_learning_rate=1e30
    )
    with pytest.raises(XrayError, match=r"diverged by step .*smaller --generator-learning-rate"):
        train(records, tmp_path, wild)
    if (tmp_path / CHECKPOINT).exists():
        state = load_checkpoint(tmp_path / CHECKPOINT)
        assert all(torch.isfinite(value).all() for value in state["critic"].values())


def test_collapse_stops_the_run_with_its_reason(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spreads = iter([0.9, 0.05, 0.5, 0.05, 0.04, 0.03])
    monkeypatch.setattr("ml.gan.monitor.diversity", lambda _samples, _real: next(spreads))
    with pytest.raises(
        XrayError, match=r"collapsed: at step 12 .* 0\.030 .* 3 evaluations in a row"
    ):
        train(records, tmp_path, tiny(steps=40, min_diversity=0.1))
    assert load_checkpoint(tmp_path / CHECKPOINT)["step"] == 10
    assert (tmp_path / "generator.safetensors").exists()


def test_other_options_or_images_are_not_resumed(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    train(records, tmp_path, tiny())
    with pytest.raises(CheckpointError, match=r"other options \(network, penalty\)"):
        train(records, tmp_path, tiny(network="resnet", penalty=1.0))
    learned = next(r for r in in_split(records, Split.TRAIN) if r.label == "covid")
    with pytest.raises(CheckpointError, match="images of the data set"):
        train([record for record in records if record != learned], tmp_path, tiny())


def test_run_that_never_began_leaves_its_folder_free(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        train(records, tmp_path, tiny(batch_size=32))
    (tmp_path / "generator.safetensors").write_bytes(b"of another run")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match="before its first evaluation"):
        train(records[1:], tmp_path, tiny(), should_stop=after(0))
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert len(train(records[1:], tmp_path, tiny())) == 2


def test_checkpoint_of_another_network_is_refused(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    train(records, tmp_path / "one", tiny())
    train(records, tmp_path / "two", tiny(network="resnet"))
    (tmp_path / "one" / CHECKPOINT).write_bytes((tmp_path / "two" / CHECKPOINT).read_bytes())
    (tmp_path / "one" / "metrics.jsonl").unlink()
    with pytest.raises(CheckpointError, match="another network or version"):
        train(records, tmp_path / "one", tiny())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "covid,Flu"}, "'Flu' is not the name of a class"),
        ({"labels": ""}, "No class is named"),
        ({"labels": "covid,covid"}, "named twice"),
        ({"size": 8}, "size: Expected a whole number from 16 to 512, got 8."),
        ({"size": 48, "network": "resnet"}, "16, 32, 64, 128, 256 or 512 px, not 48"),
        ({"network": "vit"}, "network: Expected one of mlp, report, resnet, projected, got 'vit'."),
        (
            {"critic_norm": True, "network": "mlp", "objective": "gan"},
            "mlp has no batch norm. Give --no-critic-norm",
        ),
        ({"optimizer": "sgd"}, "optimizer: Expected one of adam, rmsprop, got 'sgd'."),
        ({"precision": "int8"}, "precision: Expected one of float32, bfloat16"),
        ({"dropout": 1.0}, "dropout: Expected a number from 0 to 0.9, got 1.0."),
        ({"batch_std": True, "batch_size": 6}, "multiple of 4"),
        ({"penalty": float("nan")}, "penalty: Expected a number of 0 or more, got nan."),
    ],
)
def test_impossible_options_are_refused_before_anything_is_written(
    records: list[ImageRecord], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(XrayError, match=message):
        train(records, tmp_path / "run", tiny(**changes))
    assert not (tmp_path / "run").exists()


def test_too_few_images_are_refused(records: list[ImageRecord], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A batch of 32 needs .* only 12 images"):
        train(records, tmp_path / "a", tiny(batch_size=32))
    few = [*in_split(records, Split.TRAIN), *in_split(records, Split.VALIDATION)[:2]]
    with pytest.raises(DataError, match=r"validation split has .* and KID needs at least 4"):
        train(few, tmp_path / "b", tiny())
    with pytest.raises(DataError, match="no image of pneumonia"):
        train(records, tmp_path / "c", tiny(labels="covid,pneumonia"))


def test_images_smaller_than_the_run_are_left_out(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    # The images are 72 px wide: none is left, and none is enlarged.
    with pytest.raises(DataError, match=r"only 0 images"):
        train(records, tmp_path, tiny(size=128))


@pytest.fixture(scope="module")
def trained(records: list[ImageRecord], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a trained generator."""
    out = tmp_path_factory.mktemp("trained")
    return train_gan(records, out, tiny(), device=CPU, features=pixel_space()).read_bytes()


@pytest.fixture
def path(trained: bytes, tmp_path: Path) -> Path:
    """A copy of it, for a test to damage."""
    path = tmp_path / "generator.safetensors"
    path.write_bytes(trained)
    return path


def test_damaged_generator_files_are_refused(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    for damaged in (b"", content[:50], content[:-10], b"\x00" * 200):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="generator"):
            load_generator(path)
    with pytest.raises(CheckpointError, match="no generator at"):
        load_generator(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "../../escaped"},
        {"size": "big"},
        {"size": 2_000_000},
        {"latent": 10**9},
        {"width": 10**6, "network": "resnet"},
        {"labels": 3},
        {"conditional": 1},
    ],
    ids=str,
)
def test_hostile_cards_are_refused(path: Path, changes: dict[str, object]) -> None:
    loaded = load_generator(path)
    card = json.loads(loaded.card.to_json())
    card["options"] |= changes
    weights = {name: value.contiguous() for name, value in loaded.network.state_dict().items()}
    path.write_bytes(safetensors.save(weights, metadata={"card": json.dumps(card)}))
    with pytest.raises(CheckpointError, match="is not a generator of"):
        load_generator(path)


def test_card_of_another_network_than_the_weights_is_refused(path: Path) -> None:
    loaded = load_generator(path)
    card = json.loads(loaded.card.to_json())
    card["options"] |= {"network": "resnet", "width": 256}
    weights = {name: value.contiguous() for name, value in loaded.network.state_dict().items()}
    path.write_bytes(safetensors.save(weights, metadata={"card": json.dumps(card)}))
    with pytest.raises(CheckpointError, match="does not contain the weights of its card"):
        load_generator(path)


def test_sample_does_not_depend_on_its_batch(path: Path) -> None:
    loaded = load_generator(path)
    alone = sample_images(loaded.network, [7], 0, length=8)
    among = sample_images(loaded.network, range(12), 0, length=8, batch_size=5)
    assert np.abs(alone[0].astype(int) - among[7]).max() <= 1


def test_grid_fills_rows_and_leaves_the_rest_black() -> None:
    images = np.arange(1, 4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    grid = grid_of(images, 2)
    assert grid.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]]


def test_conditional_generator_makes_other_images_of_another_class(
    records: list[ImageRecord], tmp_path: Path
) -> None:
    options = tiny(labels="covid,normal", conditional=True)
    path = train_gan(records, tmp_path, options, device=CPU, features=pixel_space())
    network = load_generator(path).network
    latents = latents_of([1, 1], options.latent)
    one, other = images_of_latents(network, latents, [0, 1])
    assert not np.array_equal(one, other)
