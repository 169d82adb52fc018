"""The playground's page in a real browser: how tests open it and use its form."""

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

# The first takes half the time of the others.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH; on Debian: apt-get install chromium-headless-shell"
)

Look = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Other tests share the cores.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        # For root, and for containers with little shared memory.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Open the page; at the end, check that no script failed and that no other host was asked."""
    contexts, failures, hosts = list[BrowserContext](), list[str](), set[str]()

    def look(address: str, width: int = 1280, **options: Any) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 740}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("dialog", lambda dialog: failures.append(dialog.message))
        page.on("console", lambda entry: failures.append(entry.text) if "Security Policy" in entry.text else None)
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto(address)
        return page

    yield look
    for context in contexts:
        context.close()
    assert failures == []
    assert len(hosts) == 1, hosts


def wait(page: Page) -> None:
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true", timeout=20_000)


def select(page: Page, **scope: str) -> None:
    page.locator("#scope").select_option(json.dumps(scope, separators=(",", ":")))
    wait(page)


def find(page: Page, *inputs: str, **scope: str) -> None:
    select(page, **scope)
    for number, text in enumerate(inputs):
        page.locator(f"#field-{number}").fill(text)
    page.locator("#search").click()
    wait(page)


def fill(page: Page, **values: object) -> None:
    """Set controls by id, in the order given."""
    for control, value in values.items():
        box = page.locator(f"#{control}")
        if value is True:
            box.check()
        elif box.evaluate("box => box.localName") == "select":
            box.select_option(str(value))
        else:
            box.fill(str(value))
            box.blur()
    wait(page)


def texts(page: Page, selector: str) -> list[str]:
    return [str(text) for text in page.locator(selector).evaluate_all("all => all.map(item => item.textContent)")]
