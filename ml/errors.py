"""Errors that the user can fix; the command line prints them without a traceback."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, for messages: "1 image", "2 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class XrayError(Exception):
    """Base of every error whose message says what is wrong and what to do."""


class DataError(XrayError):
    """A data set that cannot be used; the message lists every fault found in it."""


class TooFewImages(DataError):
    """A data set that has too few images for what is to be measured."""


class BundleError(XrayError):
    """A model bundle that is missing, incomplete or not what its card says."""


class CheckpointError(XrayError):
    """A checkpoint that cannot be resumed with the options given."""


class TrainingFailed(XrayError):
    """Training that cannot continue; the last good state and the best model so far stay."""


class Diverged(TrainingFailed):
    """Weights or losses that became infinite or no number."""


class Collapsed(TrainingFailed):
    """A generator whose images are nearly all alike."""
