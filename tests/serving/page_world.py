"""A service on a port and a browser that looks at its page: shared by the tests of the page."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from http_world import opened

from lifelora.serving.app.app import create
from lifelora.serving.app.keys import Keys
from lifelora.serving.app.server import address, bound
from lifelora.serving.app.service import Service

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no chromium or google-chrome is installed", allow_module_level=True)
pytest.importorskip("playwright", reason="playwright drives the browser; it comes with the extra dev")

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402


@contextmanager
def at_a_port(folder: Path, store: Path, keys: Keys | None = None) -> Iterator[str]:
    """A service that is ready, and its address."""
    service = Service(lambda: opened(folder), store).start()
    with bound("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(create(service, keys), log_config=None))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield address(listening)
        finally:
            server.should_exit = True
            thread.join()
            service.close()


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless, without a sandbox of its own, which a user of a container may not make."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


@contextmanager
def looking(browser: Browser, place: str, quiet: bool = True, **how: object) -> Iterator[Page]:
    """The page, once it knows its run; at the end: nothing was wrong, and no other host was asked."""
    context = browser.new_context(**how)  # type: ignore[arg-type]
    context.set_default_timeout(60_000)
    page, said, asked = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(place)
        yield page
        assert all(url.startswith(place) for url in asked), asked
        assert not (said and quiet), said
    finally:
        context.close()
