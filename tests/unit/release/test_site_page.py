"""The download page as a text: colours that can be read, words that stay words, numbers that people understand."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_build.artifacts import Artifact, Kind, Needs, ProjectInfo, Source
from ferryman_release.model import Asset, AssetKind, Release
from ferryman_release.site import Site, SiteFile, files_of, site_files
from ferryman_release.site.html import Markup, escaped, tag
from ferryman_release.site.labels import needs_label, size_label, target_label, target_order
from ferryman_release.site.page import index_html
from support.site_factory import publish

CSS = (files("ferryman_release.site") / "templates" / "page.css").read_text(encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return publish(tmp_path, "https://releases.example.org/lantern/").site


def page(site: Site) -> str:
    return index_html(site).decode("utf-8")


# ---- colours ---------------------------------------------------------------------------------------------------------


def palette(dark: bool) -> dict[str, str]:
    light, _, rest = CSS.partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    return (
        {**found, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", rest.partition("*, *::before")[0]))}
        if dark
        else found
    )


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, definition)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# Each pair of text and ground that the style sheet makes.
TEXT = [
    *itertools.product(("ink", "faint", "accent", "warn"), ("paper", "card", "tint")),
    ("panel-ink", "panel"), ("button-ink", "button"), ("card", "accent"),
]  # fmt: skip


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT)
def test_text_can_be_read(text: str, ground: str, dark: bool) -> None:
    """4.5 to 1 for every text (WCAG 2.2, 1.4.3), light and dark."""
    colours = palette(dark)

    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_outlines_can_be_seen(dark: bool) -> None:
    """3 to 1 for the outline of what has the focus, on each ground that it is drawn on (WCAG 2.2, 1.4.11)."""
    colours = palette(dark)

    assert min(contrast(colours["accent"], colours[ground]) for ground in ("paper", "tint")) >= 3
    assert contrast(colours["panel-ink"], colours["panel"]) >= 3


def test_colours_have_one_place() -> None:
    """Rules take colours from the palette, so that the test above sees them all."""
    rules = CSS.partition("*, *::before")[2]

    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb|hsl|oklch", rules) == []


# ---- words -----------------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Tags and texts of a page, as a browser's parser splits it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(text: str) -> Outline:
    made = Outline()
    made.feed(text)
    return made


@given(
    words=st.text(max_size=60)
    | st.sampled_from(["<b>", "\"'><script>x()</script>", "</style>", "@MAIN@", "&lt;"])
)
def test_words_of_others_stay_words(words: str) -> None:
    """A title, a description, a reason or a requirement adds no tag and no attribute, whatever it says."""

    def made(value: str) -> Outline:
        file = SiteFile(
            target="linux-amd64", kind="executable", path="x/1/x", size=1, sha256="0" * 64, runtime=(value,)
        )
        return outline(tag("section", tag("h1", value), tag("a", value, href=value), needs_label(file)))

    assert [name for name, _ in made(words).tags] == [name for name, _ in made("plain").tags]
    assert made(words).tags[2][1].keys() == {"href"}


def test_only_markup_is_not_escaped() -> None:
    """Text becomes markup once."""
    assert escaped("<&\"'") == "&lt;&amp;&quot;&#x27;"
    assert escaped(Markup("<b>")) == "<b>"
    assert (
        tag("p", "<", Markup("<br>"), title='"', hidden=True, open=False)
        == '<p title="&quot;" hidden>&lt;<br></p>'
    )
    assert escaped("a\x00b\u202ec") == "a b c"


def test_the_policy_names_style_and_script_by_hash(site: Site) -> None:
    """Exactly the inline style and script that the page has may run."""
    text = page(site)
    policy = html.unescape(re.search(r'Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]

    for element, directive in (("style", "style-src"), ("script", "script-src")):
        content = re.search(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert content
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r' (on[a-z]+|style)="', text)


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    """The page's only sources are itself and its icon; links are relative, so that a mirror's page stays there."""
    tags = outline(page(site)).tags

    assert [attrs["src"] for _, attrs in tags if "src" in attrs] == []
    links = [str(attrs["href"]) for name, attrs in tags if name == "a"]
    assert [link for link in links if "://" in link] == []
    assert [str(attrs["href"])[:5] for name, attrs in tags if name == "link"] == ["data:"]


def test_tables_say_what_heads_what(site: Site) -> None:
    """Each table has a caption, and each header cell a scope."""
    tags = outline(page(site)).tags

    assert (
        len([name for name, _ in tags if name == "table"])
        == len([name for name, _ in tags if name == "caption"])
        == 3
    )
    assert all(attrs.get("scope") in ("col", "row", "rowgroup") for name, attrs in tags if name == "th")
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_a_withdrawn_version_says_why(tmp_path: Path) -> None:
    """In the history it is struck through, with the reason; in index.json it is marked."""
    made = publish(tmp_path, "https://example.org")
    made.offer("stable", "2.0.0", made.add_version("2.0.0"))
    made.yank("stable", "1.0.0")

    assert "<del>1.0.0</del>" in page(made.site)
    assert "It loses data." in page(made.site)
    index = json.loads(site_files(made.site)["index.json"])
    assert [one["yanked"] for one in index["channels"]["stable"]["history"]] == [False, True]


def test_a_rollout_and_a_minimum_are_told(tmp_path: Path) -> None:
    """The channel's row says for how many machines a version is, and which one is too old."""
    made = publish(tmp_path, "https://example.org")
    made.offer("stable", "2.0.0", made.add_version("2.0.0"), percent=12.5, minimum="0.9")

    assert "to 12.5 % of machines; the rest stays on 1.0.0; nothing older than 0.9 should run" in page(
        made.site
    )


