"""The lengths of a run that a form offers: Trial, Standard and Long on each device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from app.core.language import translated
from app.runs.estimates import Estimator
from app.runs.handlers.base import Length, RunType
from app.runs.heartbeat import WorkerSign
from app.runs.tables import RunQueue
from ml.json_model import JsonObject
from ml.labels import in_sentence
from ml.option_fields import option_values, validated_options

# Follows from the number of steps.
_FOLLOWS = "evaluation_interval"


class ChosenLength(NamedTuple):
    """A length on a device."""

    queue: RunQueue
    length: Length

    @property
    def key(self) -> str:
        """As forms send it: cpu-trial."""
        return f"{self.queue.value}-{self.length.value}"

    @classmethod
    def of(cls, key: str) -> "ChosenLength | None":
        """The length of a key; None if there is none."""
        known = [cls(queue, length) for queue in RunQueue for length in Length]
        return next((each for each in known if each.key == key), None)


@dataclass(frozen=True, slots=True)
class LengthChoice:
    """A length that a form offers.

    Attributes:
        key: its value in the form.
        length: which one.
        queue: the device that it is for.
        text: what it sets: "image size 32, steps 300".
        seconds: that it is likely to take; None where that is not known.
        values: of the fields that it fills, for the page's script.
    """

    key: str
    length: Length
    queue: RunQueue
    text: str
    seconds: float | None
    values: dict[str, str]


def length_values(run_type: RunType, chosen: ChosenLength | None) -> Mapping[str, JsonValue]:
    """The options that a length sets; none of a type without lengths."""
    return run_type.lengths.get(chosen.queue, {}).get(chosen.length, {}) if chosen else {}


def length_choices(
    run_type: RunType, estimator: Estimator, options: JsonObject, queues: Sequence[RunQueue]
) -> list[LengthChoice]:
    """The lengths of a run type on some devices.

    Args:
        run_type: of the run.
        estimator: says how long each is likely to take.
        options: the other options, as far as they are known: those of a preset, chosen inputs.
        queues: the devices.
    """
    defaults: JsonObject = {**option_values(validated_options(run_type.Options, {})), **options}
    found = []
    for queue in queues:
        for length, values in run_type.lengths.get(queue, {}).items():
            estimate = estimator.estimate({**defaults, **values}, queue)
            found.append(
                LengthChoice(
                    key=ChosenLength(queue, length).key,
                    length=length,
                    queue=queue,
                    text=", ".join(
                        f"{in_sentence(translated(run_type.title_of(name)))} {value:,}"
                        for name, value in values.items()
                        if name != _FOLLOWS
                    ),
                    seconds=estimate.seconds if estimate else None,
                    values={name: str(value) for name, value in values.items()},
                )
            )
    return found


def devices_of(workers: Sequence[WorkerSign]) -> list[RunQueue]:
    """The devices that a form offers: a GPU only where a worker has one."""
    has_gpu = any(sign.gpu and RunQueue.GPU in sign.queues for sign in workers)
    return [RunQueue.CPU, *([RunQueue.GPU] if has_gpu else [])]
