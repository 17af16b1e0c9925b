"""An endpoint on this machine that answers as told: shared by the tests of what writes and of what makes vectors."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lifelora.endpoint import caller


class Server:
    """Takes its answers from a list, (status, headers, body); when that is empty, answers as an LM would."""

    def __init__(self):
        self.planned, self.requests, self.lock = [], [], threading.Lock()
        self.slow = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append((self.path, body, dict(self.headers)))
                    status, headers, answer = server.planned.pop(0) if server.planned else (200, {}, usual(self.path, body))
                time.sleep(server.slow)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def usual(path, body):
    if path.endswith("/chat/completions"):
        return {"choices": [{"message": {"content": f" You said {body['messages'][0]['content']}. "}}]}
    rows = [{"index": place, "embedding": [len(text), place, 0.5]} for place, text in enumerate(body["input"])]
    return {"data": rows[::-1]}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def waits(monkeypatch):
    waited = []
    monkeypatch.setattr(caller, "sleep", waited.append)
    return waited
