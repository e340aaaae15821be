"""A headless Chromium, the system's own: nothing is downloaded, and the pages must work offline."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import Gateway

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module. Playwright's loop runs in this thread: Django must be told that ORM calls are ours."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def page(chromium: Browser, gateway: Gateway) -> Iterator[Page]:
    """A fresh window on the gateway. Whatever goes wrong in it, or is asked of another host, fails the test."""
    context = chromium.new_context(base_url=gateway.url, viewport={"width": 1400, "height": 900})
    context.set_default_timeout(15_000)
    window = context.new_page()
    problems: list[str] = []
    window.on("pageerror", lambda error: problems.append(f"{window.url}: {error}"))
    ours = (gateway.url, "data:", "blob:")
    window.on("request", lambda asked: asked.url.startswith(ours) or problems.append(asked.url))
    window.on("response", lambda answer: answer.status < 400 or problems.append(f"{answer.status} {answer.url}"))
    yield window
    context.close()
    assert problems == []
