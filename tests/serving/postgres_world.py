"""A PostgreSQL server of the tests' own, in a temporary folder, on a socket there: no network, and no server of others."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

PASSWORD = "s3cret-of-tests"
FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def binary(name: str) -> str | None:
    """Where one of PostgreSQL's programs is: on the PATH, or where Debian has it."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, FOLDERS)))


def lacking() -> str | None:
    """Why no server can run here."""
    missing = [name for name in ("initdb", "postgres") if binary(name) is None]
    if missing:
        return f"PostgreSQL's {' and '.join(missing)} are not installed here"
    return None if sys.platform != "win32" else "PostgreSQL runs by sockets here"


class Server:
    """One server. It refuses to run as root, so there it runs as nobody."""

    # No test cuts the power: what a killed server has written, the system keeps.
    settings = ("listen_addresses=", "max_connections=60", "fsync=off")

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))  # pytest's own folders are closed to other users
        self.data = self.folder / "data"
        self.user: dict[str, str | int | list[int]] = {}
        if os.geteuid() == 0:
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self.run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "lifelora",
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            "--no-sync",
            "-E",
            "UTF8",
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def run(self, name: str, *words: str) -> None:
        ran = subprocess.run([binary(name), *words], cwd=self.folder, capture_output=True, text=True, check=False, **self.user)
        assert ran.returncode == 0, ran.stderr

    def start(self) -> None:
        """Until it answers; after a kill its old processes may still end, and it is tried again."""
        words = ["-D", str(self.data), "-k", str(self.folder), *(word for one in self.settings for word in ("-c", one))]
        for _ in range(200):
            if self.process is None or self.process.poll() is not None:
                with (self.folder / "log").open("ab") as log:
                    self.process = subprocess.Popen(
                        [binary("postgres"), *words], cwd=self.folder, stdout=log, stderr=log, **self.user
                    )
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://lifelora:{password}@/{database}?host={self.folder}"

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Ask as others would."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new(self, name: str) -> str:
        """The URL of a new database, in place of one of this name."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

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
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
