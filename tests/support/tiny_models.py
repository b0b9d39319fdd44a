"""Models small enough to be written in a moment: bundles that answer at will, and a generator."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.database import Database
from app.migrations import upgrade
from app.registry import files, registration
from app.settings import Settings
from ml.classifier.bundle import CARD, GRAPH, PRETRAINED, RULE_KEY, read_card
from ml.classifier.card import ModelCard, Thresholds
from ml.evaluation.audit_result import AUDIT, BOUNDS, AuditResult, AuditRow
from ml.evaluation.metrics import Interval
from ml.labels import LABELS
from ml.legacy import rename_keys
from ml.model_check import load_classifier, try_generator
from tests.conftest import leave_out
from tests.support.images import png
from tests.support.postgres import fresh_database

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="module", autouse=True)
def models_checked_here() -> Iterator[None]:
    """Try new models in this process: a child would start for each of a file's many models.

    `tests/app/registry/test_model_check.py` is about the child. Import this fixture to use it.
    """
    patch = pytest.MonkeyPatch()
    tries = {"classifier": load_classifier, "generator": try_generator}
    for module in (registration, files):
        patch.setattr(module, "check_in_child", lambda kind, folder: tries[kind](folder))
    yield
    patch.undo()


@contextmanager
def own_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database with its tables, in which no other test puts anything active."""
    if kind == "sqlite":
        url: str | None = f"sqlite:///{folder / 'own.db'}"
        _upgrade(str(url))
        yield str(url)
        return
    with fresh_database() as url:
        if url is None:
            leave_out("no PostgreSQL server here, and none that could be started")
        _upgrade(str(url))
        yield str(url)


def _upgrade(url: str) -> None:
    database = Database(url)
    upgrade(database.engine)
    database.close()


def settings_for(url: str, home: Path, **given: Any) -> Settings:
    """Settings of a separate application."""
    return Settings(
        _env_file=None,
        home=home,
        database_url=url,
        decoder_workers=2,
        decode_timeout_s=20,
        **given,
    )


