"""The download page in a real Chromium: clicks, keys, three widths, light and dark, and what a screen reader is told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ferryman_release.site import site_files
from support.devtools import Browser, Page, browser, chromium
from support.site_factory import Published
from support.site_server import SiteServer, serving

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not chromium(), reason="there is no Chromium here (Debian: apt-get install chromium)"),
    # The browser is spoken to over two pipes that it inherits; nothing is left open at its end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WIDTHS = (360, 768, 1280)
TARGETS = ("darwin-arm64", "linux-amd64", "linux-amd64-musl", "linux-arm64", "windows-amd64")


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteServer]:
    root = tmp_path_factory.mktemp("public")
    with serving(root) as running:
        site = Published(root=root, url=running.url, targets=TARGETS)
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            files = [msgspec.structs.replace(one, size=11_188_879) for one in site.add_version(version)]
            site.offer("stable", version, files, minimum="1.0.0")
        site.offer("beta", "2.0.0rc1", site.add_version("2.0.0rc1"), percent=10.0, previous="1.2.0")
        site.yank("stable", "1.1.0")
        yield running


def opened(page: Page, server: SiteServer) -> Page:
    page.goto(f"{server.url}/index.html")
    page.run("new Promise(done => setTimeout(done, 0))")
    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_at_any_width(
    chrome: Browser, server: SiteServer, tmp_path: Path, width: int, dark: bool
) -> None:
    """No horizontal scrolling and nothing beyond the edge, with folded parts open; the page has no complaints."""
    with chrome.page(width, dark=dark) as page:
        opened(page, server)
        page.run("document.querySelectorAll('details').forEach(one => one.open = true)")

        assert page.run("document.documentElement.scrollWidth") == width
        beyond = page.run(
            "[...document.querySelectorAll('main *, header *, footer *')]"
            ".filter(e => !e.closest('.unseen, thead') && e.getClientRects().length)"
            f".filter(e => e.getBoundingClientRect().right > {width} + 0.5 || e.getBoundingClientRect().left < -0.5)"
            ".map(e => e.outerHTML.slice(0, 80))"
        )
        assert beyond == []
        assert page.complaints() == []
        assert page.screenshot(tmp_path / "page.png").stat().st_size > 20_000


def test_a_click_copies_the_command_and_says_so(chrome: Browser, server: SiteServer) -> None:
    """The button puts exactly the command on the clipboard; the button and a live region say that it did."""
    with chrome.page(1280) as page:
        opened(page, server)
        chrome.send(
            "Browser.grantPermissions", origin=server.url, browserContextId=page.ids.context,
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        )  # fmt: skip
        page.click("button[data-copy=command-unix]")

        assert page.run("waited('#said', /Copied/)".replace("waited", WAITED)) == "Copied to the clipboard."
        assert page.run("document.querySelector('button.done .word').textContent") == "Copied"
        assert page.run("navigator.clipboard.readText()") == f"curl -fsSL {server.url}/install.sh | sh"


# What the text of an element is once it matches; a page that never comes to it is ended by the browser's own limit.
WAITED = (
    "((where, what) => new Promise(done => { const node = document.querySelector(where);"
    " const look = () => what.test(node.textContent) ? done(node.textContent) : requestAnimationFrame(look); look(); }))"
)


def test_without_a_clipboard_the_selection_is_copied(chrome: Browser, server: SiteServer) -> None:
    """On a plain http page there is no clipboard to write to: the command is selected, which Control C then takes."""
    with chrome.page(1280) as page:
        opened(page, server)
        page.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")

        page.click("button[data-copy=command-windows]")

        assert page.run("waited('#said', /./)".replace("waited", WAITED))
        assert page.run("getSelection().toString().trim()") == f"irm {server.url}/install.ps1 | iex"


def test_the_keyboard_reaches_everything_in_reading_order(chrome: Browser, server: SiteServer) -> None:
    """Tab goes through links and buttons from top to bottom, each with a visible outline; Enter on the first skips."""
    with chrome.page(1280) as page:
        opened(page, server)
        stops = []
        for _ in range(12):
            page.press("Tab", 9)
            stops.append(
                page.run(
                    "(e => [e.textContent.trim(), e.getBoundingClientRect().top + scrollY,"
                    " getComputedStyle(e).outlineStyle, parseFloat(getComputedStyle(e).outlineWidth)])"
                    "(document.activeElement)"
                )
            )

        assert stops[0][0] == "Skip to the content"
        names = [name for name, *_ in stops]
        assert any(name.startswith("Copy the command for Linux") for name in names)
        assert {"install.sh", "install.ps1"} <= set(names)
        tops = [top for _, top, *_ in stops[1:]]
        assert all(later >= earlier - 40 for earlier, later in itertools.pairwise(tops))
        assert {style for *_, style, _width in stops} == {"solid"}
        assert min(width for *_, width in stops) >= 2


def test_enter_on_the_skip_link_goes_to_the_content(chrome: Browser, server: SiteServer) -> None:
    """The next Tab is inside of the content."""
    with chrome.page(1280) as page:
        opened(page, server)
        page.press("Tab", 9)
        page.press("Enter", 13, "\r")

        assert page.run("document.activeElement.id") == "main"


def test_enter_and_space_press_a_button(chrome: Browser, server: SiteServer) -> None:
    """The copy button works from the keyboard."""
    for key, code, text in (("Enter", 13, "\r"), (" ", 32, " ")):
        with chrome.page(1280) as page:
            opened(page, server)
            page.run("document.querySelector('button').focus()")
            page.press(key, code, text)

            assert page.run("waited('#said', /./)".replace("waited", WAITED))


@pytest.mark.parametrize("width", [360, 1280])
def test_a_screen_reader_is_told_what_the_eye_sees(chrome: Browser, server: SiteServer, width: int) -> None:
    """Landmarks, one first heading, named tables with header cells, buttons whose names say what they copy."""
    with chrome.page(width) as page:
        tree = opened(page, server).tree()

        found = [(role, name) for role, name, _ in tree]
        assert {role for role, _ in found} >= {"banner", "main", "contentinfo", "table", "status"}
        levels = [properties["level"] for role, _, properties in tree if role == "heading"]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
        buttons = [name for role, name in found if role == "button"]
        assert "Copy the command for Linux and macOS" in buttons
        assert len(set(buttons)) == len(buttons)
        tables = [name for role, name in found if role == "table"]
        assert tables == [
            "Files of 1.2.0, as stable offers it", "What each channel offers", "All versions, newest first",
        ]  # fmt: skip
        assert [name for role, name in found if role == "columnheader"][:4] == [
            "File",
            "Size",
            "Needs",
            "Also",
        ]
        assert any(role == "rowheader" and "lantern-1.2.0-linux-amd64" in name for role, name in found)
        links = [name for role, name in found if role == "link"]
        assert "SBOM of lantern-1.2.0-linux-amd64" in links
        assert all(links)


def test_what_visits_is_put_first(chrome: Browser, server: SiteServer) -> None:
    """A visitor from Windows sees PowerShell first; one on Linux the shell, and a note at the likely file."""
    seen = {}
    for platform, agent in (
        ("Windows", "Windows NT 10.0; Win64; x64"),
        ("Linux", "X11; Linux aarch64"),
        ("macOS", "Macintosh"),
    ):
        with chrome.page(1280) as page:
            page.send(
                "Emulation.setUserAgentOverride", userAgent=f"Mozilla/5.0 ({agent}) Chrome/140", platform=platform,
                userAgentMetadata={
                    "platform": platform, "platformVersion": "1", "model": "", "mobile": False, "bitness": "64",
                    "architecture": "x86" if platform == "Windows" else "arm",
                },
            )  # fmt: skip
            opened(page, server)
            first = page.run("document.querySelector('.command h3').textContent")
            seen[platform] = (first, page.run("document.querySelector('tbody.mine').dataset.target"))

    assert seen == {
        "Windows": ("Windows, in PowerShell", "windows-amd64"),
        "Linux": ("Linux and macOS", "linux-arm64"),
        "macOS": ("Linux and macOS", "darwin-arm64"),
    }


def test_it_is_whole_without_javascript(chrome: Browser, server: SiteServer) -> None:
    """Commands, files, channels and history are there; there is no button that would do nothing."""
    with chrome.page(1280, scripts=False) as page:
        page.goto(f"{server.url}/index.html")
        document = page.send("DOM.getDocument", depth=-1)["root"]["nodeId"]
        text = page.send("DOM.getOuterHTML", nodeId=document)["outerHTML"]
        roles = [role for role, _, _ in page.tree()]

        assert roles.count("table") == 3
        assert "button" not in roles
        assert f"curl -fsSL {server.url}/install.sh | sh" in re.sub(r"<[^>]*>", "", text)


def test_every_link_leads_somewhere(chrome: Browser, server: SiteServer) -> None:
    """Artifacts, lists, signatures and scripts of the page are where its links say."""
    with chrome.page(1280) as page:
        opened(page, server)
        links = page.run("[...new Set([...document.links].map(link => link.href))]")

    there = [link for link in links if not link.endswith((".cdx.json", ".intoto.json")) and "#" not in link]
    assert len(there) > 20
    for link in there:
        assert (server.root / link.removeprefix(f"{server.url}/")).is_file(), link


def test_hostile_words_stay_words(chrome: Browser, tmp_path: Path) -> None:
    """Markup in a title, a description, a reason or a file's needs is shown as text; nothing of it runs or is loaded."""
    evil = "</title></style></script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    with serving(tmp_path) as server:
        site = Published(root=tmp_path, url=server.url, targets=("linux-amd64",))
        files = [msgspec.structs.replace(one, runtime=(evil,)) for one in site.add_version("1.0.0")]
        site.offer("stable", "1.0.0", files)
        site.yank("stable", "1.0.0")
        stable = site.channels["stable"]
        yanked = (msgspec.structs.replace(stable.yanked[0], reason=evil),)
        hostile = msgspec.structs.replace(
            site.site, title=evil, description=evil, homepage="javascript:alert(1)",
            channels=(msgspec.structs.replace(stable, yanked=yanked),),
        )  # fmt: skip
        (tmp_path / "index.html").write_bytes(site_files(hostile)["index.html"])
        with chrome.page(1280) as page:
            opened(page, server)

            assert page.run("document.title") == f"{evil}: downloads"
            assert page.run("document.querySelector('h1').textContent") == evil
            assert page.run("document.querySelectorAll('img, iframe').length") == 0
            assert page.run("document.querySelectorAll('script').length") == 1
            assert page.run("[...document.links].every(link => link.protocol.startsWith('http'))")
            assert page.complaints() == []


def test_the_policy_lets_nothing_else_run(chrome: Browser, server: SiteServer) -> None:
    """A script, a style or a picture that somebody managed to add is refused by the page's own policy."""
    with chrome.page(1280) as page:
        opened(page, server)
        blocked = page.run(
            "new Promise(done => { const seen = []; document.addEventListener('securitypolicyviolation', e => {"
            " seen.push(e.effectiveDirective); if (seen.length === 2) done(seen.sort()); });"
            " const style = document.createElement('style'); style.textContent = 'body { display: none }';"
            " const image = document.createElement('img'); image.src = '/x.png';"
            " document.body.append(style, image); })"
        )

        assert blocked == ["img-src", "style-src-elem"]
        assert page.run("getComputedStyle(document.body).display") == "block"
