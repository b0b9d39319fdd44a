"""The audit of a classifier: what it does to images, what it measures, how it is judged."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ml.classifier.bundle import GRAPH, PRETRAINED
from ml.data.splits import Split
from ml.errors import BundleError
from ml.evaluation import audit_images
from ml.evaluation.audit_heatmaps import random_weights
from ml.evaluation.audit_images import AuditImages, find_markers
from ml.evaluation.audit_result import (
    AUDIT,
    BOUNDED,
    AuditCheck,
    AuditMetric,
    AuditResult,
    AuditRow,
    read_audit,
)
from ml.evaluation.metrics import Interval
from ml.evaluation.site_probe import probe_sites
from ml.imaging.heatmap import share_inside
from ml.reporting.audit_report import PICTURE, audit_chart
from tests.support.classifier_world import write_data, xray
from tests.support.tiny_models import write_audit_of, write_classifier

SIDE = 64


def pair() -> AuditImages:
    """Two images of different classes and sites, lungs in the middle, a letter in the second."""
    random = np.random.default_rng(0)
    images = random.integers(60, 120, (2, SIDE, SIDE)).astype(np.uint8)
    images[1] = np.sort(images[1], axis=None).reshape(SIDE, SIDE) // 2 + 100
    markers = np.zeros(images.shape, np.bool_)
    markers[1, 2:6, 2:6] = True
    images[1, 2:6, 2:6] = 255
    lungs = np.zeros(images.shape, np.bool_)
    lungs[:, 20:40, 20:40] = True
    return AuditImages(
        images=images,
        labels=np.array(["covid", "normal"]),
        sites=np.array(["here", "there"]),
        lungs=lungs,
        boxes=lungs,
        has_lungs=np.array([True, True]),
        markers=markers,
    )


def test_lungs_and_their_surroundings_are_blacked_out() -> None:
    given = pair()
    assert not audit_images.black_lungs(given).images[given.lungs].any()
    assert audit_images.black_lungs(given).images[~given.lungs].any()
    assert not audit_images.lungs_only(given).images[~given.lungs].any()
    assert not audit_images.border_only(given).images[given.boxes].any()


def test_markers_move_to_images_of_another_class_and_are_filled() -> None:
    given, random = pair(), np.random.default_rng(0)
    pasted = audit_images.paste_markers(given, random)
    # The first image has no letter to give.
    assert pasted.applies.tolist() == [True, False]
    assert (pasted.images[0][given.markers[1]] == 255).all()
    removed = audit_images.remove_markers(given)
    assert removed.applies.tolist() == [False, True]
    assert removed.images[1][given.markers[1]].max() < 255


def test_appearance_of_another_site_is_borrowed() -> None:
    given, random = pair(), np.random.default_rng(0)
    grey = audit_images.borrow_grey_levels(given, random)
    # The order of the pixels stays, their levels are those of the other image.
    before, after = given.images[0].astype(int), grey.images[0].astype(int)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.5
    sharp = audit_images.borrow_sharpness(given, random)
    assert sharp.applies.all()
    detail = [np.abs(np.diff(image.astype(float))).mean() for image in (given.images[0],)]
    assert np.abs(np.diff(sharp.images[0].astype(float))).mean() != pytest.approx(detail[0])
    one_site = AuditImages(
        **{name: getattr(given, name) for name in given.__slots__ if name != "sites"},
        sites=np.array(["here", "here"]),
    )
    assert not audit_images.borrow_grey_levels(one_site, random).applies.any()


def test_a_letter_is_found_and_a_bright_shoulder_is_not() -> None:
    image, box = np.full((200, 200), 60, np.uint8), np.zeros((200, 200), np.bool_)
    image[8:16, 8:16] = 250
    assert find_markers(image, box)[10, 10]
    image[:60, :60] = 250
    image[60:, :30] = 0
    assert not find_markers(image, box)[30, 30]


def test_evidence_is_shared_between_region_and_rest() -> None:
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, :, :4] = 1
    region = np.zeros((8, 8), np.bool_)
    region[:, :4] = True
    assert share_inside(maps, 0, region) == pytest.approx(1)
    assert share_inside(maps, 0, ~region) == pytest.approx(0)
    assert np.isnan(share_inside(maps, 1, region))


def test_random_weights_are_those_of_the_graph_in_another_order() -> None:
    graph = (PRETRAINED / GRAPH).read_bytes()
    name = "network.backbone.conv_stem.weight"
    before, after = (
        next(
            numpy_helper.to_array(one)
            for one in onnx.load_from_string(each).graph.initializer
            if one.name == name
        )
        for each in (graph, random_weights(graph, np.random.default_rng(0)))
    )
    assert not np.array_equal(before, after)
    assert np.array_equal(np.sort(before, axis=None), np.sort(after, axis=None))


def test_site_is_found_in_an_embedding_that_has_it() -> None:
    random = np.random.default_rng(0)
    sites = np.array(["here", "there"] * 100)
    patients = np.array([str(n) for n in range(200)])
    blind = random.normal(size=(200, 5))
    subject, (images, value) = probe_sites(blind, sites, patients, 10) or ("", (sites == "", len))
    assert subject == "2 sites, chance 0.50"
    assert value(np.flatnonzero(images)) < 0.65
    telling = blind + 5 * (sites == "here")[:, None]
    found = probe_sites(telling, sites, patients, 10)
    assert found
    assert found[1][1](np.flatnonzero(found[1][0])) == pytest.approx(1)


def test_value_outside_of_its_bound_fails_and_nothing_measured_is_no_pass(tmp_path: Path) -> None:
    card = write_classifier(tmp_path, version="1", answer="normal")
    good = write_audit_of(tmp_path, card)
    assert good.passed
    assert audit_chart(good.rows).count("passed</text>") == len(good.rows)
    black = AuditRow(
        check=AuditCheck.LUNGS_BLACK,
        metric=AuditMetric.AUROC,
        subject="here, covid/normal",
        value=Interval(0.61, 0.5, 0.7, 100),
    )
    assert black.passed is False
    failing = good.model_copy(update={"rows": [*good.rows, black]})
    assert failing.failed == [black]
    assert not failing.passed
    assert set(good.model_copy(update={"rows": []}).missing) == set(BOUNDED)


def test_damaged_audit_or_one_of_another_classifier_is_refused(tmp_path: Path) -> None:
    card = write_classifier(tmp_path, version="1", answer="normal")
    (tmp_path / AUDIT).unlink()
    assert read_audit(tmp_path, card.sha256) is None
    write_audit_of(tmp_path, card)
    assert read_audit(tmp_path, card.sha256)
    with pytest.raises(BundleError, match="not of ffff"):
        read_audit(tmp_path, "f" * 64)
    (tmp_path / AUDIT).write_text("{}")
    with pytest.raises(BundleError, match="is missing"):
        read_audit(tmp_path, card.sha256)


def test_command_audits_any_bundle(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {Split.TEST: 48}, sources=("north", "south"))
    bundle = tmp_path / "bundle"
    card = write_classifier(bundle, version="7", answer="covid")
    done = xray("audit", "--data", data, "--bundle", bundle, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    result = AuditResult.from_json((tmp_path / "out" / AUDIT).read_text())
    assert result.sha256 == card.sha256
    assert result.images == {
        site: {"covid": 24, "pneumonia": 24, "normal": 24} for site in ("north", "south")
    }
    called = [row for row in result.rows if row.check is AuditCheck.HEALTHY_BY_SITE]
    # It calls everyone COVID-19.
    assert [row.value.value for row in called] == [1.0, 1.0]
    assert not result.passed
    assert "Audit: failed" in done.output
    assert (tmp_path / "out" / PICTURE).read_text().startswith("<svg")
    mirrored = [row for row in result.rows if row.check is AuditCheck.MIRRORED]
    assert [row.value.value for row in mirrored] == [0.0, 0.0]
