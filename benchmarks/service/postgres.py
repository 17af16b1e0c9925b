"""A PostgreSQL server of one's own in a temporary folder, on a socket there, as it is installed: what it acknowledges is on disk.

Knows no table.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def binary(name: str) -> str | None:
    """On the PATH, or where Debian has it."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, FOLDERS)))


class Postgres:
    """One server; as root it runs as nobody, for it refuses to run as root."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        words = [str(binary("initdb")), "-D", str(self.folder / "data"), "-U", "lifelora", "--auth=trust", "-E", "UTF8"]
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True, **self._as)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """For lifelora."""
        return f"postgresql://lifelora@/postgres?host={self.folder}"

    def start(self, seconds: float = 60.0) -> None:
        """Until it answers; after a kill its old processes may still end, and it is tried again."""
        words = [str(binary("postgres")), "-D", str(self.folder / "data"), "-k", str(self.folder), "-c", "listen_addresses="]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process is None or self.process.poll() is not None:
                with (self.folder / "log").open("ab") as log:
                    self.process = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log, **self._as)
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            time.sleep(0.05)
        raise SystemExit(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL to the server and each of its processes."""
        assert self.process is not None
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        os.kill(own, signal.SIGKILL)
        self.process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def end(self) -> None:
        """Stop it, and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
