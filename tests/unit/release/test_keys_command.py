"""`ferryman keys` through the real command line: what it makes, asks, refuses and never shows."""

from __future__ import annotations

import base64
import json
import re
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from ferryman_release import cli
from ferryman_release.commands import keys as command
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.signing import keyfile
from support.release_keys import NOW, OFFLINE, make_keys, private_key, signer

PASSPHRASE = "never-to-be-seen 灯 in any place"
PYPROJECT = """\
[project]
name = "lantern"
version = "1.0.0"
[project.scripts]
lantern = "lantern:main"
[tool.ferryman.release]
channels = ["canary", "stable"]
"""


class Bench:
    """A project, a folder for private keys, and the command line."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.project = tmp_path / "project"
        self.private = tmp_path / "private"
        self.capsys = capsys

    @property
    def folder(self) -> KeyFolder:
        return KeyFolder(self.project / "keys")

    def run(self, *words: str | Path) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        code = cli.main(["keys", *map(str, words)])
        found = self.capsys.readouterr()
        return code, found.out, found.err

    def ok(self, *words: str | Path) -> str:
        code, out, err = self.run(*words)
        assert code == 0, err
        return out

    def key(self, name: str) -> str:
        return f"file:{self.private / name}.pem"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    found = Bench(tmp_path, capsys)
    found.project.mkdir()
    (found.project / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.chdir(found.project)
    monkeypatch.setenv("FERRYMAN_KEY_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(keyfile, "PASSES", 1)
    monkeypatch.setattr(command, "now", lambda: NOW)
    return found


@pytest.fixture
def made(bench: Bench) -> Bench:
    make_keys(bench.project / "keys", channels=("canary", "stable"), private=bench.private)
    return bench


def test_one_command_makes_everything(bench: Bench) -> None:
    """Three locked offline keys, a locked key for each online role, a valid folder, and the lines for pyproject.toml."""
    out = bench.ok("init", "--private", bench.private)
    roles = ("snapshot", "timestamp", "canary", "stable", "minisign", "provenance")
    assert {path.name for path in bench.private.iterdir()} == {f"{name}.pem" for name in (*OFFLINE, *roles)}
    for path in bench.private.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert bench.folder.channels() == ("canary", "stable")
    assert "Take them apart now" in out
    lines = dict(re.findall(r'^(\w+) = "(.*)"$', out, re.MULTILINE))
    assert lines == {role: f"file:{bench.private / role}.pem" for role in roles}
    with (bench.project / "pyproject.toml").open("a") as file:
        file.write(
            "[tool.ferryman.release.signers]\n"
            + "".join(f'{role} = "{uri}"\n' for role, uri in lines.items())
        )
    assert bench.run("status")[0] == 0


def test_holders_make_their_own_keys(bench: Bench) -> None:
    """Each makes a pair and hands over the public half; two sign the draft, one after the other."""
    for name in ("ann", "ben", "cleo"):
        assert "stays with you" in bench.ok("new", bench.private / f"{name}.pem")
    pubs = [bench.private / f"{name}.pub" for name in ("ann", "ben", "cleo")]
    out = bench.ok("init", "--private", bench.private, "--public", *pubs)
    assert "1.root.json wants 2 of ann, ben, cleo" in out
    assert "Take them apart" not in out
    out = bench.ok("sign", "--yes", "--key", bench.key("ann"))
    assert "ann (" in out
    assert "wants 1 of ben, cleo" in out
    assert "valid: 1.root.json, 1.targets.json" in bench.ok("sign", "--yes", "--key", bench.key("cleo"))
    assert "Nothing waits" in bench.ok("sign", "--yes", "--key", bench.key("cleo"))


def test_online_keys_are_taken_from_where_the_settings_say(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in a variable is used, a file that is not there is made there."""
    monkeypatch.setenv("STABLE", base64.b64encode(keyfile.plain_pem(private_key("stable"))).decode())
    place = bench.private / "elsewhere" / "snapshot.pem"
    with (bench.project / "pyproject.toml").open("a") as file:
        file.write(f'[tool.ferryman.release.signers]\nstable = "env:STABLE"\nsnapshot = "file:{place}"\n')
    out = bench.ok("init", "--private", bench.private)
    assert [key.keyid for key in bench.folder.keys("stable")] == [signer("stable").public_key.keyid]
    assert place.is_file()
    assert not (bench.private / "stable.pem").exists()
    assert "stable =" not in out


