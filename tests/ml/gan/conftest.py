"""All tests of GANs train in a moment, on one thread."""

from tests.support.gan_world import few_batches_for_statistics, one_thread

__all__ = ["few_batches_for_statistics", "one_thread"]
