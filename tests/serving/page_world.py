"""A browser that looks at the page of a service: shared by the tests of the page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no chromium or google-chrome is installed", allow_module_level=True)
pytest.importorskip("playwright", reason="playwright drives the browser; it comes with the extra dev")

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402


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