def refused(bench: Bench, code: int, *words: str | Path) -> str:
    found, _, err = bench.run(*words)
    assert found == code, err
    assert "what to do: " in err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["init"], 2, "where the offline keys come from"),
        (["init", "--private", "inside"], 2, "inside of the project"),
        (["init", "--public", "a.pub", "--private", "../private"], 24, "a.pub cannot be read"),
        (["init", "--public", "a.pub"], 2, "keys of snapshot, timestamp, canary"),
        (["new"], 2, "wants a FILE"),
        (["status"], 24, "There are no keys"),
        (["rotate", "timestamp"], 24, "There is no targets.json"),
        (["sgin"], 2, "Did you mean sign"),
    ],
)
def test_mistakes_before_the_first_ceremony(bench: Bench, words: list[str], code: int, text: str) -> None:
    """Each is a sentence and a cure, and nothing is made."""
    assert text in refused(bench, code, *words)
    assert not bench.private.exists()
    assert not (bench.project / "keys").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["init", "--private", "/somewhere"], 24, "There are keys in"),
        (["rotate"], 2, "wants a ROLE"),
        (["rotate", "stable"], 2, "what the new key of stable is"),
        (["rotate", "nightly", "--new", "env:NEW"], 2, "no role 'nightly'"),
        (["rotate", "stable", "--new", "env:UNSET"], 24, "UNSET, which is not set"),
        (["rotate", "root", "nobody", "--new", "env:NEW"], 2, "names no key"),
        (["revoke", "stable"], 2, "for a reason"),
        (["revoke", "stable", "--reason", "x"], 24, "would have no key"),
        (["revoke", "nobody", "--reason", "x"], 2, "names no key"),
        (["rotate", "stable", "--new", "env:NEW", "--key", "env:NEW"], 24, "signs none of the drafts"),
        (["channels"], 2, "keys of nightly are"),
    ],
)
def test_mistakes_with_keys(
    made: Bench, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, text: str
) -> None:
    """Each is a sentence and a cure, and the folder stays as it was."""
    monkeypatch.setenv("NEW", keyfile.plain_pem(private_key("new")).decode())
    if words == ["channels"]:
        path = made.project / "pyproject.toml"
        path.write_text(path.read_text().replace('"stable"]', '"stable", "nightly"]'))
    assert text in refused(made, code, *words)
    assert not made.folder.drafts.exists()


def test_a_private_key_in_the_place_of_a_public_one_is_refused(made: Bench) -> None:
    """A holder who hands over the wrong file is told so, and the file's content is not shown."""
    path = made.private / "root-1.pem"
    text = refused(made, 24, "rotate", "root", "root-1", "--public", path)
    assert "holds a private key" in text
    assert path.read_text().splitlines()[1] not in text


