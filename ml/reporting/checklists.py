"""The items of two reporting guidelines, answered: TRIPOD+AI (2024) and CLAIM (2024 update).

The items are told in our own words; the number is that of the guideline.
"""

from typing import NamedTuple

_CARD, _DATA, _TRUST, _EVALUATION = (
    "model card",
    "docs/data.md",
    "docs/trust.md",
    "docs/evaluation.md",
)
_TRAINING, _PAGE = "README.md, Training", "this page"
_NONE = "none"


class ChecklistItem(NamedTuple):
    """One item of a guideline."""

    number: str
    item: str
    answer: str
    where: str


TRIPOD_AI = (
    ChecklistItem("1", "title names the study", "Classifier of chest X-rays: prediction by a neural network", _CARD),
    ChecklistItem("2", "abstract", "Results, with the failure at unseen hospitals first", "README.md, Results"),
    ChecklistItem("3a", "medical background", "Chest X-ray screening and its pitfalls; not for diagnosis", _CARD),
    ChecklistItem("3b", "population and users", "Frontal images of adults and children; researchers and students", _CARD),
    ChecklistItem("3c", "known inequalities", "Not studied; sex and age are unknown for most images", _PAGE),
    ChecklistItem("4", "objectives", "Development, and evaluation at hospitals that were left out", _TRUST),
    ChecklistItem("5a", "sources of the data", "Public collections, by source and site", _DATA),
    ChecklistItem("5b", "dates", "Not stated by most sources", _DATA),
    ChecklistItem("6a", "setting", "Hospitals of several countries, teaching files, publications", _DATA),
    ChecklistItem("6b", "who is included", "Every readable frontal image with a usable label", _DATA),
    ChecklistItem("6c", "treatments", "Unknown", _NONE),
    ChecklistItem("7", "data preparation", "One preprocessing for training, evaluation and serving", _CARD),
    ChecklistItem("8a", "outcome", "The class that the source states for the image", _DATA),
    ChecklistItem("8b", "who assessed it", "Differs by source: radiologists, reports, software", _DATA),
    ChecklistItem("8c", "blinding", "Not stated by the sources", _NONE),
    ChecklistItem("9", "predictors", "The pixels of one image, and nothing else", _CARD),
    ChecklistItem("10", "sample size", "All images there were; no calculation was made", _CARD),
    ChecklistItem("11", "missing data", "Images without a label are not used; unknown sex, age and view form a separate group", _PAGE),
    ChecklistItem("12a", "use of the data", "Training, validation and test split by a hash of the patient key", _EVALUATION),
    ChecklistItem("12b", "handling of predictors", "Shrunk, grey levels stretched by percentiles", _CARD),
    ChecklistItem("12c", "type of model, and how it was built", "Pretrained convolutional network; options in the card", _TRAINING),
    ChecklistItem("12d", "differences between hospitals", "Sites left out in turn", _PAGE),
    ChecklistItem("12e", "measures of performance", "AUROC, sensitivity, specificity, calibration, coverage, with intervals over patients", _EVALUATION),
    ChecklistItem("12f", "updating", "None after training; thresholds may be fitted for a clinic", _TRUST),
    ChecklistItem("12g", "how a prediction is computed", "An ONNX graph, a temperature and thresholds", _CARD),
    ChecklistItem("13", "class imbalance", "Classes and sources are drawn equally often in training", _TRAINING),
    ChecklistItem("14", "fairness", "Sensitivity and specificity by sex, age, view and site", _PAGE),
    ChecklistItem("15", "output", "Probabilities of the classes, a class or uncertain, a heat map", _CARD),
    ChecklistItem("16", "training against evaluation data", "The same sources, other patients; left-out sites beside them", _PAGE),
    ChecklistItem("17", "ethical approval", "Public, de-identified images; none was sought", _DATA),
    ChecklistItem("18a", "funding", "None", _NONE),
    ChecklistItem("18b", "conflicts of interest", "None declared", _NONE),
    ChecklistItem("18c", "protocol", "The bounds of the audit are fixed in the code", _TRUST),
    ChecklistItem("18d", "registration", "None", _NONE),
    ChecklistItem("18e", "sharing of data", "Public sources with their licences", _DATA),
    ChecklistItem("18f", "sharing of code", "All code and weights", "README.md, Licence"),
    ChecklistItem("19", "patients and the public", "Not involved", _NONE),
    ChecklistItem("20a", "flow of participants", "Images by source, class and split", _CARD),
    ChecklistItem("20b", "characteristics", "Site, view, sex and age where known", _PAGE),
    ChecklistItem("20c", "training against evaluation", "Images by split", _CARD),
    ChecklistItem("21", "numbers for development", "Images and patients by split", _CARD),
    ChecklistItem("22", "the model itself", "Graph and card can be downloaded", _CARD),
    ChecklistItem("23a", "performance", "With 95 % intervals", _PAGE),
    ChecklistItem("23b", "performance by hospital", "By left-out site and by site", _PAGE),
    ChecklistItem("24", "results of updating", "Not measured", _NONE),
    ChecklistItem("25", "interpretation", "Recognising the hospital explains part of the performance", _TRUST),
    ChecklistItem("26", "limitations", "Listed", _CARD),
    ChecklistItem("27a", "poor or unsuitable input", "Refused or uncertain; warnings for inverted and rotated images", "docs/api.md"),
    ChecklistItem("27b", "what users must know and do", "Upload a frontal image; read the limits on this page", _PAGE),
    ChecklistItem("27c", "next steps", "Images of both classes from one hospital", _TRUST),
)  # fmt: skip
CLAIM = (
    ChecklistItem("1", "title says that AI is used", "Yes", _CARD),
    ChecklistItem("2", "structured summary", "Results", "README.md, Results"),
    ChecklistItem("3", "background and intended role", "Research and education", _CARD),
    ChecklistItem("4", "aims", "Screening, and what goes wrong with it", _TRUST),
    ChecklistItem("5", "prospective or retrospective", "Retrospective", _DATA),
    ChecklistItem("6", "goal of the study", "Evaluate at unseen hospitals", _TRUST),
    ChecklistItem("7", "data sources", "Public collections", _DATA),
    ChecklistItem("8", "inclusion and exclusion", "Readable frontal images with a label; near-duplicates across splits removed", _DATA),
    ChecklistItem("9", "preprocessing", "One function, named in the card", _CARD),
    ChecklistItem("10", "selection of subsets", "By a hash of the patient key; audits may draw at random", _PAGE),
    ChecklistItem("11", "de-identification", "By the sources; metadata of files is not kept", _DATA),
    ChecklistItem("12", "missing data", "Unknown values form a separate group", _PAGE),
    ChecklistItem("13", "image acquisition", "Differs and is mostly unknown", _DATA),
    ChecklistItem("14", "reference standard", "The label of the source", _DATA),
    ChecklistItem("15", "why this standard", "There is no other for these images", _DATA),
    ChecklistItem("16", "who annotated", "The sources", _DATA),
    ChecklistItem("17", "annotation of the test set", "The same labels", _DATA),
    ChecklistItem("18", "agreement of readers", "Not stated by the sources", _NONE),
    ChecklistItem("19", "partitions", "75 % training, 10 % validation, 15 % test, by patient", _EVALUATION),
    ChecklistItem("20", "level of the partitions", "Patient; site where sites are left out", _EVALUATION),
    ChecklistItem("21", "intended sample size", "Not calculated", _NONE),
    ChecklistItem("22", "model", "Network, input, output and parameters", _CARD),
    ChecklistItem("23", "software", "Locked versions of all packages", "requirements/"),
    ChecklistItem("24", "initial weights", "ImageNet, unless the card names others", _CARD),
    ChecklistItem("25", "training", "All options and the random seed", _CARD),
    ChecklistItem("26", "choice of the final model", "Best validation loss of one training", _TRAINING),
    ChecklistItem("27", "ensembles", "None, unless the card says so", _CARD),
    ChecklistItem("28", "metrics", "AUROC, sensitivity, specificity, calibration, coverage", _EVALUATION),
    ChecklistItem("29", "uncertainty", "Bootstrap over patients, 95 %", _EVALUATION),
    ChecklistItem("30", "robustness", "The audit", _PAGE),
    ChecklistItem("31", "explanations", "Class activation maps, audited", _PAGE),
    ChecklistItem("32", "test on internal data", "Test split", _PAGE),
    ChecklistItem("33", "test on external data", "Hospitals it was not trained on", _PAGE),
    ChecklistItem("34", "trial registration", "None", _NONE),
    ChecklistItem("35", "included and excluded", "Images by source, class and split", _CARD),
    ChecklistItem("36", "demographics", "Mostly unknown", _PAGE),
    ChecklistItem("37", "performance", "With intervals", _PAGE),
    ChecklistItem("38", "precision of the estimates", "95 % intervals over patients", _PAGE),
    ChecklistItem("39", "failures", "Confusion matrix, groups, audit", _PAGE),
    ChecklistItem("40", "limitations", "Listed", _CARD),
    ChecklistItem("41", "implications for practice", "Must not guide the care of a patient", _PAGE),
    ChecklistItem("42", "protocol", "Bounds fixed in the code", _TRUST),
    ChecklistItem("43", "availability", "Code, weights and reports", "README.md"),
    ChecklistItem("44", "funding", "None", _NONE),
)  # fmt: skip
