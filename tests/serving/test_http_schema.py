"""Schemathesis makes requests out of the service's own OpenAPI document, good and bad ones, and holds the answers against it."""

import subprocess
import sys
from pathlib import Path

import pytest
from http_process import process

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXPECTED = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]\n'
"""Of those that the document tells of: a deadline that nothing can keep."""


@pytest.mark.slow
def test_the_document_of_the_api_is_kept(plain: Path, tmp_path: Path):
    (tmp_path / "schemathesis.toml").write_text(EXPECTED)
    with process(plain, "--store", str(tmp_path / "events.db")) as (_, address, _):
        code = "from schemathesis.cli import schemathesis; schemathesis()"
        words = ["run", f"{address}/openapi.json", "--checks", CHECKS, "--phases", "examples,fuzzing"]
        words += ["--max-examples", "60", "--exclude-path", "/v1/admin/run"]
        ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
