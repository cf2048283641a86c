"""index.html: the download page, whole without JavaScript and without anything loaded from elsewhere.

Style and script are inline and named by hash in the page's own Content-Security-Policy, so that nothing else runs, also
not what somebody may have put into a description. Links are relative: a mirror's page leads to the mirror's files.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from urllib.parse import quote

from ferryman_release.model import ARTIFACTS
from ferryman_release.site.html import Markup, escaped, joined, tag
from ferryman_release.site.installers import replaced
from ferryman_release.site.labels import day
from ferryman_release.site.model import Site, SiteChannel
from ferryman_release.site.tables import channels_table, files_table, history_table

ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>"
    "<rect width='16' height='16' rx='3.5' fill='%230b5d54'/>"
    "<path d='M8 3v6.2M5.2 6.8 8 9.6l2.8-2.8M4 12.6h8' fill='none' stroke='white' stroke-width='1.6' "
    "stroke-linecap='round' stroke-linejoin='round'/></svg>"
)


def index_html(site: Site) -> bytes:
    """The page."""
    style, script = _asset("page.css"), _asset("page.js")
    offered = site.channel(site.default_channel)
    words = {
        "POLICY": escaped(_policy(style, script)),
        "TITLE": escaped(site.title or site.name),
        "DESCRIPTION": escaped(site.description),
        "ICON": Markup(ICON),
        "STYLE": style,
        "SCRIPT": script,
        "HEADER": _header(site, offered),
        "MAIN": joined(_sections(site, offered), "\n"),
        "FOOTER": _footer(site),
    }
    return replaced(_asset("page.html.in"), words).encode("utf-8")


def _asset(name: str) -> str:
    return (files("ferryman_release.site") / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() + "'"

    return (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _header(site: Site, offered: SiteChannel | None) -> Markup:
    parts = [tag("h1", site.title or site.name)]
    if site.description:
        parts.append(tag("p", site.description, class_="lead"))
    if offered:
        released = tag("span", "released ", tag("time", day(offered.released), datetime=offered.released))
        version = tag("strong", offered.version)
        parts.append(tag("p", version, " ", tag("span", offered.channel), " ", released, class_="version"))
    return joined(parts, "\n")


def _sections(site: Site, offered: SiteChannel | None) -> list[Markup]:
    if offered is None:
        return [tag("p", "Nothing has been released yet.")]
    return [
        _section("install", "Install", *_install(site, offered)),
        _section("downloads", "Downloads", *_downloads(site, offered)),
        _section("verify", "Check a download yourself", *_verify(site, offered)),
        _section("channels", "Channels", channels_table(site)),
        _section("history", "History", history_table(site)),
    ]


def _section(name: str, title: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", title, id=name), *content, aria_labelledby=name)


def _install(site: Site, offered: SiteChannel) -> list[Markup]:
    systems = {file.target.partition("-")[0] for file in offered.files}
    url = site.url.rstrip("/")
    blocks = []
    if systems - {"windows"}:
        blocks.append(_command("unix", _unix_name(systems), f"curl -fsSL {url}/install.sh | sh"))
    if "windows" in systems:
        blocks.append(_command("windows", "Windows, in PowerShell", f"irm {url}/install.ps1 | iex"))
    scripts = [tag("a", name, href=name) for name in ("install.sh", "install.ps1")]
    note = tag(
        "p", "The installer checks a signature or a hash before it installs anything, and stops where it can check neither. "
        "The same command updates. Read it first: ", scripts[0], ", ", scripts[1], ".", class_="note",
    )  # fmt: skip
    return [tag("div", *blocks, class_="commands", id="commands"), note]


def _unix_name(systems: set[str]) -> str:
    names = [name for system, name in (("linux", "Linux"), ("darwin", "macOS")) if system in systems]
    return " and ".join(names) or "Unix"


def _command(system: str, name: str, command: str) -> Markup:
    """A command and its button, which is shown by the script alone."""
    hidden = tag("span", f" the command for {name}", class_="unseen")
    button = tag(
        "button",
        tag("span", "Copy", class_="word"),
        hidden,
        type="button",
        hidden=True,
        data_copy=f"command-{system}",
    )
    return tag(
        "div", tag("h3", name, id=f"for-{system}"),
        tag("div", tag("pre", tag("code", command, id=f"command-{system}"), tabindex="0", aria_labelledby=f"for-{system}",
                       role="region"), button, class_="line"),
        class_="command", data_system=system,
    )  # fmt: skip


def _downloads(site: Site, offered: SiteChannel) -> list[Markup]:
    """The default channel's files; those of a channel with another version are folded away."""
    parts = [files_table(offered, f"Files of {offered.version}, as {offered.channel} offers it")]
    for channel in site.channels:
        if channel.version == offered.version or not channel.files:
            continue
        title = f"Files of {channel.version}, as {channel.channel} offers it"
        summary = tag("summary", f"{channel.channel}: {channel.version}")
        parts.append(tag("details", summary, files_table(channel, title)))
    return parts


def _verify(site: Site, offered: SiteChannel) -> list[Markup]:
    folder = f"{ARTIFACTS}/{site.name}/{offered.version}"
    links = [tag("a", name, href=quote(f"{folder}/{name}")) for name in ("SHA256SUMS", "SHA256SUMS.minisig")]
    command = f"minisign -V -P {site.key} -m SHA256SUMS\nsha256sum --check --ignore-missing SHA256SUMS"
    hidden = tag("span", " the commands that check a download", class_="unseen")
    return [
        tag("p", "Put ", links[0], " and ", links[1], " beside what you have downloaded. The first command checks who "
            "signed the list, the second that your file is in it."),
        tag("div",
            tag("pre", tag("code", command, id="command-verify"), tabindex="0", role="region", aria_labelledby="verify"),
            tag("button", tag("span", "Copy", class_="word"), hidden, type="button", hidden=True, data_copy="command-verify"),
            class_="line"),
    ]  # fmt: skip


def _footer(site: Site) -> Markup:
    parts = [tag("a", "index.json", href="index.json"), " has all of this for programs."]
    if site.homepage.startswith("https://"):
        parts += [" ", tag("a", "Home page", href=site.homepage), "."]
    if site.updated:
        parts += [" Updated ", tag("time", day(site.updated), datetime=site.updated), "."]
    return tag("p", *parts)
