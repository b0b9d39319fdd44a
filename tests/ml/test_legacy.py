"""Files of version 0.1.0 are read under today's names."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ml.data.manifest import ImageRecord
from ml.errors import CheckpointError
from ml.legacy import RENAMED_KEYS, rename_keys
from ml.options.gan import GanOptions
from ml.training.run_folder import CHECKPOINT, OPTIONS, claim_folder

IMAGES = [ImageRecord(Path("a.png"), "covid", "one", "p1")]


def begun_by_0_1_0(folder: Path, options: GanOptions) -> None:
    """A run's folder as 0.1.0 left it: a checkpoint, and its options under their old names."""
    claim_folder(folder, options, IMAGES)
    (folder / CHECKPOINT).touch()
    old = {new: old for old, new in RENAMED_KEYS.items()}
    record = json.loads((folder / OPTIONS).read_text())
    record["options"] = {old.get(key, key): value for key, value in record["options"].items()}
    assert "tick_steps" in record["options"]
    (folder / OPTIONS).write_text(json.dumps(record))


def test_run_begun_by_0_1_0_resumes_with_the_same_options_only(tmp_path: Path) -> None:
    options = GanOptions(evaluation_interval=7, generator_learning_rate=3e-4, min_diversity=0.2)
    begun_by_0_1_0(tmp_path, options)
    claim_folder(tmp_path, options, IMAGES)
    with pytest.raises(CheckpointError, match=r"other options \(generator_learning_rate\)"):
        claim_folder(tmp_path, GanOptions(evaluation_interval=7, min_diversity=0.2), IMAGES)


def test_keys_are_renamed_at_every_depth() -> None:
    old = {"films": 3, "rows": [{"novelty": 0.5}], "kind": "films"}
    assert rename_keys(old) == {"images": 3, "rows": [{"ood_score": 0.5}], "kind": "films"}
    assert GanOptions(**rename_keys({"critic_rate": 1e-3})).critic_learning_rate == 1e-3
    assert asdict(GanOptions()).keys().isdisjoint(RENAMED_KEYS)
