"""Audit a classifier: does it look at the lungs, or does it know the hospital?

Test images are changed in ways that leave the disease as it was, or remove it, and the classifier
is asked again. The bounds are in `ml.evaluation.audit_result`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ml.classifier.predictor import UNCERTAIN, Prediction, Predictor
from ml.data.loading import load_images
from ml.data.manifest import ImageRecord, in_split, is_demonstration, real_images
from ml.data.splits import Split
from ml.data.summary import age_band
from ml.errors import DataError
from ml.evaluation import audit_images
from ml.evaluation.audit_heatmaps import AuditedHeatMaps, HeatMapFindings, audit_heat_maps
from ml.evaluation.audit_images import AuditImages, Changed
from ml.evaluation.audit_result import AuditCheck, AuditMetric, AuditResult, AuditRow
from ml.evaluation.leave_site_out import HEALTHY, TARGET
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, Ints
from ml.evaluation.site_probe import probe_sites
from ml.evaluation.site_statistics import (
    Flags,
    Measure,
    SitePredictions,
    auroc_between,
    class_pairs,
    share_of,
    with_intervals,
)
from ml.imaging.lungs import LungSegmenter
from ml.options.audit import AuditOptions
from ml.version import code_version

BATCH = 32
# A group with fewer patients of a class is not measured.
LEAST_PATIENTS = 10
# Points of the risk-coverage curve.
CURVE_POINTS = 20
_Key = tuple[AuditCheck, AuditMetric, str]


@dataclass
class _Audit:
    """An audit while it is made.

    Attributes:
        given: the images.
        found: the predictions for them as they are.
        measures: what is to be computed, by check, metric and subject.
        unmeasured: check -> why there is nothing to compute.
    """

    predictor: Predictor
    given: AuditImages
    found: SitePredictions
    target: str
    healthy: str
    has_stand_ins: bool
    measures: dict[_Key, Measure] = field(default_factory=dict)
    unmeasured: dict[AuditCheck, str] = field(default_factory=dict)

    def predict(self, changed: Changed) -> SitePredictions:
        """Predictions for changed images; for those that are unchanged the ones there are."""
        places = np.flatnonzero(changed.applies)
        given = predict_all(self.predictor, changed.images[places])
        probabilities, definite = self.found.probabilities.copy(), self.found.definite.copy()
        for place, one in zip(places, given, strict=True):
            probabilities[place] = list(one.probabilities.values())
            definite[place] = one.decision != UNCERTAIN
        return replace(self.found, probabilities=probabilities, definite=definite)


def audit_classifier(
    predictor: Predictor, graph: bytes, records: Sequence[ImageRecord], options: AuditOptions
) -> AuditResult:
    """Audit a classifier on the test images of a data set.

    Args:
        predictor: the classifier.
        graph: its graph.
        records: images of the data set; those of the test split are used.
        options: how many images, and the random seed.

    Raises:
        DataError: there are no test images, or some of a class that the classifier does not know.
    """
    labels = predictor.card.labels
    chosen = sample_sites(in_split(real_images(records), Split.TEST), options)
    if not chosen:
        raise DataError(
            "The data set has no test image. About 15 % of the patients form the test split, so "
            "add images until it has some dozens of patients."
        )
    loaded = load_images(
        chosen, predictor.card.input_size, title="reading images", classes=labels, quiet=True
    )
    given = AuditImages.of(
        loaded.images,
        [image.label for image in loaded.records],
        [image.site for image in loaded.records],
        LungSegmenter.load(),
    )
    predictions = predict_all(predictor, given.images)
    healthy = HEALTHY if HEALTHY in labels else ""
    target = TARGET if TARGET in labels else next((x for x in labels if x != healthy), "")
    audit = _Audit(
        predictor,
        given,
        _as_arrays(predictor, loaded.records, predictions),
        target,
        healthy,
        is_demonstration(loaded.records),
    )
    random = np.random.default_rng(options.seed)
    _look_beside_the_lungs(audit)
    _change_appearance(audit, random)
    _measure_groups(audit, loaded.records)
    maps = audit_heat_maps(AuditedHeatMaps(predictor, graph, given, predictions), random)
    _add_heat_maps(audit, maps)
    _probe_sites(audit, predictions)
    return _finish(audit, options, maps)


def sample_sites(records: Sequence[ImageRecord], options: AuditOptions) -> list[ImageRecord]:
    """At most `options.per_site` images of each site, at random, in their order."""
    random = np.random.default_rng(options.seed)
    kept: list[int] = []
    for site in sorted({image.site for image in records}):
        own = [k for k, image in enumerate(records) if image.site == site]
        if options.per_site and len(own) > options.per_site:
            own = random.choice(own, options.per_site, replace=False).tolist()
        kept += own
    return [records[k] for k in sorted(kept)]


def predict_all(predictor: Predictor, images: NDArray[np.uint8]) -> list[Prediction]:
    """The predictions for (N, S, S) images."""
    return [
        prediction
        for start in range(0, len(images), BATCH)
        for prediction in predictor.predict_batch(images[start : start + BATCH])
    ]


def _as_arrays(
    predictor: Predictor, records: Sequence[ImageRecord], given: Sequence[Prediction]
) -> SitePredictions:
    return SitePredictions(
        labels=tuple(predictor.card.labels),
        truth=np.array([image.label for image in records]),
        sites=np.array([image.site for image in records]),
        patients=np.array([image.patient for image in records]),
        probabilities=np.array([list(one.probabilities.values()) for one in given]),
        definite=np.array([one.decision != UNCERTAIN for one in given]),
    )


def _probe_sites(audit: _Audit, predictions: Sequence[Prediction]) -> None:
    probe = probe_sites(
        np.stack([one.embedding for one in predictions]),
        audit.given.sites,
        audit.found.patients,
        LEAST_PATIENTS,
    )
    if probe:
        subject, accuracy = probe
        audit.measures[_key(AuditCheck.SITE_PROBE, AuditMetric.BALANCED_ACCURACY, subject)] = (
            accuracy
        )


def _key(check: AuditCheck, metric: AuditMetric, subject: str) -> _Key:
    return check, metric, subject


def _look_beside_the_lungs(audit: _Audit) -> None:
    """AUROC within a site: where knowing the hospital does not help."""
    pairs = [
        (site, *pair)
        for site in sorted(set(audit.found.sites.tolist()))
        for pair in class_pairs(_at(audit.found, site), LEAST_PATIENTS)
    ]
    checks: dict[AuditCheck, Callable[[AuditImages], Changed]] = {
        AuditCheck.LUNGS_BLACK: audit_images.black_lungs,
        AuditCheck.BORDER_ONLY: audit_images.border_only,
        AuditCheck.LUNGS_ONLY: audit_images.lungs_only,
    }
    if not pairs:
        reason = f"No site has two classes with {LEAST_PATIENTS} patients each in the test split."
        audit.unmeasured |= dict.fromkeys(checks, reason)
        return
    for site, positive, negative in pairs:
        whole = _within(audit.found, site, positive, negative, audit.given.has_lungs)
        subject = f"{site}, {positive}/{negative}"
        audit.measures[_key(AuditCheck.WHOLE_IMAGE, AuditMetric.AUROC, subject)] = whole
    for check, change in checks.items():
        changed = change(audit.given)
        after = audit.predict(changed)
        for site, positive, negative in pairs:
            subject = f"{site}, {positive}/{negative}"
            images, value = _within(after, site, positive, negative, changed.applies)
            own = audit.found.where(images)
            if min(own.patients_of(positive), own.patients_of(negative)) < LEAST_PATIENTS:
                continue
            audit.measures[_key(check, AuditMetric.AUROC, subject)] = images, value
            if check is AuditCheck.LUNGS_ONLY:
                before = _within(audit.found, site, positive, negative, changed.applies)[1]
                audit.measures[_key(check, AuditMetric.AUROC_LOST, subject)] = (
                    images,
                    _difference(before, value),
                )
        if not any(key[0] is check for key in audit.measures):
            audit.unmeasured[check] = "Too few images have lungs and a border that can be told."


def _at(found: SitePredictions, site: str) -> SitePredictions:
    return found.where(found.sites == site)


def _within(
    found: SitePredictions, site: str, positive: str, negative: str, applies: Flags
) -> Measure:
    images, value = auroc_between(found, positive, negative)
    return images & (found.sites == site) & applies, value


def _difference(one: Callable[[Ints], float], other: Callable[[Ints], float]) -> "_Value":
    return lambda chosen: one(chosen) - other(chosen)


_Value = Callable[[Ints], float]


def _change_appearance(audit: _Audit, random: np.random.Generator) -> None:
    """How many decisions change where the disease does not."""
    checks: dict[AuditCheck, Callable[[AuditImages], Changed]] = {
        AuditCheck.MARKERS_REMOVED: audit_images.remove_markers,
        AuditCheck.MARKERS_PASTED: lambda given: audit_images.paste_markers(given, random),
        AuditCheck.MIRRORED: audit_images.mirror,
        AuditCheck.SHARPNESS: lambda given: audit_images.borrow_sharpness(given, random),
        AuditCheck.GREY_LEVELS: lambda given: audit_images.borrow_grey_levels(given, random),
        AuditCheck.JPEG: audit_images.compress,
    }
    before = _decisions(audit.found)
    for check, change in checks.items():
        changed = change(audit.given)
        if len(set(audit.found.patients[changed.applies].tolist())) < LEAST_PATIENTS:
            audit.unmeasured[check] = _why_not_changed(check)
            continue
        after = _decisions(audit.predict(changed))
        differs = before != after
        swapped = differs & (before != UNCERTAIN) & (after != UNCERTAIN)
        for metric, hits in ((AuditMetric.CHANGED, differs), (AuditMetric.SWAPPED, swapped)):
            audit.measures[_key(check, metric, "all sites")] = share_of(changed.applies, hits)


def _why_not_changed(check: AuditCheck) -> str:
    if check in (AuditCheck.SHARPNESS, AuditCheck.GREY_LEVELS):
        return "The data set has one site only."
    return f"Fewer than {LEAST_PATIENTS} patients have images with markers that can be found."


def _decisions(found: SitePredictions) -> NDArray[np.str_]:
    decisions: NDArray[np.str_] = np.where(found.definite, found.predicted, UNCERTAIN)
    return decisions


def _measure_groups(audit: _Audit, records: Sequence[ImageRecord]) -> None:
    """Sensitivity and specificity of groups of patients, and healthy people by site."""
    found, healthy, target = audit.found, audit.healthy, audit.target
    groups: Mapping[AuditCheck, list[str]] = {
        AuditCheck.BY_SITE: [image.site for image in records],
        AuditCheck.BY_VIEW: [image.view for image in records],
        AuditCheck.BY_SEX: [image.sex for image in records],
        AuditCheck.BY_AGE: [age_band(image) for image in records],
    }
    right = found.predicted == found.truth
    for check, values in groups.items():
        of_image = np.array([value or "unknown" for value in values])
        for group in sorted(set(of_image.tolist())):
            for label in found.labels:
                own = (of_image == group) & (found.truth == label)
                if len(set(found.patients[own].tolist())) < LEAST_PATIENTS:
                    continue
                metric = AuditMetric.SPECIFICITY if label == healthy else AuditMetric.SENSITIVITY
                subject = group if label == healthy else f"{group}, {label}"
                audit.measures[_key(check, metric, subject)] = share_of(own, right)
                if check is AuditCheck.BY_SITE and label == healthy and target:
                    called = found.definite & (found.predicted == target)
                    name = _key(AuditCheck.HEALTHY_BY_SITE, AuditMetric.CALLED_TARGET, group)
                    audit.measures[name] = share_of(own, called)
    if not any(key[0] is AuditCheck.HEALTHY_BY_SITE for key in audit.measures):
        audit.unmeasured[AuditCheck.HEALTHY_BY_SITE] = (
            f"No site has {LEAST_PATIENTS} healthy patients in the test split."
        )


def _add_heat_maps(audit: _Audit, maps: HeatMapFindings) -> None:
    for (check, metric), (images, values) in maps.values.items():
        if len(set(audit.found.patients[images].tolist())) < LEAST_PATIENTS:
            audit.unmeasured[check] = f"Fewer than {LEAST_PATIENTS} patients have such an image."
        else:
            audit.measures[_key(check, metric, "all sites")] = images, _mean_of(values)


def _mean_of(values: NDArray[np.float64]) -> _Value:
    return lambda chosen: float(values[chosen].mean())


def _finish(audit: _Audit, options: AuditOptions, maps: HeatMapFindings) -> AuditResult:
    named = {str(number): measure for number, measure in enumerate(audit.measures.values())}
    values = with_intervals(named, audit.found.patients, BOOTSTRAP_DRAWS)
    rows = [
        AuditRow(check=check, metric=metric, subject=subject, value=value)
        for (check, metric, subject), value in zip(audit.measures, values.values(), strict=True)
    ]
    order = list(AuditCheck)
    found = audit.found
    counts = Counter(zip(found.sites.tolist(), found.truth.tolist(), strict=True))
    return AuditResult(
        version=audit.predictor.card.version,
        sha256=audit.predictor.card.sha256,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=code_version(),
        target=audit.target,
        healthy=audit.healthy,
        images={
            site: {label: counts[site, label] for label in found.labels}
            for site in sorted(set(found.sites.tolist()))
        },
        patients=len(set(found.patients.tolist())),
        per_site=options.per_site,
        seed=options.seed,
        draws=BOOTSTRAP_DRAWS,
        without_lungs=int((~audit.given.has_lungs).sum()),
        has_stand_ins=audit.has_stand_ins,
        rows=sorted(rows, key=lambda row: order.index(row.check)),
        unmeasured=audit.unmeasured,
        risk_coverage=risk_coverage(found),
        curves=maps.curves,
    )


def risk_coverage(found: SitePredictions) -> list[tuple[float, float]]:
    """(Share answered, share of these wrong), where the most confident images are answered."""
    order = np.argsort(-found.probabilities.max(axis=1), kind="stable")
    wrong = (found.predicted != found.truth)[order]
    counts = np.unique(np.linspace(len(wrong) / CURVE_POINTS, len(wrong), CURVE_POINTS).round())
    return [
        (float(count / len(wrong)), float(wrong[: int(count)].mean()))
        for count in counts
        if count >= 1
    ]