def test_before_the_first_release_the_page_says_so(site: Site) -> None:
    """A site without channels is a page, not an error."""
    assert "Nothing has been released yet." in page(msgspec.structs.replace(site, channels=()))


def test_only_commands_that_lead_somewhere_are_shown(tmp_path: Path) -> None:
    """A release without files for Windows has no command for PowerShell."""
    made = publish(tmp_path, "https://example.org", targets=("linux-amd64",))

    assert "install.sh | sh" in page(made.site)
    assert "| iex" not in page(made.site)


def test_a_home_page_is_a_link_only_over_https(site: Site) -> None:
    """What could run in the page when it is clicked is no link."""
    assert 'href="https://example.org/"' in page(
        msgspec.structs.replace(site, homepage="https://example.org/")
    )
    assert "javascript:" not in page(msgspec.structs.replace(site, homepage="javascript:alert(1)"))


def test_index_json_has_what_the_page_has(site: Site) -> None:
    """Programs find every file with its absolute URL, size, hash, needs and companions."""
    index = json.loads(site_files(site)["index.json"])
    stable = index["channels"]["stable"]

    assert (index["schema-version"], index["default-channel"], index["minisign-key"]) == (
        1,
        "stable",
        site.key,
    )
    file = next(
        one for one in stable["files"] if (one["target"], one["kind"]) == ("linux-amd64", "executable")
    )
    base = "https://releases.example.org/lantern/artifacts/lantern-agent/1.0.0/"
    assert file["url"] == base + "lantern-1.0.0-linux-amd64"
    assert file["sbom"] == file["url"] + ".cdx.json"
    assert file["signature"] == base + "SHA256SUMS.minisig"
    assert file["floor"] == {"glibc": "2.17"}


def test_a_plus_in_a_version_is_no_blank(tmp_path: Path) -> None:
    """In a path of S3 a plus means a blank: it is written %2B."""
    made = publish(tmp_path, "https://example.org", "1.0.0+local.1")

    assert "1.0.0%2Blocal.1/lantern-1.0.0%2Blocal.1-linux-amd64" in page(made.site)
    assert "%2Blocal.1/" in site_files(made.site)["index.json"].decode()


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("linux-amd64", "Linux x86-64"),
        ("linux-arm64-musl", "Linux ARM64, musl"),
        ("darwin-arm64", "macOS Apple silicon"),
        ("windows-arm64", "Windows ARM64"),
        ("linux-loong64", "Linux loong64"),
        ("plan9-amd64", "plan9-amd64"),
    ],
)  # fmt: skip
def test_targets_have_names_for_people(target: str, label: str) -> None:
    """One that nobody knows keeps its id."""
    assert target_label(target) == label


def test_targets_stand_in_the_order_that_people_look_in() -> None:
    """Linux, macOS, Windows, then what is rarer."""
    assert sorted(["windows-amd64", "plan9-amd64", "darwin-arm64", "linux-arm64", "linux-amd64"], key=target_order) == [
        "linux-amd64", "linux-arm64", "darwin-arm64", "windows-amd64", "plan9-amd64",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "label"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (11_188_879, "11.2 MB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes_are_read_by_people(size: int, label: str) -> None:
    """Decimal units, one digit after the point."""
    assert size_label(size) == label


def test_a_release_becomes_rows_with_their_companions() -> None:
    """Each artifact of release.json has its place, its needs, and what describes and signs it, in the order of targets."""
    artifacts = tuple(
        Artifact(
            kind=Kind.EXECUTABLE, target=target, path=f"lantern-1.0.0-{target}", size=7, sha256="ab" * 32,
            collector="standalone", needs=Needs(floor={"glibc": "2.17"}, libraries=("libc.so.6",)),
        )
        for target in ("linux-arm64", "linux-amd64")
    )  # fmt: skip
    first = artifacts[1].path
    named = ((f"{first}.cdx.json", AssetKind.SBOM), (f"{first}.sigstore.json", AssetKind.PROVENANCE),
             (f"{first}.intoto.json", AssetKind.PROVENANCE))  # fmt: skip
    assets = [Asset(path=path, kind=kind, size=1, sha256="0" * 64, about=first) for path, kind in named]
    signature = Asset(
        path="SHA256SUMS.minisig", kind=AssetKind.SIGNATURE, size=1, sha256="0" * 64, about="SHA256SUMS"
    )
    release = Release(
        project=ProjectInfo(name="lantern", version="1.0.0"), source=Source(), released="2024-01-02T03:04:05Z",
        assets=(*assets, signature), artifacts=artifacts,
    )  # fmt: skip

    rows = files_of(release)

    assert [row.target for row in rows] == ["linux-amd64", "linux-arm64"]
    assert rows[0].sbom == f"lantern/1.0.0/{first}.cdx.json"
    assert rows[0].provenance == f"lantern/1.0.0/{first}.intoto.json"
    assert {row.signature for row in rows} == {"lantern/1.0.0/SHA256SUMS.minisig"}
    assert (rows[1].sbom, rows[1].provenance, rows[1].floor) == ("", "", {"glibc": "2.17"})
    unsigned = msgspec.structs.replace(release, assets=tuple(assets))
    assert {row.signature for row in files_of(unsigned)} == {""}
