"""What several tests stand on. The real trio is loaded once."""

from __future__ import annotations

import os
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny
from hypothesis import settings
from scripted import SCRIPT, TEMPLATE

from models import find_trio, open_backend
from models.backends.fake import FakeBackend

# The same examples in every run and no clock: what passed once passes again.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")


@pytest.fixture
def fake() -> FakeBackend:
    return FakeBackend(find_trio(), SCRIPT)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory) -> Path:
    return tiny.write_trio(tmp_path_factory.mktemp("tiny"), TEMPLATE.read_text())


@pytest.fixture(scope="session")
def tiny_backend(tiny_file):
    return open_backend(find_trio("tiny", tiny_file))


@pytest.fixture(scope="session")
def real():
    """The embedded trio, on its real weights."""
    backend = open_backend(find_trio())
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, headless; under CI its absence is a failure."""
    from playwright.sync_api import sync_playwright

    path = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if not path:
        message = "No Chromium: install Debian's chromium, or name one in CHROMIUM."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()


@contextmanager
def serving():
    """Serve a page over a trio that `opener` opens; yields a function that returns its address."""
    from playground.comparison.trio_loader import load_trios
    from playground.ui.page import build
    from playground.ui.theme import look

    pages = []

    def start(opener, trios=None) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gradio's and starlette's own, none of ours
            built = build(load_trios(trios or [find_trio()], opener))
            _, url, _ = built.launch(
                prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **look()
            )
        pages.append(built)
        return url

    try:
        yield start
    finally:
        for built in pages:
            built.close(verbose=False)


@pytest.fixture
def serve():
    with serving() as start:
        yield start


@pytest.fixture(scope="module")
def serve_once():
    """The same for all tests of a file, which leave nothing in the page."""
    with serving() as start:
        yield start


@pytest.fixture
def visit(browser):
    """Open a page; fail on any script error and on any request that leaves the machine."""
    contexts, errors, strangers = [], [], []

    def go(url, width=1280, height=900, theme="light", query=""):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                strangers.append(request.url)
                if not request.url.startswith((url, "data:", "blob:"))
                else None
            ),
        )
        page.goto(f"{url}?__theme={theme}{query}")
        page.wait_for_selector("#compare")
        return page

    yield go
    for context in contexts:
        context.close()
    assert errors == []
    assert strangers == []
