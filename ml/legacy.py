"""Names that files of version 0.1.0 use, and the ones that replaced them.

Cards, summaries and logs written by 0.1.0 stay readable: whoever reads such a file passes its
values through `rename_keys` once, and the rest of the code knows the present names alone.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

RENAMED_KEYS = {
    "films": "images",
    "films_seen": "images_seen",
    "films_sha256": "images_sha256",
    "films_per_second": "images_per_second",
    "held_out_films": "held_out_images",
    "real_films": "real_images",
    "training_films": "training_images",
    "ema_films": "ema_images",
    "generator_rate": "generator_learning_rate",
    "critic_rate": "critic_learning_rate",
    "tick_steps": "evaluation_interval",
    "least_diversity": "min_diversity",
    "novelty": "ood_score",
    "unfamiliar": "out_of_distribution",
    "unfamiliar_interval": "out_of_distribution_interval",
    "certificate": "privacy_check",
    "figures": "metrics",
}


def rename_keys(value: Any) -> Any:
    """Replace the keys of 0.1.0 by today's, at every depth of JSON values."""
    match value:
        case dict():
            return {RENAMED_KEYS.get(key, key): rename_keys(inner) for key, inner in value.items()}
        case list():
            return [rename_keys(inner) for inner in value]
    return value


def rename_weights(state: Mapping[str, T]) -> dict[str, T]:
    """Replace the names of layers in a generator's or critic's weights of 0.1.0 by today's."""
    return {
        f"image.{name.removeprefix('film.')}" if name.startswith("film.") else name: value
        for name, value in state.items()
    }
