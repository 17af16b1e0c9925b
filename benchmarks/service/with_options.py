"""`lifelora serve` with options of its engine that the command does not take; it prints where it is. Knows no benchmark."""

import argparse
from pathlib import Path

from lifelora.run import Options, Run
from lifelora.serving.app.keys import Keys
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.server import address, bound, serve
from lifelora.serving.app.service import Service
from lifelora.serving.engine import EngineOptions


def main() -> None:
    """Until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--store", required=True)
    parser.add_argument("--trunk-bytes", type=int, required=True)
    arguments = parser.parse_args()
    service = Service(
        lambda: Run.open(arguments.run, Options(device="cpu", progress=False)),
        arguments.store,
        EngineOptions(warm_bytes=arguments.trunk_bytes),
    )
    with bound("127.0.0.1", 0) as listening:
        where = address(listening)
        serve(service, listening, Keys(), Limits(), lambda: print(f"serving {arguments.run} at {where};", flush=True))


if __name__ == "__main__":
    main()
