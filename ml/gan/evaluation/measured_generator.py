"""An evaluated generator with its card: the contract of `metrics.json`."""

from ml.gan.evaluation.results import GeneratorEvaluation
from ml.gan.generator_card import ReleasedGeneratorCard

# The metrics of one evaluation during training, None where one is not defined.
TrainingRow = dict[str, int | float | None]


class MeasuredGenerator(GeneratorEvaluation):
    """The metrics of a generator, and the generator's card."""

    generator: ReleasedGeneratorCard

    @property
    def metrics(self) -> GeneratorEvaluation:
        """The metrics alone, as a card holds them."""
        return GeneratorEvaluation(
            **{name: getattr(self, name) for name in GeneratorEvaluation.model_fields}
        )


class EvaluationFile(MeasuredGenerator):
    """The content of `metrics.json`: an evaluation and the metrics of the training run."""

    training: list[TrainingRow]
