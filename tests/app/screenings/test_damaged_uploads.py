"""Mutated uploads to each way in: a few dozen of those of `benchmarks.damaged_uploads`."""

import numpy as np
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from benchmarks.damaged_files import seeds
from benchmarks.damaged_uploads import Fuzz


def test_mutated_upload_is_answered_or_refused(application: FastAPI) -> None:
    with application.state.services.database.session() as session:
        key = create_key(session, "clinic of damaged uploads", "test")
    random = np.random.default_rng(3)
    files = seeds(random)
    client = TestClient(application, follow_redirects=False)
    fuzz = Fuzz(client, key, random)
    # Half of them, which differ between the ways.
    for number in range(0, 3 * len(files), 2):
        fuzz.send(number, files)
    ways = {outcome.partition(":")[0] for outcome in fuzz.outcomes}
    assert ways == {"api", "script", "form"}
    assert {outcome.partition(": ")[2] for outcome in fuzz.outcomes} > {"422"}
