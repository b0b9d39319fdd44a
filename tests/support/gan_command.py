"""The command line in a tiny world, which `tests/ml/gan/test_commands.py` runs as a process.

Features are pixels, so no network is loaded, and batch-norm statistics come from few batches.
`DIE_AT` kills the process at that step of training, as `kill -9` does.
"""

import os
import signal
from typing import Any

from ml.__main__ import main
from ml.gan import averaged_generator, training
from tests.support.gan_world import STATISTICS_BATCHES, pixel_space


def die_at(step: int) -> None:
    """Kill this process when that step is about to be drawn."""
    draw_step = training.draw_step

    def draw_or_die(images: Any, options: Any, now: int, group: Any) -> Any:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw_step(images, options, now, group)

    training.draw_step = draw_or_die


if __name__ == "__main__":
    averaged_generator._STATISTICS_BATCHES = STATISTICS_BATCHES
    training.feature_space = lambda *_, **__: pixel_space()
    if "DIE_AT" in os.environ:
        die_at(int(os.environ["DIE_AT"]))
    main()
