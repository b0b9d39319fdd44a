"""What a DICOM header says of the picture, and what of it may leave the file.

Unknown or missing values are let through, for many are. A value that names something else than a
frontal chest X-ray is refused.
"""

import re
from decimal import Decimal

import numpy as np
from pydicom import Dataset

from ml.imaging.image_warnings import ImageWarning
from ml.imaging.types import Pixels, UnreadableImage
from ml.texts import msg

# Computed, digital or digitised radiography; an image without a modality may pass.
_XRAY = ("CR", "DX", "RG", "")
# A scanned or captured chest X-ray may come as one of these.
_CAPTURED = ("OT", "SC")
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"  # Digital X-Ray Image Storage, for processing
_CHEST = ("CHEST", "THORAX", "TORAX", "LUNG", "RIBS", "HEART", "WHOLEBODY")
_OTHER_PARTS = (
    *("ABDOM", "ANKLE", "BREAST", "CALCAN", "CLAVIC", "COCCYX", "ELBOW", "EXTREM", "FEMUR"),
    *("FINGER", "FOOT", "HAND", "HEAD", "HUMER", "KIDNEY", "KNEE", "MANDIB", "MAXILL", "NECK"),
    *("ORBIT", "PATELLA", "PELVI", "RADIUS", "SACRUM", "SCAPUL", "SHOULDER", "SINUS", "SKULL"),
    *("SPINE", "STERN", "TEETH", "THIGH", "THUMB", "TIBIA", "TOOTH", "ULNA", "WRIST", "BRAIN"),
    *("CALF", "FIBULA", "HEEL", "BLADDER", "UTERUS", "COLON", "FOREARM", "UPPERARM", "UPPERLEG"),
)
_OTHER_WORDS = ("EAR", "EYE", "HIP", "JAW", "LEG", "TOE", "CSP", "LSP", "TSP", "SSP")
_LATERAL = ("LL", "RL", "LLO", "RLO", "LPO", "RPO", "LAO", "RAO")
# A short table of what may leave the file, and the only forms it may have.
_NUMBER = r"[0-9][0-9.]{0,15}"
_GRID = "FIXED|FOCUSED|RECIPROCATING|PARALLEL|CROSSED|NONE"
METADATA = {
    "Modality": r"[A-Z]{2}",
    # Defined terms alone: free text in these elements may hold a name.
    "BodyPartExamined": r"CHEST|THORAX|LUNG|RIB|HEART|WHOLEBODY|CHESTABDOMEN",
    "ViewPosition": r"PA|AP|RLD|LLD|AP SUPINE|AP ERECT",
    "PatientSex": r"[MFO]",
    "PatientAge": r"[0-9]{3}Y",
    "PixelSpacing": rf"{_NUMBER}\\{_NUMBER}",
    "ImagerPixelSpacing": rf"{_NUMBER}\\{_NUMBER}",
    "PhotometricInterpretation": r"MONOCHROME[12]",
    "PatientOrientation": r"[LRAPHF]{1,3}\\[LRAPHF]{1,3}",
    "BitsAllocated": r"[0-9]{1,2}",
    "BitsStored": r"[0-9]{1,2}",
    "HighBit": r"[0-9]{1,2}",
    "WindowCenter": rf"-?{_NUMBER}",
    "WindowWidth": _NUMBER,
    "RescaleIntercept": rf"-?{_NUMBER}",
    "RescaleSlope": _NUMBER,
    "PresentationIntentType": r"FOR (PRESENTATION|PROCESSING)",
    "PresentationLUTShape": r"IDENTITY|INVERSE",
    "LossyImageCompression": r"0[01]",
    "LossyImageCompressionRatio": _NUMBER,
    "KVP": _NUMBER,
    "XRayTubeCurrent": _NUMBER,
    "ExposureTime": _NUMBER,
    "Exposure": _NUMBER,
    "ExposureIndex": _NUMBER,
    "DeviationIndex": rf"-?{_NUMBER}",
    "DistanceSourceToDetector": _NUMBER,
    "DistanceSourceToPatient": _NUMBER,
    "FocalSpots": _NUMBER,
    "Grid": rf"({_GRID})(\\({_GRID}))?",
    "DetectorType": r"DIRECT|SCINTILLATOR|STORAGE",
}
# From this age on a year of age can name a person.
_OLDEST_AGE = 89
HEADER_ELEMENTS = (
    "SOPClassUID",
    "AnatomicRegionSequence",
    "ViewCodeSequence",
)


def refuse_other_views(dataset: Dataset) -> None:
    """Refuse what is not a frontal chest X-ray by its modality, body part, view or orientation.

    Raises:
        UnreadableImage: with the code "not-a-radiograph", "not-a-chest" or "not-frontal".
    """
    modality = text_of(dataset, "Modality")
    if modality not in (*_XRAY, *_CAPTURED):
        shown = modality if re.fullmatch("[A-Z]{2,4}", modality) else msg("unknown")
        raise UnreadableImage(
            msg(
                "The DICOM modality is %(shown)s; a chest X-ray is CR, DX or RG. Choose the "
                "radiograph itself.",
                shown=shown,
            ),
            "not-a-radiograph",
        )
    if _is_other_part(_body_part(dataset)):
        raise UnreadableImage(
            msg(
                "The DICOM header says that the image is not of a chest but of another body "
                "part. Choose a frontal chest X-ray."
            ),
            "not-a-chest",
        )
    if _is_lateral(dataset):
        raise UnreadableImage(
            msg(
                "The DICOM header says that this is a lateral or oblique view. Choose the "
                "frontal view, PA or AP."
            ),
            "not-frontal",
        )


