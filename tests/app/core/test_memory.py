"""Memory of a server with many threads."""

import subprocess
import sys

from tests.support import REPOSITORY

_PROGRAM = """
from app.core.memory import return_freed_memory
return_freed_memory()
import threading
import numpy as np
from pathlib import Path
from ml.classifier.bundle import PRETRAINED
from ml.classifier.predictor import Predictor

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 10**6

predictor = Predictor.load(PRETRAINED, serving=True)
image = np.random.default_rng(0).integers(0, 256, (predictor.card.input_size,) * 2, dtype=np.uint8)
predictor.predict(image)
predictor.predict(image, alone=True)
before = resident()
free = threading.BoundedSemaphore(2)

def screen():
    for _ in range(3):
        kept = [bytearray(200_000 + number * 1000) for number in range(10)]
        with free:
            predictor.predict(image)

threads = [threading.Thread(target=screen) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resident() - before)
"""


def test_server_keeps_no_memory_for_each_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    # Without the settings it is about 370 MB.
    assert int(done.stdout) < 150
