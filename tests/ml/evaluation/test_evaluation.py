"""The evaluation: metrics against scikit-learn, charts, the report, a source left out."""

import csv
import json
import re
import shutil
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torch import nn
from typer.testing import CliRunner

from ml.classifier import networks
from ml.classifier.bundle import CARD, PRETRAINED, read_bundle
from ml.classifier.networks import Backbone
from ml.classifier.trained_run import load_run
from ml.classifier.training import ClassifierOptions, train_classifier
from ml.commands.main import app
from ml.data.manifest import ImageRecord, read_manifest
from ml.data.splits import Split, split_of
from ml.errors import BundleError, CheckpointError, DataError, XrayError
from ml.evaluation import metrics
from ml.evaluation.evaluate import Predictions, left_out_images, metrics_of, roc_curves
from ml.evaluation.results import ClassifierEvaluation
from ml.labels import LABELS
from ml.reporting import charts
from ml.reporting.classifier_report import describe, read_training_rows, render_report
from tests.ml.data.test_near_duplicates import textured_image
from tests.support.images import png

CPU = torch.device("cpu")
VOID = {"meta", "link", "img", "br", "hr", "input", "source"}
ROWS = [
    {"epoch": 1, "train_loss": 0.9, "validation_loss": 0.8, "validation_accuracy": 0.5},
    {"epoch": 2, "train_loss": 0.7, "validation_loss": 0.75, "validation_accuracy": 0.6,
     "train_accuracy": 0.7},
]  # fmt: skip


def answers_of(count: int, *, seed: int = 3, skill: float = 1.2) -> Predictions:
    random = np.random.default_rng(seed)
    truth = random.integers(3, size=count)
    logits = random.normal(size=(count, 3)) + skill * np.eye(3)[truth]
    probabilities = metrics.softmax(logits)
    return Predictions(
        labels=LABELS,
        truth=truth,
        probabilities=probabilities,
        uncertain=probabilities.max(axis=1) < 0.6,
        out_of_distribution=random.random(count) < 0.05,
        patients=np.array([f"p{number // 2}" for number in range(count)]),
        sources=np.array(["north", "south"])[random.integers(2, size=count)],
    )


@pytest.fixture(scope="module")
def answers() -> Predictions:
    return answers_of(160)


def test_metrics_equal_scikit_learn(answers: Predictions) -> None:
    scores = metrics_of(answers)
    predicted = answers.probabilities.argmax(axis=1)
    assert scores.accuracy.value == reference.accuracy_score(answers.truth, predicted)
    assert scores.macro_auroc.value == pytest.approx(
        reference.roc_auc_score(answers.truth, answers.probabilities, multi_class="ovr")
    )
    columns = reference.precision_recall_fscore_support(answers.truth, predicted)
    for k, label in enumerate(LABELS):
        own = scores.per_class[label]
        expected = [column[k] for column in columns]
        assert [own.precision, own.recall, own.f1, own.support] == pytest.approx(expected)
        assert own.auroc == pytest.approx(
            reference.roc_auc_score(answers.truth == k, answers.probabilities[:, k])
        )
    answered = ~answers.uncertain
    assert scores.selective.coverage == answered.mean()
    assert scores.selective.accuracy_when_answering == reference.accuracy_score(
        answers.truth[answered], predicted[answered]
    )


def test_every_metric_lies_in_its_interval(answers: Predictions) -> None:
    scores = metrics_of(answers)
    entries = [*scores.per_class.values(), scores.selective]
    intervals = [scores.accuracy, scores.macro_auroc] + [
        value for entry in entries for key, value in entry if key.endswith("_interval")
    ]
    assert len(intervals) == 2 + 3 * 4 + 4
    assert all(one.low < one.value < one.high for one in intervals)


def test_shared_draws_give_the_interval_of_a_single_metric(answers: Predictions) -> None:
    alone = metrics.bootstrap(
        metrics.accuracy, answers.truth, answers.probabilities, answers.patients
    )
    assert metrics_of(answers).accuracy == alone


def test_roc_curve_is_that_of_scikit_learn(answers: Predictions) -> None:
    rounded = replace(answers, probabilities=answers.probabilities.round(1))  # many ties
    for one in (answers, rounded):
        for k, label in enumerate(LABELS):
            x, y = zip(*roc_curves(one)[label], strict=True)
            score = one.probabilities[:, k]
            expected = reference.roc_curve(one.truth == k, score, drop_intermediate=True)
            assert reference.auc(x, y) == pytest.approx(metrics.auroc(one.truth == k, score))
            assert {(0.0, 0.0), (1.0, 1.0)} <= set(zip(x, y, strict=True))
            assert {(round(a, 9), round(b, 9)) for a, b in zip(x, y, strict=True)} <= {
                (round(a, 9), round(b, 9)) for a, b in zip(*expected[:2], strict=True)
            }


