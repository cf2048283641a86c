"""Passphrases: where they come from, in which order, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ferryman_build.cmd import Redactor
from ferryman_release.errors import KeyProblemError
from ferryman_release.signing import Secrets
from ferryman_release.signing.keyfile import encrypted_pem, load_key
from ferryman_release.signing.secrets import variables
from support.release_keys import private_key

LONG = "five words by pure chance"


class Person:
    """Somebody at a terminal who gives these answers."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, question: str) -> str:
        self.asked.append(question)
        return self.answers.pop(0)


def file_of(tmp_path: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    path = tmp_path / "passphrase"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return {"FERRYMAN_KEY_PASSPHRASE_FILE": str(path)}


def test_the_most_exact_source_wins(tmp_path: Path) -> None:
    """Role with number, role, all keys, file, person: each is heard only when those before it are silent."""
    environ = {
        "FERRYMAN_KEY_PASSPHRASE_ROOT_1": "one",
        "FERRYMAN_KEY_PASSPHRASE_ROOT": "root",
        "FERRYMAN_KEY_PASSPHRASE": "all",
        **file_of(tmp_path, "file\nsecond line\n"),
    }
    answers = []
    person = Person("person")
    for name in (*environ, ""):
        answers.append(Secrets(dict(environ), person).passphrase("root-1", "the key"))
        environ.pop(name, None)
    assert answers == ["one", "root", "all", "file", "person"]
    assert person.asked == ["Passphrase of the key: "]


def test_a_passphrase_is_typed_once_for_a_key() -> None:
    """The same key is not asked for again, another one is."""
    person = Person("first", "second")
    secrets = Secrets({}, person)
    assert [secrets.passphrase("stable", what) for what in ("a", "a", "b")] == ["first", "first", "second"]


def test_nobody_to_ask_names_the_variables() -> None:
    """Without a terminal the failure says which variable would do."""
    with pytest.raises(KeyProblemError, match="locked") as refused:
        Secrets({}).passphrase("canary", "keys/canary.pem")
    assert "FERRYMAN_KEY_PASSPHRASE_CANARY" in refused.value.advice
    assert refused.value.exit_code == 24


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A passphrase that everybody on the machine can read is none; chmod is the cure."""
    with pytest.raises(KeyProblemError, match="may be read by others") as refused:
        Secrets(file_of(tmp_path, LONG, mode)).passphrase("root", "x")
    assert "chmod 600" in refused.value.advice
    assert LONG not in str(refused.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """A wrong path in the variable is a sentence."""
    with pytest.raises(KeyProblemError, match="is not there"):
        Secrets({"FERRYMAN_KEY_PASSPHRASE_FILE": str(tmp_path / "none")}).passphrase("root", "x")


def test_a_role_called_file_has_no_variable_of_its_own() -> None:
    """Its name belongs to the path of a file."""
    assert variables("file") == ("FERRYMAN_KEY_PASSPHRASE",)
    assert variables("my-channel") == ("FERRYMAN_KEY_PASSPHRASE_MY_CHANNEL",)


def test_a_new_passphrase_is_typed_twice() -> None:
    """A slip at the keyboard makes no key; the same twice is kept for the other keys of the run."""
    with pytest.raises(KeyProblemError, match="differ"):
        Secrets({}, Person(LONG, LONG + "x")).new_passphrase("root-1", "x")
    person = Person(LONG, LONG)
    secrets = Secrets({}, person)
    assert secrets.new_passphrase("snapshot", "x") == secrets.new_passphrase("stable", "x") == LONG
    assert len(person.asked) == 2


def test_a_short_passphrase_makes_no_key() -> None:
    """Eleven characters are too few."""
    with pytest.raises(KeyProblemError, match="fewer than 12"):
        Secrets({"FERRYMAN_KEY_PASSPHRASE": "x" * 11}).new_passphrase("root-1", "x")
    assert Secrets({"FERRYMAN_KEY_PASSPHRASE": "x" * 12}).new_passphrase("root-1", "x") == "x" * 12


def test_secrets_show_nothing() -> None:
    """Neither repr nor str of the object has what it knows."""
    secrets = Secrets({"FERRYMAN_KEY_PASSPHRASE": LONG})
    assert LONG not in repr(secrets) + str(secrets)


@pytest.mark.parametrize("name", ["FERRYMAN_KEY_PASSPHRASE", "FERRYMAN_KEY_PASSPHRASE_ROOT_1"])
def test_what_children_say_is_redacted(name: str) -> None:
    """The one door for children knows these variables for secrets."""
    assert Redactor({name: LONG})(f"x {LONG} y") == f"x ${name} y"


@pytest.mark.skipif(os.name == "nt", reason="there are no core files")
def test_no_core_file() -> None:
    """A process that asks for secrets leaves no picture of its memory when it crashes, and neither do its children."""
    program = (
        "import resource\n"
        "before = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "from ferryman_release.signing import Secrets\n"
        "Secrets.usual()\n"
        "after = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "print(after[0], after[1] == before[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True\n"


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_passphrase_that_is_no_utf8(tmp_path: Path, place: str) -> None:
    """Its bytes are what counts, wherever it comes from: a locale of another time is no reason to break down."""
    raw = b"f\xfcnf W\xf6rter durch Zufall"
    if place == "variable":
        environ = {"FERRYMAN_KEY_PASSPHRASE": os.fsdecode(raw)}
    else:
        environ = file_of(tmp_path, "")
        (tmp_path / "passphrase").write_bytes(raw + b"\n")
    secrets = Secrets(environ)
    locked = encrypted_pem(private_key("root-1"), secrets.new_passphrase("root", "the key"))

    assert load_pem_private_key(locked, raw)
    assert load_key(locked, "root", "the key", secrets)