def write_classifier(
    folder: Path,
    *,
    version: str,
    answer: str,
    size: int = 32,
    synthetic: Mapping[str, Mapping[str, int]] | None = None,
    audited: bool = True,
    **changed: Any,
) -> ModelCard:
    """Write a bundle that calls every image the same.

    Args:
        folder: it is made.
        version: of the card.
        answer: the label.
        size: side of its images in pixels.
        synthetic: as in a card's data.
        audited: whether an audit that it passes lies beside it.
        changed: further fields of the card.
    """
    released = read_card(PRETRAINED)
    card = released.model_copy(
        update={
            "version": version,
            "input_size": size,
            "temperature": 1.0,
            "network": "tiny",
            "parameters": 3,
            "thresholds": Thresholds(confidence=0.8, ood_score=1.5, target_accuracy=0.95),
            "data": released.data.model_copy(
                update={"synthetic": {key: dict(one) for key, one in (synthetic or {}).items()}}
            ),
            **changed,
        }
    )
    graph = _graph(card, answer).SerializeToString()
    card = card.model_copy(update={"sha256": hashlib.sha256(graph).hexdigest()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).write_bytes(graph)
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    if audited:
        write_audit_of(folder, card)
    return card


def write_audit_of(folder: Path, card: ModelCard, **changed: Any) -> AuditResult:
    """Write an audit that a classifier passes.

    Args:
        folder: of its bundle.
        card: of the classifier.
        changed: fields of the audit.
    """
    rows = [
        AuditRow(
            check=check,
            metric=metric,
            subject="all sites",
            value=Interval(bound.limit, bound.limit, bound.limit, 100),
        )
        for (check, metric), bound in BOUNDS.items()
    ]
    result = AuditResult(
        version=card.version,
        sha256=card.sha256,
        created_at="2026-11-01T00:00:00+00:00",
        code_version=card.code_version,
        target="covid",
        healthy="normal",
        images={"north": dict.fromkeys(card.labels, 100)},
        patients=300,
        per_site=0,
        seed=0,
        draws=1000,
        without_lungs=0,
        has_stand_ins=False,
        rows=rows,
        unmeasured={},
        risk_coverage=[(0.5, 0.02), (1.0, 0.1)],
        curves={},
    ).model_copy(update=changed)
    (folder / AUDIT).write_text(result.to_json(), encoding="utf-8")
    return result


def _graph(card: ModelCard, answer: str) -> onnx.ModelProto:
    """Images (B, 1, S, S) -> logits, embedding (B, 1), activation map (B, C, 4, 4),
    out-of-distribution score (B,)."""
    side, classes = card.input_size, len(LABELS)
    bias = np.array([6.0 if label == answer else 0.0 for label in LABELS], np.float32)
    constants = {
        "nothing": np.zeros((1, classes), np.float32),
        "bias": bias,
        "zero": np.zeros(1, np.float32),
        "half": np.full(1, 0.5, np.float32),
    }
    pool = {"kernel_shape": [side // 4] * 2, "strides": [side // 4] * 2}
    nodes = [
        helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["grey"], ["cells"], **pool),
        helper.make_node("Concat", ["cells"] * classes, ["activation_map"], axis=1),
        helper.make_node("ReduceMean", ["grey"], ["embedding"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["embedding", "nothing"], ["flat"]),
        helper.make_node("Add", ["flat", "bias"], ["logits"]),
        helper.make_node("ReduceMean", ["grey"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["still"]),
        helper.make_node("Add", ["still", "half"], ["ood_score"]),
    ]
    shapes = {
        "logits": ["batch", classes],
        "embedding": ["batch", 1],
        "activation_map": ["batch", classes, 4, 4],
        "ood_score": ["batch"],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, side, side])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_version=card.version
    )
    model.ir_version = 8
    helper.set_model_props(model, {RULE_KEY: card.decision_rule()})
    return model


def write_generator(folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Write a released generator whose weights are noise and whose card is that of ours."""
    from ml.gan.onnx_generator import PRETRAINED as GENERATOR

    weights = np.random.default_rng(seed).bytes(1000)
    released: dict[str, Any] = rename_keys(
        json.loads((GENERATOR / CARD).read_text(encoding="utf-8"))
    )
    card = {key: value for key, value in released.items() if key != "graph_sha256"}
    card |= {"sha256": hashlib.sha256(weights).hexdigest(), "step": 1000 + seed}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generator.safetensors").write_bytes(weights)
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
    (folder / "samples.png").write_bytes(png(np.zeros((64, 64), np.uint8)))
    return card


def comparison_of(
    candidate: ModelCard, reference: ModelCard, *, faults: list[str] | None = None, changed: int = 0
) -> dict[str, Any]:
    """What `xray compare classifiers` writes of two bundles."""
    sides = {
        name: {"sha256": card.sha256, "version": card.version, "metrics": card.as_json()["metrics"]}
        for name, card in (("candidate", candidate), ("reference", reference))
    }
    return {
        **sides,
        "images": 757,
        "patients": 635,
        "differences": {
            "accuracy": {"value": 0.012, "low": -0.004, "high": 0.027, "n": 757},
            "macro_auroc": {"value": -0.001, "low": -0.006, "high": 0.004, "n": 757},
        },
        "card_reproduced": True,
        "card_faults": [],
        "passed": not faults,
        "faults": faults or [],
        "changed": [
            {
                "image": f"images/{number}.png",
                "label": "covid",
                "candidate": {"label": "covid", "decision": "covid", "probability": 0.91},
                "reference": {"label": "normal", "decision": "uncertain", "probability": 0.55},
            }
            for number in range(changed)
        ],
    }


def write_comparison(folder: Path, found: Mapping[str, Any]) -> Path:
    """Write a comparison as its program does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    return folder
