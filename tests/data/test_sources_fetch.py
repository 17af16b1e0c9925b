"""Downloads against a server of our own: checksum, cache, and every way to fail."""

import functools
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from lifelora.data.sources.movielens import Movielens, fetch_set
from lifelora.errors import ConfigError, DataError


class Server:
    """Paths to bytes over HTTP, and which of them were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.claim: int | None = None
        "Content-Length, where it is to be a lie."

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - self is the server
                self.asked.append(handler.path)
                data = self.files.get(handler.path)
                handler.send_response(404 if data is None else 200)
                if data is not None:
                    lie = self.claim if handler.path.endswith(".zip") else None
                    handler.send_header("Content-Length", str(lie or len(data)))
                handler.end_headers()
                handler.wfile.write(data or b"")

            def log_message(handler, *_: object) -> None: ...  # noqa: N805

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/movielens"


@functools.cache
def tiny() -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "1::2::3::4\n")
        archive.writestr("ml-1m/movies.dat", "2::Alien (1979)::Horror|Sci-Fi\n")
        archive.writestr("ml-1m/users.dat", "1::F::25::12::1234\n")
    return made.getvalue()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.files["/movielens/ml-1m.zip"] = tiny()
    served.files["/movielens/ml-1m.zip.md5"] = f"MD5 (ml-1m.zip) = {hashlib.md5(tiny()).hexdigest()}\n".encode()
    yield served
    served.http.shutdown()
    served.http.server_close()
    thread.join()


def test_a_named_set_is_fetched_checked_and_kept(server: Server, tmp_path: Path):
    seen: list[tuple[int, int | None]] = []
    source = Movielens(path="1m")
    raw = source.read(download=True, cache=tmp_path, publisher=server.url, watch=lambda *n: seen.append(n))
    assert raw.catalogue.to_pylist() == [{"item": "2", "title": "Alien (1979)", "genre": "Horror"}]
    assert seen[-1] == (len(tiny()), len(tiny()))
    assert [p.name for p in tmp_path.iterdir()] == ["ml-1m.zip"]
    asked = len(server.asked)
    assert source.read(cache=tmp_path, publisher=server.url) == raw  # from the cache, without leave to fetch
    assert fetch_set("1m", tmp_path, server.url) == tmp_path / "ml-1m.zip"
    assert len(server.asked) == asked


def test_md5sum_s_own_form_is_understood(server: Server, tmp_path: Path):
    server.files["/movielens/ml-1m.zip.md5"] = f"{hashlib.md5(tiny()).hexdigest().upper()}  ml-1m.zip\n".encode()
    assert fetch_set("1m", tmp_path, server.url).read_bytes() == tiny()


def test_nothing_is_fetched_unasked(server: Server, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"not on this machine .*--download"):
        Movielens(path="1m").read(cache=tmp_path, publisher=server.url)
    assert server.asked == []


def test_a_wrong_checksum_leaves_nothing_behind(server: Server, tmp_path: Path):
    server.files["/movielens/ml-1m.zip"] = tiny()[:-1] + b"?"
    with pytest.raises(DataError, match=f"published one {hashlib.md5(tiny()).hexdigest()}.*put it at"):
        fetch_set("1m", tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_connection_leaves_nothing_behind(server: Server, tmp_path: Path):
    server.files["/movielens/ml-1m.zip"], server.claim = tiny()[:100], len(tiny())
    with pytest.raises(DataError, match=f"the connection ended after 100 of {len(tiny())} bytes"):
        fetch_set("1m", tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_published_checksum_nothing_is_fetched(server: Server, tmp_path: Path):
    server.files["/movielens/ml-1m.zip.md5"] = b"<html>moved</html>"
    with pytest.raises(DataError, match="holds no MD5"):
        fetch_set("1m", tmp_path, server.url)
    del server.files["/movielens/ml-1m.zip.md5"]
    with pytest.raises(DataError, match="404"):
        fetch_set("1m", tmp_path, server.url)
    assert "/movielens/ml-1m.zip" not in server.asked


def test_offline_is_said_with_the_mend(server: Server, tmp_path: Path):
    dead = "http://127.0.0.1:9/movielens"  # the discard port: nobody listens
    with pytest.raises(DataError, match=r"ml-1m.zip.md5: cannot be fetched: .*fetch it on a machine with a connection"):
        Movielens(path="1m").read(download=True, cache=tmp_path, publisher=dead)


def test_only_known_sets_can_be_downloaded(tmp_path: Path):
    with pytest.raises(ConfigError, match="choose one of 100k, 1m, 25m, latest-small"):
        fetch_set("10m", tmp_path)