def header_warnings(dataset: Dataset) -> list[ImageWarning]:
    """What has to be said of an image by its header.

    The photometric interpretation decides which grey levels are bright: MONOCHROME1 is inverted,
    MONOCHROME2 is not, whatever PresentationLUTShape says. IDENTITY belongs to MONOCHROME2 and
    INVERSE to MONOCHROME1 (DICOM PS3.3 C.8.11.1); the two other combinations get a warning.
    """
    found: list[ImageWarning] = []
    modality = text_of(dataset, "Modality")
    if modality in _CAPTURED and not _is_chest(_body_part(dataset)):
        found.append(ImageWarning("not-an-x-ray-modality", {"modality": modality}))
    intent = text_of(dataset, "PresentationIntentType").upper()
    if intent == "FOR PROCESSING" or text_of(dataset, "SOPClassUID") == _FOR_PROCESSING:
        found.append(ImageWarning("for-processing"))
    pair = text_of(dataset, "PhotometricInterpretation"), text_of(dataset, "PresentationLUTShape")
    if pair in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        found.append(ImageWarning("grey-scale-unclear", {"photometric": pair[0], "shape": pair[1]}))
    return found


def upright(pixels: Pixels, dataset: Dataset) -> Pixels:
    """Show an image as it is hung: rows towards the patient's left, columns towards the feet.

    PatientOrientation says where the stored rows and columns lead. FieldOfViewRotation and
    FieldOfViewHorizontalFlip are not applied: they say what was done to the stored pixels already
    (DICOM PS3.3 C.8.11.5.1.2).
    """
    rows, columns = _directions(dataset)
    if rows in ("F", "H") and columns in ("L", "R"):
        pixels, rows, columns = pixels.T, columns, rows
    if rows not in ("L", "R") or columns not in ("F", "H"):
        return pixels
    across, down = (-1 if rows == "R" else 1), (-1 if columns == "H" else 1)
    return np.ascontiguousarray(pixels[::down, ::across])


def metadata_of(dataset: Dataset) -> dict[str, str]:
    """The allow-listed elements whose value has the form it should have."""
    metadata = {}
    for keyword, form in METADATA.items():
        try:
            text = text_of(dataset, keyword)
        except (ValueError, TypeError, ArithmeticError):
            # No number where one should be: no reason to refuse the image.
            continue
        if re.fullmatch(form, text):
            metadata[keyword] = text
    age = metadata.get("PatientAge")
    if age is not None and int(age[:3]) > _OLDEST_AGE:
        metadata["PatientAge"] = f"{_OLDEST_AGE + 1:03}Y+"
    return metadata


def text_of(dataset: Dataset, keyword: str) -> str:
    """An element as text, its values separated by backslashes; empty where there is none."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    if isinstance(value, str | int | float | Decimal):
        return str(value)
    return "\\".join(str(part) for part in value)


def _body_part(dataset: Dataset) -> str:
    return text_of(dataset, "BodyPartExamined") or _code_meaning(dataset, "AnatomicRegionSequence")


def _code_meaning(dataset: Dataset, keyword: str) -> str:
    sequence = dataset.get(keyword)
    if not isinstance(sequence, str | bytes) and sequence:
        return text_of(sequence[0], "CodeMeaning")
    return ""


def _is_chest(part: str) -> bool:
    joined = re.sub("[^A-Z]", "", part.upper())
    return any(word in joined for word in _CHEST) or joined == "RIB"


def _is_other_part(part: str) -> bool:
    if _is_chest(part):
        return False
    joined = re.sub("[^A-Z]", "", part.upper())
    words = re.findall("[A-Z]+", part.upper())
    return any(word in joined for word in _OTHER_PARTS) or any(w in _OTHER_WORDS for w in words)


def _is_lateral(dataset: Dataset) -> bool:
    view = text_of(dataset, "ViewPosition").upper().strip()
    meaning = _code_meaning(dataset, "ViewCodeSequence").upper()
    # A lateral decubitus is a frontal view of a patient who lies on the side.
    sides = [text for text in (view, meaning) if "DECUB" not in text]
    if view in _LATERAL or any(word in text for text in sides for word in ("LAT", "OBLIQ")):
        return True
    # Rows that lead to the front or back of the patient: seen from the side.
    return any(direction in ("A", "P") for direction in _directions(dataset))


def _directions(dataset: Dataset) -> tuple[str, str]:
    """The main direction of rows and of columns: L, R, F, H, A or P; empty where unknown."""
    parts = text_of(dataset, "PatientOrientation").upper().split("\\")
    if len(parts) != 2:
        return "", ""
    return parts[0].strip()[:1], parts[1].strip()[:1]