def test_images_of_one_class_give_what_can_be_said() -> None:
    answers = answers_of(60)
    covid = replace(answers, truth=np.zeros(60, dtype=np.int64))
    scores = metrics_of(covid)
    assert np.isnan(scores.per_class["normal"].recall)
    assert scores.accuracy.value == scores.per_class["covid"].recall
    assert scores.within_source == []
    assert roc_curves(covid) == {}
    card, _ = read_bundle(PRETRAINED)
    html = render_report(describe(card, records_of(60), covid, scores, []))
    assert "not defined" in html
    assert ">nan" not in html


def records_of(count: int) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{n}.png"), LABELS[n % 3], "north", f"p{n}") for n in range(count)]


@pytest.fixture(scope="module")
def html(answers: Predictions) -> str:
    card, _ = read_bundle(PRETRAINED)
    return render_report(describe(card, records_of(160), answers, metrics_of(answers), ROWS))


class Page(HTMLParser):
    """Checks that elements nest and collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.charts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "svg":
            self.charts.append(str(dict(attrs)["aria-label"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()


def test_report_is_one_file_that_needs_nothing(html: str) -> None:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "use"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {"src", "href", "xlink:href", "srcset"} & names
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import|//\w", html)


def test_report_shows_every_metric(html: str, answers: Predictions) -> None:
    page = Page()
    page.feed(html)
    shown = " | ".join(page.charts)
    for chart in ("Confusion", "ROC", "Calibration", "Accuracy over", "Loss over"):
        assert chart in shown
    scores = metrics_of(answers)
    entries = [*scores.per_class.values(), scores.selective]
    intervals = [scores.accuracy, scores.macro_auroc, scores.calibration_error_interval]
    intervals += [row.auroc for row in scores.within_source]
    intervals += [value for entry in entries for key, value in entry if key.endswith("_interval")]
    for one in intervals:
        assert f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" in html
    assert len(scores.within_source) == 6
    assert read_bundle(PRETRAINED)[0].sha256 in html


def test_names_in_the_report_are_text(answers: Predictions) -> None:
    card = read_bundle(PRETRAINED)[0].model_copy(update={"version": "<script>alert(1)</script>"})
    hostile = replace(answers, sources=np.full(160, '"><script>'))
    html = render_report(describe(card, records_of(160), hostile, metrics_of(hostile), []))
    assert "<script" not in html
    assert "<script" not in charts.roc_chart({"<script>": [(0, 0), (1, 1)]}, title='"><script>')


def test_line_chart_of_a_single_epoch_is_drawn() -> None:
    chart = charts.line_chart({"loss": [(1, 0.5)]}, title="t", x_label="x", y_label="y")
    assert chart.count("<circle") == 1
    assert "nan" not in chart


def run_folder(folder: Path, **changes: object) -> Path:
    """A folder as the training of the released classifier leaves it."""
    options = asdict(read_bundle(PRETRAINED)[0].options) | changes
    (folder / "options.json").write_text(json.dumps({"options": options}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def test_curves_of_another_run_are_refused(tmp_path: Path) -> None:
    card, _ = read_bundle(PRETRAINED)
    with pytest.raises(CheckpointError, match="no training run"):
        read_training_rows(tmp_path, card)
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "options.json").write_text('{"epochs": 3}')
    with pytest.raises(CheckpointError, match="another version"):
        read_training_rows(tmp_path, card)
    with pytest.raises(CheckpointError, match="differ in seed"):
        read_training_rows(run_folder(tmp_path, seed=99), card)
    assert read_training_rows(run_folder(tmp_path), card) == ROWS


def patient_in(part: Split, number: int) -> str:
    """A patient key of this split."""
    tries = (f"{number}-{attempt}" for attempt in range(10_000))
    return next(key for key in tries if split_of(key) is part)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two sources with every class in every split."""
    root = tmp_path_factory.mktemp("data")
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "source", "patient"])
        for number in range(54):
            part, source = tuple(Split)[number // 3 % 3], ("north", "south")[number % 2]
            (root / f"{number}.png").write_bytes(png(textured_image(number)))
            row = [f"{number}.png", LABELS[number % 3], source, patient_in(part, number)]
            writer.writerow(row)
    return root


def left_out_bundle(folder: Path, source: str) -> Path:
    """The released bundle, but with a card that says it never saw this source."""
    shutil.copytree(PRETRAINED, folder)
    card, _ = read_bundle(PRETRAINED)
    options = replace(card.options, leave_out=source)
    changed = card.model_copy(update={"options": options})
    (folder / CARD).write_text(changed.to_json(), encoding="utf-8")
    return folder


def xray(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_command_writes_metrics_and_report(folder: Path, tmp_path: Path) -> None:
    run, out = run_folder(tmp_path), tmp_path / "out"
    shown = xray("evaluate", "classifier", "--data", folder, "--out", out, "--run", run)
    assert "macro AUROC" in shown
    found = json.loads((out / "metrics.json").read_text())
    card, _ = read_bundle(PRETRAINED)
    assert found["model"]["sha256"] == card.sha256
    assert found["seed"] == 0
    assert found["training"] == ROWS
    assert sum(sum(own.values()) for own in found["data"].values()) == found["metrics"]["images"]
    evaluation = ClassifierEvaluation.from_values(found)
    assert (out / "report.html").read_text() == render_report(evaluation)


def test_all_images_of_the_source_that_was_left_out_are_measured(
    folder: Path, tmp_path: Path
) -> None:
    bundle, out = left_out_bundle(tmp_path / "bundle", "south"), tmp_path / "out"
    xray(
        "evaluate", "classifier", "--data", folder, "--bundle", bundle,
        "--leave-out", "south", "--out", out,
    )  # fmt: skip
    found = json.loads((out / "metrics.json").read_text())
    assert found["data"] == {"south": dict.fromkeys(LABELS, 9)}
    pairs = [(row["positive"], row["negative"]) for row in found["metrics"]["within_source"]]
    assert pairs == [("covid", "pneumonia"), ("covid", "normal"), ("pneumonia", "normal")]
    assert "All images of the source south" in (out / "report.html").read_text()


def test_bundle_that_learned_from_the_source_is_refused() -> None:
    card, _ = read_bundle(PRETRAINED)
    images = records_of(6)
    with pytest.raises(BundleError, match="trained on all sites"):
        left_out_images(card, images, "north")
    other = card.model_copy(update={"options": replace(card.options, leave_out="south")})
    with pytest.raises(BundleError, match="trained without south"):
        left_out_images(other, images, "north")
    with pytest.raises(DataError, match="No image is from 'south'"):
        left_out_images(other, images, "south")
    sites = [replace(image, source="north", site="south") for image in images]
    options = replace(card.options, leave_out="south,west")
    both = card.model_copy(update={"options": options, "format": 2})
    assert left_out_images(both, sites, "south") == sites
    with pytest.raises(BundleError, match="trained without south,west"):
        left_out_images(both, sites, "south,north")


def test_bundle_of_the_first_format_left_out_a_source_and_no_site() -> None:
    card, _ = read_bundle(PRETRAINED)
    options = replace(card.options, leave_out="south")
    old = card.model_copy(update={"options": options, "format": 1})
    site = [replace(image, source="north", site="south") for image in records_of(3)]
    source = [replace(image, source="south", site="south") for image in records_of(3)]
    assert left_out_images(old, [*site, *source], "south") == source


def test_curves_without_a_report_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="--out"):
        xray("evaluate", "classifier", "--data", folder, "--run", tmp_path)


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_pretrained: bool) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.ReLU())

    monkeypatch.setitem(networks.BACKBONES, "report-cnn", Backbone(build, features=4, size=32))


