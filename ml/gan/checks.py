"""Checks of GAN options before anything is built from them, whatever file or person gave them."""

from ml.errors import XrayError
from ml.gan.network_pairs import network_pair
from ml.gan.networks import STD_GROUP
from ml.gan.objectives import build_objective
from ml.labels import labels_fault
from ml.options.gan import GanOptions

# Others penalise the image, through the frozen network, or leave its features unbounded.
PROJECTED_OBJECTIVES = ("hinge", "wgan-gp")


def check_options(options: GanOptions) -> None:
    """Refuse options that no training could use.

    Raises:
        XrayError: names the option, its value and what is possible.
    """
    _check_labels(options)
    if options.batch_std and options.batch_size % STD_GROUP:
        raise XrayError(
            f"--batch-std needs a --batch-size that is a multiple of {STD_GROUP}, not "
            f"{options.batch_size}."
        )
    network_pair(options)
    build_objective(options)
    _check_projected(options)
    if options.critic_norm and options.network != "report":
        raise XrayError(
            f"The critic of --network {options.network} has no batch norm. Give --no-critic-norm, "
            "or --network report."
        )


def _check_projected(options: GanOptions) -> None:
    projected = options.network == "projected"
    if projected and options.objective not in PROJECTED_OBJECTIVES:
        raise XrayError(
            f"--network projected is trained with --objective {' or '.join(PROJECTED_OBJECTIVES)}, "
            f"not {options.objective}: its penalty is taken by features."
        )
    if options.energy and not projected:
        raise XrayError(
            f"--energy compares features of --network projected. Leave it out with --network "
            f"{options.network}."
        )


def check_batch_size(options: GanOptions, processes: int) -> None:
    """Refuse a batch that cannot be split evenly among the processes.

    Args:
        options: of the training.
        processes: how many train together.

    Raises:
        XrayError: names a batch size that is possible.
    """
    if options.batch_size % processes:
        raise XrayError(
            f"A batch of {options.batch_size} images cannot be split among {processes} processes. "
            f"Give a --batch-size that is a multiple of {processes}."
        )
    if options.batch_std and options.batch_size // processes % STD_GROUP:
        raise XrayError(
            f"--batch-std compares groups of {STD_GROUP} images. Give a --batch-size that is a "
            f"multiple of {STD_GROUP * processes}."
        )


def _check_labels(options: GanOptions) -> None:
    if fault := labels_fault(options.label_names):
        raise XrayError(f"--labels {options.labels!r:.80} cannot be learned. {fault}")
