"""install.sh and install.ps1 as texts: what is replaced, what is refused, what the two have in common."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from ferryman_release.errors import MetadataError
from ferryman_release.signing.minisign import MinisignKey, minisign_verify
from ferryman_release.site import Site, site_files
from ferryman_release.site.installers import (
    KNOWN_GLOBAL,
    KNOWN_KEY,
    KNOWN_SIGNATURE,
    install_ps1,
    install_sh,
    key_id,
    replaced,
)
from support.site_factory import Published, publish, secret

DOCS = Path(__file__).resolve().parents[3] / "docs" / "install.md"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return publish(tmp_path, "https://releases.example.org/lantern/").site


@pytest.mark.parametrize("name", ["install.sh", "install.ps1"])
def test_nothing_is_left_to_replace(site: Site, name: str) -> None:
    """Every word of a template has its value, and no line is longer than an editor shows."""
    text = site_files(site)[name].decode("ascii")

    assert re.findall(r"@[A-Z0-9_]+@", text) == []
    assert "https://releases.example.org/lantern" in text
    assert secret().key.line in text
    assert secret().key.name in text


def test_the_same_site_gives_the_same_files(site: Site) -> None:
    """No clock, no order of a set: made twice, the bytes are equal."""
    assert site_files(site) == site_files(msgspec.structs.replace(site))


def test_the_script_knows_what_the_channels_offer(tmp_path: Path) -> None:
    """Each channel's payload is in the script, for machines that cannot check a signature."""
    made = publish(tmp_path, "https://releases.example.org")
    made.offer("beta", "2.0.0", made.add_version("2.0.0"))
    text = install_sh(made.site).decode()

    for channel in made.site.channels:
        assert all(f"{file.sha256} {file.path}\n" in text for file in channel.files)
    assert text.count("\nformat 1\n") == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"),
        ("name", "../up"),
        ("name", ""),
        ("executable", "$(id)"),
        ("executable", "lantern'"),
        ("executable", "lantern\n"),
        ("url", "https://example.org/'; rm -rf ~; '"),
        ("url", "https://example.org/\nrm"),
        ("url", "ftp://example.org"),
        ("url", "https://user:secret@example.org/"),
        ("key", "RW"),
        ("key", "'" * 56),
        ("default_channel", "stable;id"),
        ("default_channel", "`id`"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [install_sh, install_ps1])
def test_a_value_that_a_shell_could_misread_is_refused(
    site: Site, make: object, field: str, value: str
) -> None:
    """Values are words or nothing: no quote, no blank, no line break ever comes into a script."""
    assert callable(make)
    with pytest.raises(MetadataError) as caught:
        make(msgspec.structs.replace(site, **{field: value}))

    assert caught.value.advice
    assert len(caught.value.details) == 1


def test_a_replaced_value_is_not_looked_at_again() -> None:
    """A value that looks like a word of the template stays what it is."""
    assert replaced("@A@ @B@", {"A": "@B@", "B": "two"}) == "@B@ two"


def test_the_known_answer_is_a_real_signature() -> None:
    """What the script tries a verifier with was signed by the key that it names."""
    signature = (
        f"untrusted comment: x\n{KNOWN_SIGNATURE}\ntrusted comment: a known answer\n{KNOWN_GLOBAL}\n"
    ).encode()

    assert minisign_verify(b"a known answer\n", signature, MinisignKey.parse(KNOWN_KEY)) == "a known answer"


def test_the_key_id_is_minisigns(site: Site) -> None:
    """The number that `minisign` prints for the key."""
    assert key_id(site.key) == secret().key.name


def test_the_embedded_verifier_fits_into_single_quotes() -> None:
    """The Python inside of the shell script has no single quote, and is valid Python."""
    text = (files("ferryman_release.site") / "templates" / "ed25519.py.in").read_text(encoding="utf-8")

    assert "'" not in text
    compile(text, "ed25519", "exec")


def test_variables_of_a_strange_name_are_names(tmp_path: Path) -> None:
    """An executable that begins with a digit or has dots still has variables that a shell takes."""
    made = Published(root=tmp_path, url="https://example.org", executable="7-lan.tern")
    made.offer("stable", "1.0.0", made.add_version("1.0.0"))

    assert "${_7_LAN_TERN_INSTALL_CHANNEL:-}" in install_sh(made.site).decode()


def codes(text: str, pattern: str) -> set[int]:
    return {int(code) for code in re.findall(pattern, text)}


def test_exit_codes_are_documented(site: Site) -> None:
    """Every code that one of the scripts ends with is in docs/install.md, and no other."""
    table = codes(DOCS.read_text(encoding="utf-8"), r"(?m)^\| (\d+) \|")
    used = codes(install_sh(site).decode(), r"\bdie (\d+)")

    assert used <= table
    assert table - used == {0}
    assert codes(install_ps1(site).decode(), r"\bStop-With (\d+)") <= used


def test_options_are_documented(site: Site) -> None:
    """Every option of install.sh is in its own help and in docs/install.md."""
    text = install_sh(site).decode()
    taken = set(re.findall(r"(?m)^    (--[a-z-]+)(?: \| -h)?\)", text))
    help_page = text.partition("END_OF_USAGE")[2].partition("END_OF_USAGE")[0]

    assert len(taken) == 12
    assert taken <= set(re.findall(r"--[a-z-]+", help_page))
    assert taken <= set(re.findall(r"--[a-z-]+", DOCS.read_text(encoding="utf-8")))
