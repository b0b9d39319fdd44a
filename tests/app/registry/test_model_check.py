"""Models of strangers: none reads a file, hangs the server or takes its memory."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.database import Database
from app.registry import model_check
from app.registry.model_check import check_in_child
from app.registry.registration import register_classifier
from app.registry.tables import ModelVersion
from app.settings import Settings
from ml.classifier.bundle import CARD, GRAPH
from ml.errors import BundleError
from tests.support.tiny_models import own_database, settings_for, write_classifier

SECRET = b"\x41\x42\x43\x44" * 4


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with own_database("sqlite", tmp_path) as url:
        yield settings_for(url, tmp_path / "home")


def hostile_bundle(folder: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    """A bundle whose graph was changed, with a card that fits."""
    card = write_classifier(folder, version="hostile", answer="normal")
    model = onnx.load_from_string((folder / GRAPH).read_bytes())
    change(model.graph)
    graph = model.SerializeToString()
    card = card.model_copy(update={"sha256": hashlib.sha256(graph).hexdigest()})
    (folder / GRAPH).write_bytes(graph)
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    return folder


def refuse(settings: Settings, bundle: Path, match: str) -> None:
    database = Database(settings.effective_database_url)
    try:
        with database.session() as session:
            with pytest.raises(BundleError, match=match):
                register_classifier(session, settings, bundle, run=None, by="test")
            assert session.query(ModelVersion).count() == 0
    finally:
        database.close()
    # Nothing of it is kept.
    assert not list(settings.home_folder.models.glob("*"))


def read_a_file(graph: onnx.GraphProto) -> None:
    """Have the out-of-distribution score come from a file beside the program."""
    del graph.initializer[:]
    tensor = TensorProto(name="half", dims=[1], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.key")
    graph.initializer.append(tensor)


def test_bundle_that_reads_a_file_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.key").write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    bundle = hostile_bundle(tmp_path / "bundle", read_a_file)
    refuse(settings, bundle, "weights in other files")


def never_end(graph: onnx.GraphProto) -> None:
    """Put a loop of nearly endless turns before the score."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["state", "state"], ["next"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, None),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    turns = numpy_helper.from_array(np.array(2**62, np.int64), "turns")
    always = numpy_helper.from_array(np.array(True), "always")
    graph.initializer.extend([turns, always])
    loop = helper.make_node("Loop", ["turns", "always", "still"], ["looped"], body=body)
    last = graph.node.pop()
    graph.node.append(loop)
    graph.node.append(helper.make_node("Add", ["looped", "half"], list(last.output)))


def test_endless_graph_is_given_up(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_check, "LONGEST_S", 6.0)
    bundle = hostile_bundle(tmp_path / "bundle", never_end)
    refuse(settings, bundle, "does not answer within 6 seconds")


def take_all_memory(graph: onnx.GraphProto) -> None:
    shape = numpy_helper.from_array(np.array([2**33], np.int64), "huge")
    graph.initializer.append(shape)
    last = graph.node.pop()
    one = numpy_helper.from_array(np.ones(1, np.float32))
    graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["filled"], value=one))
    graph.node.append(helper.make_node("ReduceMean", ["filled"], ["mean_of_it"], keepdims=1))
    graph.node.append(helper.make_node("Add", ["still", "mean_of_it"], list(last.output)))


def test_graph_that_takes_all_memory_is_refused(settings: Settings, tmp_path: Path) -> None:
    bundle = hostile_bundle(tmp_path / "bundle", take_all_memory)
    refuse(settings, bundle, r"cannot be run|crashes or needs too much memory")


def test_reason_of_the_child_is_passed_on(tmp_path: Path) -> None:
    write_classifier(tmp_path / "bundle", version="large", answer="normal", size=2048)
    with pytest.raises(BundleError, match="2048 px"):
        check_in_child("classifier", tmp_path / "bundle")


def test_modules_in_a_bundle_are_not_imported(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    write_classifier(bundle, version="good", answer="normal")
    (bundle / "numpy.py").write_text("raise SystemExit('imported')")
    check_in_child("classifier", bundle)