def test_run_never_opens_a_image_of_the_source_that_is_left_out(
    tiny_network: None, folder: Path, tmp_path: Path
) -> None:
    records = [
        # An image that is opened and not there ends the run.
        replace(record, path=tmp_path / "gone.png") if record.source == "south" else record
        for record in read_manifest(folder)
    ]
    options = ClassifierOptions(network="report-cnn", epochs=1, small_epochs=0, leave_out="south")
    train_classifier(records, tmp_path / "run", options, device=CPU)
    assert load_run(tmp_path / "run")[1].leave_out == "south"
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert 0 <= row["train_accuracy"] <= 1
    everything = replace(options, leave_out="")
    with pytest.raises(CheckpointError, match="leave_out"):
        train_classifier(records, tmp_path / "run", everything, device=CPU)


def test_unknown_hospital_from_training_to_metrics(
    tiny_network: None, folder: Path, tmp_path: Path
) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    without = ("--leave-out", "south")
    tiny = ("--network", "report-cnn", "--epochs", 1, "--small-epochs", 0)
    xray("train", "classifier", "--data", folder, "--out", run, *tiny, *without)
    xray("export", "classifier", "--data", folder, "--run", run, "--out", bundle)
    card, _ = read_bundle(bundle)
    assert card.options.leave_out == "south"
    assert {source for part in card.data.by_source.values() for source in part} == {"north"}
    shown = xray("evaluate", "classifier", "--data", folder, "--bundle", bundle, *without)
    assert "AUROC in south: covid against normal" in shown


def test_run_that_is_older_than_an_option_resumes(
    tiny_network: None, folder: Path, tmp_path: Path
) -> None:
    records = read_manifest(folder)
    options = ClassifierOptions(network="report-cnn", epochs=2, small_epochs=0)
    whole = train_classifier(records, tmp_path / "whole", options, device=CPU)

    run, epochs = tmp_path / "run", list[float]()

    def note(row: dict[str, float]) -> None:
        epochs.append(row["epoch"])

    train_classifier(
        records, run, options, device=CPU, on_tick=note, should_stop=lambda: bool(epochs)
    )
    assert epochs == [1]
    written = json.loads((run / "options.json").read_text())
    del written["options"]["leave_out"]
    (run / "options.json").write_text(json.dumps(written))
    resumed = train_classifier(records, run, options, device=CPU, on_tick=note)
    assert epochs == [1, 2]
    weights = resumed.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in whole.state_dict().items())
