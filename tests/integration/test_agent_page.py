"""The page for people, in a real Chromium, made by a real agent."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent
from support.devtools import Browser, Page, browser, chromium

pytestmark = [
    pytest.mark.integration,
    # The browser is spoken to over two pipes that it inherits; nothing is left open at its end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(not chromium(), reason="LOUD: the page is looked at in Chromium, and there is none"),
]

HOSTILE = (
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\"></table>&lt;"
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """With a service that is well, one that is not, a check whose output is hostile, and a refused configuration."""
    folder = tmp_path_factory.mktemp("page")
    common = {"type": "exec", "period": "1h", "splay": 0, "failure_threshold": 1, "timeout": "20s"}
    config: dict[str, Any] = {
        "services": {
            "well": {"command": [sys.executable, "-c", "import time; time.sleep(600)"]},
            "ill": {"command": ["/no/such/program"], "backoff": {"initial": "1h", "maximum": "1h"}},
        },
        "checks": {
            "hostile": {
                **common,
                "command": [sys.executable, "-c", f"print({HOSTILE!r}); raise SystemExit(1)"],
            },
            "fine": {**common, "command": [sys.executable, "-c", "print('fine')"]},
        },
        "listeners": {"extra": {"address": "127.0.0.1:0"}},
    }
    agent = Agent(folder, config)
    try:
        agent.running("well")
        agent.wait(lambda: all(each["last_run"] for each in agent.status()["checks"]), "the checks")
        agent.wait(
            lambda: all(each["state"] != "unknown" for each in agent.status()["checks"]), "their outcome"
        )
        agent.write("services: {broken: {comand: [x]}}")
        agent.send(signal.SIGHUP)
        agent.message("refused")
        yield agent
    finally:
        agent.end()


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    profile = tmp_path_factory.mktemp("profile")
    with browser(profile) as found:
        yield found
    shutil.rmtree(profile, ignore_errors=True)


COLOURS = """(selector => {
  const e = document.querySelector(selector);
  const number = c => c.match(/[\\d.]+/g).slice(0, 4).map(Number);
  let paper = e, found;
  while (paper) {
    found = number(getComputedStyle(paper).backgroundColor);
    if (found.length < 4 || found[3] > 0) break;
    paper = paper.parentElement;
  }
  return [number(getComputedStyle(e).color), found];
})"""


def contrast(page: Page, selector: str) -> float:
    """The ratio of WCAG 2.2, 1.4.3, of the first such element."""
    colours = page.run(f"{COLOURS}({json.dumps(selector)})")

    def light(colour: list[float]) -> float:
        parts = [value / 255 for value in colour[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(each) for each in colours), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page(agent: Agent, chrome: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    """Without a script, on a phone and on a desk, in both schemes: everything is there, readable, and stays text."""
    with chrome.page(width, dark=dark) as page:
        page.goto(agent.url + "/")
        text = page.run("document.body.innerText")
        for part in (
            "Watchkeeper",
            "well",
            "ill",
            "hostile",
            "fine",
            "extra",
            "the program /no/such/program is not there",
        ):
            assert part in text
        assert 'unknown key; did you mean "command"?' in text
        assert HOSTILE in text
        assert page.run("document.title") == "Watchkeeper: ready"
        assert page.run("document.querySelectorAll('script, img, iframe, object, form').length") == 0
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        assert page.complaints() == []
        page.screenshot(tmp_path / "page.png")
        for selector in (
            "h1",
            ".soft",
            ".badge.good",
            ".badge.bad",
            ".badge.wait",
            ".error",
            "a",
            "thead th",
            ".box p",
        ):
            if page.run(f"document.querySelector({selector!r}) !== null"):
                assert contrast(page, selector) >= 4.5, selector


def test_what_a_screen_reader_is_told(agent: Agent, chrome: Browser) -> None:
    """Landmarks, one heading of the first rank, tables with names, and headings of rows and columns."""
    with chrome.page(1280) as page:
        page.goto(agent.url + "/")
        tree = page.tree()
        roles = [role for role, _name, _more in tree]
        assert {"banner", "main", "contentinfo", "navigation"} <= set(roles)
        headings = [more["level"] for role, _name, more in tree if role == "heading"]
        assert headings[0] == 1
        assert set(headings[1:]) == {2}
        tables = [name for role, name, _more in tree if role == "table"]
        assert tables[:2] == ["Services (2, 1 not well)", "Checks (2, 1 not well)"]
        assert all(tables)
        assert {"rowheader", "columnheader"} <= set(roles)
        assert page.run("document.documentElement.lang") == "en"


def test_what_is_wrong_comes_first(agent: Agent, chrome: Browser) -> None:
    with chrome.page(1280) as page:
        page.goto(agent.url + "/")
        first = "[...document.querySelectorAll('table')].slice(0, 2).map(t => t.querySelector('tbody th').innerText)"
        assert page.run(first) == ["ill", "hostile"]


def test_refreshing_can_be_stopped(agent: Agent, chrome: Browser) -> None:
    """It refreshes by itself, with or without scripts; one link stops it, another one starts it again."""
    with chrome.page(1280, scripts=False) as page:
        page.goto(agent.url + "/")
        assert "Stop refreshing" in page.send("DOM.getOuterHTML", nodeId=_root(page))["outerHTML"]
    with chrome.page(1280) as page:
        page.goto(agent.url + "/")
        assert page.run("document.querySelector('meta[http-equiv=refresh]').content") == "5"
        page.click("a[href='/?refresh=0']")
        page.browser.wait("Page.loadEventFired")
        assert page.run("document.querySelector('meta[http-equiv=refresh]')") is None
        page.click("nav a[href='/']")
        page.browser.wait("Page.loadEventFired")
        assert page.run("document.querySelector('meta[http-equiv=refresh]') !== null")


def _root(page: Page) -> int:
    found: int = page.send("DOM.getDocument")["root"]["nodeId"]
    return found


def test_its_policy(agent: Agent) -> None:
    """Nothing may be loaded, run or framed; a browser that finds something all the same refuses it."""
    import urllib.request

    with urllib.request.urlopen(agent.url + "/", timeout=10) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
