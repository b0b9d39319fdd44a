"""Options of a GAN that no run could be made of, whether a person or a file gave them."""

from dataclasses import fields

from ml.errors import XrayError
from ml.gan.networks import STD_GROUP, network_pair
from ml.gan.objectives import build_objective
from ml.labels import LABELS
from ml.options import GanOptions


def check_options(options: GanOptions) -> None:
    """Refuse options that no run could be made of.

    Raises:
        XrayError: says which, and what would do.
    """
    for each in fields(options):
        value, low, high = getattr(options, each.name), each.metadata["min"], each.metadata["max"]
        flag = "--" + each.name.replace("_", "-")
        whole_for_real = type(value) is int and type(each.default) is float
        if type(value) is not type(each.default) and not whole_for_real:
            raise XrayError(f"{flag} {value!r} is no {type(each.default).__name__}")
        if low is not None and not value >= low:
            raise XrayError(f"{flag} {value} is too small: the least is {low}")
        if high is not None and not value <= high:
            raise XrayError(f"{flag} {value} is too large: the most is {high}")
    unknown = set(options.label_names) - set(LABELS)
    if unknown or not options.label_names:
        raise XrayError(
            f"--labels {options.labels}: expected some of {', '.join(LABELS)}, with commas between"
        )
    for flag, value, known in (
        ("--optimizer", options.optimizer, ("adam", "rmsprop")),
        ("--precision", options.precision, ("float32", "bfloat16")),
    ):
        if value not in known:
            raise XrayError(f"unknown {flag} {value!r}, expected {' or '.join(known)}")
    if options.batch_std and options.batch_size % STD_GROUP:
        raise XrayError(f"--batch-std needs a --batch-size that is a multiple of {STD_GROUP}")
    network_pair(options)
    build_objective(options)
    if options.critic_norm and options.network != "report":
        raise XrayError(
            f"batch norm is for the report's critic, {options.network} has none: --no-critic-norm"
        )
