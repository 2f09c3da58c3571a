"""One dashboard and one Chromium for all browser tests; every page is watched for errors and foreign requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from stepscope.runs.store import Store
from tests import chromium

from .server import Dashboard


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    path = chromium.find()
    assert path, "there is no Chromium: make browser"
    expect.set_options(timeout=60_000)
    started = playwright.chromium.launch(executable_path=path, args=list(chromium.FLAGS))
    yield started
    started.close()


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    started = Dashboard(tmp_path_factory.mktemp("home"))
    yield started
    started.end()


@pytest.fixture
def store(dashboard: Dashboard) -> Iterator[Store]:
    """The dashboard's own store, seen from outside."""
    opened = Store(dashboard.home / "runs.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def open_page(browser: Browser, dashboard: Dashboard) -> Iterator[Callable[..., Page]]:
    """Opens a path of the dashboard in a browser profile of its own."""
    pages: list[Page] = []
    wrong: list[str] = []

    def allowed(url: str) -> bool:
        return url.startswith((dashboard.url, "data:", "blob:", f"ws://127.0.0.1:{dashboard.port}"))

    def open_path(path: str = "/", width: int = 1440, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        page.on("request", lambda request: None if allowed(request.url) else wrong.append(f"fetches {request.url}"))
        page.goto(dashboard.url + path)
        pages.append(page)
        return page

    yield open_path
    for page in pages:
        page.context.close()
    assert not wrong, wrong
