"""A program for runs to start: it counts, stores its count in a file, and resumes from it.

It imports the standard library alone, as it is started many times.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", type=Path, required=True)
    options = json.loads(parser.parse_args().options.read_text())
    if options["stubborn"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    folder = Path(options["out"])
    with (folder / "starts.txt").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    counter = folder / "counter.txt"
    done = int(counter.read_text()) if counter.exists() else 0
    print(f"beginning after step {done}")
    for step in range(done + 1, options["steps"] + 1):
        time.sleep(options["step_s"])
        if step == options["fail_at"]:
            sys.exit(f"no luck in step {step}")
        # The row first: killed between the two, it is written again, and not missing.
        with (folder / "metrics.jsonl").open("a") as metrics:
            row = {"step": step, "loss": 1 / step, "odd": float("nan"), "seconds": 0.05}
            metrics.write(json.dumps(row) + "\n")
        counter.with_suffix(".part").write_text(str(step))
        counter.with_suffix(".part").replace(counter)
        if options["dies_after"]:
            (folder / "checkpoint.pt").write_text(str(step))
        if options["dies_after"] in ("any", str(step)):
            if options["dies_after"] != "any":
                # As if this step had not been saved: the next attempt repeats it.
                counter.write_text(str(step - 1))
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