def test_signing_is_asked_for(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a person and without --yes nothing is signed; a person reads the change first, and may say no."""
    made.ok("rotate", "timestamp", "--new", made.key("timestamp-2"))
    assert "Say --yes" in refused(made, 2, "sign", "--key", made.key("root-1"))
    assert "which key signs" in refused(made, 2, "sign", "--yes")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    code, out, err = made.run("sign", "--key", made.key("root-1"))
    assert (code, "Nothing was signed" in err, "may sign timestamp" in out) == (2, True, True)
    monkeypatch.setattr("builtins.input", lambda _question: "y")
    assert "wants 1 of root-2, root-3" in made.ok("sign", "--key", made.key("root-1"))


def test_a_change_can_be_signed_at_once(made: Bench) -> None:
    """Who has two offline keys at hand needs no draft."""
    out = made.ok(
        "rotate",
        "stable",
        "--new",
        made.key("stable-2"),
        "--key",
        made.key("root-1"),
        "--key",
        made.key("root-3"),
    )
    assert "valid: 1.root.json, 2.targets.json" in out
    assert f'stable = "{made.key("stable-2")}"' in out


def test_channels_follow_the_settings(made: Bench) -> None:
    """A channel that was added gets a key, one that was removed goes."""
    path = made.project / "pyproject.toml"
    path.write_text(path.read_text().replace('["canary", "stable"]', '["stable", "nightly"]'))
    out = made.ok(
        "channels", "--private", made.private, "--key", made.key("root-1"), "--key", made.key("root-2")
    )
    assert "added: nightly; removed: canary" in out
    assert made.folder.channels() == ("stable", "nightly")


@pytest.mark.parametrize(
    ("left", "code", "alarm"), [(40, 0, None), (29, 26, 30), (13, 26, 14), (6, 26, 7), (-1, 25, 0)]
)
def test_status_tells_ci_what_is_due(
    made: Bench, monkeypatch: pytest.MonkeyPatch, left: int, code: int, alarm: int | None
) -> None:
    """0, 26 with the alarm's days, 25 when clients refuse: on the exit code, in the sentence, in the JSON."""
    monkeypatch.setattr(command, "now", lambda: NOW + timedelta(days=365 - left))
    found, out, err = made.run("status", "--json")
    assert found == code
    document = json.loads(out)
    assert [one["alarm"] for one in document["alarms"]] == ([] if alarm is None else [alarm, alarm])
    if alarm:
        assert f"(alarm at {alarm} days)" in err
    if code:
        assert "ferryman keys refresh" in err


def test_status_lists_drafts_and_revocations(made: Bench) -> None:
    """Who has still to sign, what would change, and what was revoked and why."""
    made.ok("revoke", "provenance", "--reason", "in a log", "--new", made.key("provenance-2"))
    made.ok("rotate", "timestamp", "--new", made.key("timestamp-2"))
    out = made.ok("status")
    assert "revoked 2026-11-01: provenance" in out
    assert "in a log" in out
    assert "draft: 2.root.json wants 2 of root-1, root-2, root-3" in out
    assert "draft: 2.root.json: timestamp (" in out
    document = json.loads(made.ok("status", "--json"))
    assert document["wanted"][0]["missing"] == 2
    assert {row["role"] for row in document["roles"]} >= {
        "root",
        "targets",
        "stable",
        "minisign",
        "provenance",
    }


def test_few_holders_are_warned_of(made: Bench) -> None:
    """A revocation that leaves no spare holder says so."""
    code, _, err = made.run(
        "revoke", "root-3", "--reason", "lost", "--key", made.key("root-1"), "--key", made.key("root-2")
    )
    assert code == 0
    assert "2 offline keys are left and 2 must sign" in err


def test_no_secret_is_ever_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """All of the life of keys with --verbose, with every failure on the way: no output and no file has a secret."""
    caplog.set_level(0)
    secret_file = tmp_path / "passphrase"
    secret_file.write_text("another-secret-passphrase")
    secret_file.chmod(0o600)
    monkeypatch.setenv("STABLE", keyfile.plain_pem(private_key("stable")).decode())
    with (bench.project / "pyproject.toml").open("a") as file:
        file.write('[tool.ferryman.release.signers]\nstable = "env:STABLE"\n')
    said = ""
    rows: list[tuple[int, list[str | Path]]] = [
        (0, ["init", "--private", bench.private]),
        (0, ["status"]),
        (0, ["rotate", "timestamp", "--new", bench.key("timestamp-2")]),
        (0, ["sign", "--yes", "--key", bench.key("root-1")]),
        (0, ["sign", "--yes", "--key", bench.key("root-2")]),
        (
            0,
            [
                "revoke",
                "stable",
                "--reason",
                "x",
                "--new",
                bench.key("stable-2"),
                "--key",
                bench.key("root-1"),
            ],
        ),
        (24, ["sign", "--yes", "--key", "env:STABLE"]),
        (24, ["sign", "--yes", "--key", bench.key("none")]),
    ]
    for code, words in rows:
        found, out, err = bench.run(*words, "--verbose")
        said += out + err
        assert found == code, err
    monkeypatch.delenv("FERRYMAN_KEY_PASSPHRASE")
    monkeypatch.setenv("FERRYMAN_KEY_PASSPHRASE_FILE", str(secret_file))
    for words in (["sign", "--yes", "--key", bench.key("root-3")], ["new", bench.private / "x.pem"]):
        said += "".join(bench.run(*words, "--verbose")[1:])
    assert "wrong, or the file is damaged" in said
    for secret in secrets(bench):
        assert secret not in said + caplog.text
        for path in [*bench.project.rglob("*"), *Path("out").rglob("*")]:
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def secrets(bench: Bench) -> list[str]:
    """Passphrases, and every private key that there is: raw in hexadecimal and base64, and lines of its file."""
    raw = private_key("stable").private_bytes_raw()
    found = [PASSPHRASE, "another-secret-passphrase", raw.hex(), base64.b64encode(raw).decode()]
    found += keyfile.plain_pem(private_key("stable")).decode().splitlines()[1:2]
    for path in bench.private.glob("*.pem"):
        if path.stem == "x":
            continue
        pem = path.read_bytes()
        found += pem.decode().splitlines()[1:-1]
        key = keyfile.load_pem_private_key(pem, PASSPHRASE.encode())
        opened = key.private_bytes_raw()  # type: ignore[union-attr]
        found += [opened.hex(), base64.b64encode(opened).decode()]
    assert len(found) > 30
    return found
