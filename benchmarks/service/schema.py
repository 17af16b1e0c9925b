"""Schemathesis makes requests out of the service's own OpenAPI document, in all its phases, and holds the answers against it.

``python benchmarks/service/schema.py RUN --work FOLDER --examples 100``. Phases are examples, coverage, fuzzing and stateful; an
answer of 500, or one that the document does not tell of, is a failure. Its whole report is printed; the status is its own.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from machine import begin_in, say
from servers import orderly, serve_words, served

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXPECTED = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]\n'
"""Of those that the document tells of: a service that is full, and a deadline that nothing can keep."""
PHASES = "examples,coverage,fuzzing,stateful"


def main() -> None:
    """The status of schemathesis."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="A new folder for the store and the log.")
    parser.add_argument("--examples", type=int, default=100, help="Of each operation and phase.")
    parser.add_argument("--phases", default=PHASES)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    orderly()
    begin_in(arguments.work)
    log = arguments.work / "server.log"
    (arguments.work / "schemathesis.toml").write_text(EXPECTED)
    with served("service", serve_words(arguments.run, str(arguments.work / "events.db")), log) as server:
        say(f"{arguments.phases} of http://{server.host}:{server.port}/openapi.json")
        words = ["run", f"http://{server.host}:{server.port}/openapi.json", "--checks", CHECKS, "--phases", arguments.phases]
        words += ["--max-examples", str(arguments.examples), "--seed", str(arguments.seed), "--exclude-path", "/v1/admin/run"]
        code = "from schemathesis.cli import schemathesis; schemathesis()"
        ran = subprocess.run([sys.executable, "-c", code, *words], check=False, cwd=arguments.work)
    faults = sum('"event": "fault"' in line for line in log.read_text().splitlines())
    say(f"schemathesis ended with {ran.returncode}; faults in the server's log: {faults}")
    sys.exit(ran.returncode or bool(faults))


if __name__ == "__main__":
    main()
