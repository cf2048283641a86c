"""`ferryman verify` as a person types it, over what `ferryman release` has published: folder, URL, offline, keys."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_client.errors import UnreachableError
from ferryman_client.fetch import HttpFetcher
from ferryman_release import cli
from support.releasing import World, make_world
from support.web import Handler, serving

Run = Callable[..., tuple[int, str, str]]
ARTIFACT = "lantern-1.0.0-linux-amd64.tar.gz"
CRYPTOGRAPHIC = {"signature", "provenance", "tuf"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Published once: what changes something has a world of its own (:func:`own`)."""
    return released(tmp_path_factory.mktemp("world"))


@pytest.fixture
def own(tmp_path: Path) -> World:
    return released(tmp_path)


def released(root: Path) -> World:
    made = make_world(root)
    made.release()
    return made


def version_folder(world: World) -> Path:
    return world.store / "artifacts" / "lantern" / "1.0.0"


@pytest.fixture
def folder(world: World) -> Path:
    return version_folder(world)


@pytest.fixture
def run(
    world: World, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:  # fmt: skip
    """(exit code, standard output, standard error), called where there is no project."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["verify", *map(str, words), "--plain"])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def results(out: str) -> dict[str, str]:
    """Policy → result, of a report in JSON; one that differs between files is "mixed"."""
    found: dict[str, str] = {}
    for row in json.loads(out)["results"]:
        found[row["policy"]] = (
            row["result"] if found.get(row["policy"], row["result"]) == row["result"] else "mixed"
        )
    return found


def test_what_release_publishes_is_verified(world: World, folder: Path, run: Run) -> None:
    """The folder of a version in the store, with the project's key folder: every cryptographic policy holds."""
    code, out, err = run(folder, "--keys", world.keys.folder.path, "--channel", "canary", "--json")

    assert (code, err) == (0, "")
    held = {policy for policy, result in results(out).items() if result == "held"}
    assert held == {"checksums", "signature", "release", "sbom", "provenance", "tuf"}
    assert json.loads(out)["held"] is True


def test_the_table_for_people(world: World, folder: Path, run: Run) -> None:
    """Which held, which did not and why, and which were not asked."""
    code, out, _ = run(folder / ARTIFACT, "--keys", world.keys.folder.path, "--policy", "signature,sigstore")

    assert code == 23
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "held" in lines["signature"]
    assert "FAILED" in lines["sigstore"]
    assert "it was asked for, and there is no bundle of sigstore beside it" in lines["sigstore"]
    assert "not asked" in lines["tuf"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_url_of_a_version(world: World, run: Run, slash: str) -> None:
    """Everything is fetched from where it is published; the repository is known from the URL."""
    with serving(world.store) as web:
        code, out, err = run(
            f"{web.url}artifacts/lantern/1.0.0{slash}", "--keys", world.keys.folder.path,
            "--channel", "canary", "--json",
        )  # fmt: skip

    assert (code, err) == (0, "")
    assert {policy for policy, result in results(out).items() if result == "held"} >= CRYPTOGRAPHIC
    assert len({row["subject"] for row in json.loads(out)["results"]}) == 4


def test_a_url_of_an_artifact(world: World, run: Run) -> None:
    """One file, and of the rest only what is about it."""
    with serving(world.store) as web:
        code, out, _ = run(
            f"{web.url}artifacts/lantern/1.0.0/{ARTIFACT}", "--keys", world.keys.folder.path,
            "--policy", "signature,provenance", "--json",
        )  # fmt: skip
        asked = {path.rpartition("/")[2] for path, _ in web.seen}

    assert code == 0
    assert results(out) == {"signature": "held", "provenance": "held"}
    assert asked <= {ARTIFACT, "SHA256SUMS", "SHA256SUMS.minisig", f"{ARTIFACT}.intoto.json", "manifest.json"}


def test_a_file_url(world: World, folder: Path, run: Run) -> None:
    """file:// is a folder of this machine."""
    code, out, _ = run(
        folder.as_uri(), "--keys", world.keys.folder.path, "--channel", "canary", "--offline", "--json"
    )

    assert code == 0
    assert results(out)["tuf"] == "held"


def test_with_single_keys(world: World, folder: Path, run: Run, tmp_path: Path) -> None:
    """A stranger has minisign.pub and root.json, from a page or a letter, and no key folder."""
    public = world.keys.folder.path / "minisign.pub"
    root = world.keys.folder.metadata / "1.root.json"
    pem = tmp_path / "provenance.pem"
    pem.write_bytes(_pem(world))

    code, out, _ = run(
        folder / ARTIFACT, "--key", public, "--key", pem, "--root", root, "--channel", "canary", "--json"
    )
    assert code == 0
    assert {policy for policy, result in results(out).items() if result == "held"} >= CRYPTOGRAPHIC

    assert results(run(folder / ARTIFACT, "--key", public, "--json")[1])["provenance"] == "skipped"
    assert results(run(folder / ARTIFACT, "--key", pem, "--json")[1])["signature"] == "skipped"
    assert (
        results(run(folder / ARTIFACT, "--root", root, "--channel", "canary", "--json")[1])["tuf"] == "held"
    )


def _pem(world: World) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from support.release_keys import private_key

    return (
        private_key("provenance").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def test_in_the_project_its_own_keys_are_trusted(
    world: World, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an option: the key folder and the channels that pyproject.toml names."""
    monkeypatch.chdir(world.root)
    code, out, _ = run(folder, "--json")

    assert code == 0
    assert {policy for policy, result in results(out).items() if result == "held"} >= CRYPTOGRAPHIC


def test_without_keys_nothing_vouches(folder: Path, run: Run) -> None:
    """All files are there and fit together: that proves nothing, and the exit code says so."""
    code, out, err = run(folder / ARTIFACT)

    assert code == 23
    assert "nothing that is signed vouches for" in out
    assert "--key" in err


def test_dist_has_nothing_that_is_signed(own: World, run: Run) -> None:
    """The dist/ of a build: its checksums can be asked for, and by default it is not verified."""
    dist = own.root / "dist-1.0.0"

    assert run(dist, "--keys", own.keys.folder.path)[0] == 23
    assert run(dist, "--keys", own.keys.folder.path, "--policy", "checksums")[0] == 0
    (dist / ARTIFACT).write_bytes(b"changed")
    assert run(dist, "--policy", "checksums")[0] == 23


def test_all_demands_everything(world: World, folder: Path, run: Run) -> None:
    """What has no evidence fails; what is not about such a file does not."""
    code, out, _ = run(
        folder / ARTIFACT,
        "--keys",
        world.keys.folder.path,
        "--channel",
        "canary",
        "--policy",
        "all",
        "--json",
    )

    assert code == 23
    found = results(out)
    assert {policy for policy, result in found.items() if result == "FAILED"} == {"sigstore"}
    assert found["authenticode"] == "skipped"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("commit=3f3f3f3", ""),
        ("commit=3F3F3F3F3F", ""),
        ("clean=yes:builder=pkg:pypi/ferryman", ""),
        ("commit=3f3f", "is of commit"),
        ("commit=0000000", "is of commit"),
        ("repository=harbour/lantern", "is of the repository none"),
        ("builder=https://example.org/builder", "was built by pkg:pypi/ferryman"),
    ],
)
def test_what_provenance_must_say(world: World, folder: Path, run: Run, parameters: str, said: str) -> None:
    """A commit, a repository, a builder: each holds, or the reason names what is said instead."""
    code, out, _ = run(
        folder / ARTIFACT, "--keys", world.keys.folder.path, "--policy", f"provenance:{parameters}"
    )

    assert code == (23 if said else 0)
    assert said in out


def test_offline_opens_no_connection(
    world: World, folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --offline nothing is asked of anybody: not even of a server on this machine."""
    copied = tmp_path / "downloads"
    shutil.copytree(folder, copied)
    monkeypatch.setattr(HttpFetcher, "open", _never)

    with serving(world.store) as web:
        code, _, _ = run(
            copied,
            "--keys",
            world.keys.folder.path,
            "--offline",
            "--policy",
            "signature,provenance",
            "--json",
        )
        assert code == 0
        found = run(copied, "--keys", world.keys.folder.path, "--offline", "--policy", f"tuf:url={web.url}")
        assert found[0] == 23
        assert "--offline was given" in found[1]
        refused = run(f"{web.url}artifacts/lantern/1.0.0/", "--keys", world.keys.folder.path, "--offline")
        assert refused[0] == 2
        assert "--offline was given" in refused[2]
        assert web.seen == []


def _never(*_: object, **__: object) -> object:
    raise AssertionError("something was fetched")


def test_a_folder_that_was_copied_can_ask_the_repository(
    world: World, folder: Path, run: Run, tmp_path: Path
) -> None:
    """The place of a download does not tell where it came from; --policy tuf:url says it."""
    copied = tmp_path / "downloads"
    shutil.copytree(folder, copied)
    words = (copied, "--keys", world.keys.folder.path, "--channel", "canary", "--policy")

    assert run(*words, f"tuf:url={world.store}")[0] == 0
    with serving(world.store) as web:
        assert run(*words, f"tuf:url={web.url}")[0] == 0
        assert (
            run(
                copied,
                "--keys",
                world.keys.folder.path,
                "--channel",
                "stable",
                "--policy",
                f"tuf:url={web.url}",
            )[0]
            == 23
        )


def test_a_yanked_version_is_refused(own: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything about it is genuine, and its publisher has said that nobody should have it."""
    own.release("1.1.0")
    monkeypatch.chdir(own.root)
    assert cli.main(["yank", "1.0.0", "--reason", "it sets lamps on fire", "--plain"]) == 0

    code, out, _ = run(version_folder(own) / ARTIFACT, "--keys", own.keys.folder.path, "--channel", "canary")

    assert code == 23
    assert "it sets lamps on fire" in out


def test_an_older_version_is_found_in_the_history(own: World, run: Run) -> None:
    """A release that is not offered any more is still vouched for, through the history that the metadata signs."""
    own.release("1.1.0")
    code, out, _ = run(
        version_folder(own) / ARTIFACT,
        "--keys",
        own.keys.folder.path,
        "--channel",
        "canary",
        "--policy",
        "tuf",
        "--json",
    )

    assert code == 0
    assert "1.0.0 of the channel canary" in out


def test_a_server_that_does_not_answer(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is a failure of the store (21), and no verdict about the file."""

    def fail(*_: object, **__: object) -> object:
        raise UnreachableError("http://127.0.0.1:9/ does not answer.", advice="Try again.")

    monkeypatch.setattr(HttpFetcher, "open", fail)
    code, _, err = run(
        f"http://127.0.0.1:9/artifacts/lantern/1.0.0/{ARTIFACT}", "--keys", world.keys.folder.path
    )

    assert code == 21
    assert "does not answer" in err


@pytest.mark.parametrize("status", [403, 404])
def test_a_url_without_evidence(own: World, run: Run, status: int) -> None:
    """A bucket that may not be listed says 403 for what it does not have: both mean that there is none."""
    (own.store / "artifacts" / "lantern" / "1.0.0" / "SHA256SUMS.minisig").unlink()

    def behave(handler: Handler) -> bool:
        if handler.path.endswith(".minisig"):
            handler.answer(status, b"none")
            return True
        return False

    with serving(own.store) as web:
        web.behave = behave
        code, out, _ = run(
            f"{web.url}artifacts/lantern/1.0.0/{ARTIFACT}", "--keys", own.keys.folder.path,
            "--policy", "signature",
        )  # fmt: skip

    assert code == 23
    assert "there is no SHA256SUMS.minisig beside it" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere",), 2, "There is no nowhere"),
        (("{folder}", "--policy", "provence"), 2, "did you mean 'provenance'?"),
        (("{folder}", "--policy", "provenance:comit=3f"), 2, "no parameter 'comit'"),
        (("{folder}", "--policy", "checksums:commit=3f"), 2, "no parameter 'commit'"),
        (("{folder}", "--keys", "nowhere"), 2, "There is no folder nowhere"),
        (("{folder}", "--key", "{private}"), 24, "is a private key"),
        (("{folder}", "--key", "{rubbish}"), 24, "no public key"),
        (("{folder}", "--key", "{pem}"), 24, "no public key"),
        (("{folder}", "--key", "nowhere"), 2, "There is no file nowhere"),
        (("{empty}",), 23, "lists no artifacts"),
        (("file://elsewhere/folder",), 2, "names another machine"),
    ],
)
def test_refusals(
    world: World, folder: Path, run: Run, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    """What a person can get wrong has its sentence, its cure and its code."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "rubbish").write_text("hello\n")
    (tmp_path / "pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    places = {
        "folder": folder, "empty": tmp_path / "empty", "rubbish": tmp_path / "rubbish", "pem": tmp_path / "pem",
        "private": world.keys.private / "minisign.pem",
    }  # fmt: skip

    found, _, err = run(*(word.format_map(places) for word in words))

    assert found == code, err
    assert said in err
    assert "what to do:" in err


def test_a_name_that_leads_elsewhere(own: World, run: Run) -> None:
    """A list of files is read before anything of it is verified: a name in it is a name and no path."""
    (version_folder(own) / "manifest.json").unlink()
    document = json.loads((version_folder(own) / "release.json").read_bytes())
    document["artifacts"][0]["path"] = "../../../../secret"
    (version_folder(own) / "release.json").write_text(json.dumps(document))

    code, _, err = run(version_folder(own), "--keys", own.keys.folder.path)

    assert code in (2, 23)
    assert "no name of a file" in err


def test_a_body_without_end_is_cut_off(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that does not end is given up at its limit, and named."""
    monkeypatch.setattr("ferryman_release.verify.evidence.LONGEST_DOCUMENT", 1_000_000)

    def behave(handler: Handler) -> bool:
        return bool(handler.path.endswith("SHA256SUMS") and handler.endless())

    with serving(world.store) as web:
        web.behave = behave
        code, out, _ = run(
            f"{web.url}artifacts/lantern/1.0.0/{ARTIFACT}", "--keys", world.keys.folder.path,
            "--policy", "checksums",
        )  # fmt: skip

    assert code == 23
    assert "SHA256SUMS has more than 1000000 bytes" in out
