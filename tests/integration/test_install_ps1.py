"""install.ps1, as far as it can be tried without a Windows: its grammar, and its verifier compiled and run by Mono."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.site_factory import publish, secret, sign_as

HARNESS = """
using System; using System.IO;
public static class Harness {
  public static int Main(string[] given) {
    if (given[0] == "blake2b") {
      foreach (string file in given[1].Split('|'))
        Console.WriteLine(BitConverter.ToString(@CLASS@.Blake2b(File.ReadAllBytes(file))).Replace("-", "").ToLower());
      return 0;
    }
    foreach (string file in given[1].Split('|')) {
      string[] lines = File.ReadAllText(file + ".minisig").Split('\\n');
      Console.WriteLine(@CLASS@.Signed(given[0], lines[1], lines[2].Substring(17), lines[3], File.ReadAllBytes(file)));
    }
    return 0;
  }
}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("public")
    publish(root, "https://releases.example.org/lantern")
    return (root / "install.ps1").read_bytes().decode("ascii")


@pytest.fixture(scope="module")
def harness(script: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The verifier out of the script, as a program; C# 5, which is what Windows PowerShell compiles."""
    if not (shutil.which("mcs") and shutil.which("mono")):
        pytest.skip("there is no Mono here (Debian: mono-mcs, mono-runtime, libmono-system-numerics4.0-cil)")
    folder = tmp_path_factory.mktemp("verifier")
    source = re.search(r"\$I\.Verifier = @'\r\n(.*?)\r\n'@", script, re.DOTALL)
    assert source
    name = re.search(r"public static class (\w+)", source[1])
    assert name
    (folder / "verifier.cs").write_text(source[1])
    (folder / "harness.cs").write_text(HARNESS.replace("@CLASS@", name[1]))
    subprocess.run(
        ["mcs", "-langversion:5", "-r:System.Numerics.dll", "-out:harness.exe", "verifier.cs", "harness.cs"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return ["mono", str(folder / "harness.exe")]


def answers(harness: list[str], word: str, files: list[Path]) -> list[str]:
    done = subprocess.run(
        [*harness, word, "|".join(str(file) for file in files)], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_it_can_be_parsed(script: str) -> None:
    """No syntax error, by a grammar of PowerShell that is not Microsoft's."""
    tree_sitter = pytest.importorskip(
        "tree_sitter", reason="tree-sitter and tree-sitter-powershell are not installed"
    )
    grammar = pytest.importorskip("tree_sitter_powershell", reason="tree-sitter-powershell is not installed")

    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(script.encode())

    assert not tree.root_node.has_error


def test_it_is_what_windows_powershell_reads(script: str) -> None:
    """ASCII, so that no code page matters; the line ends of Windows; one call, in the last lines, of functions before it."""
    assert script.count("\r\n") == script.count("\n")
    lines = script.rstrip().split("\r\n")
    body = lines[lines.index("$code = & {") + 1 : lines.index("}", lines.index("Invoke-Main"))]
    calls = [line for line in body if re.match(r"[A-Z][a-z]+-[A-Z]", line)]
    assert calls == ["Set-StrictMode -Version 2", "Invoke-Main"]
    assert body[-1] == "Invoke-Main"


def test_half_of_the_script_is_no_script(script: str) -> None:
    """All of it is inside of one brace up to the last lines: a download that was cut cannot be parsed."""
    depth = 0
    opened = script.index("$code = & {")
    outside = re.sub(r"@'\r\n.*?\r\n'@|'[^'\r\n]*'|\"(?:`.|[^\"\r\n])*\"|#[^\r\n]*", lambda m: " " * len(m[0]),
                     script, flags=re.DOTALL)  # fmt: skip
    closed = 0
    for at in range(opened, len(outside)):
        depth += {"{": 1, "}": -1}.get(outside[at], 0)
        if depth == 0 and outside[at] == "}":
            closed = at
            break
    assert "Invoke-Main\r\n}" in script[: closed + 1]
    assert script[:closed].rstrip().endswith("Invoke-Main")


@pytest.mark.integration
def test_its_blake2b_is_blake2b(harness: list[str], tmp_path: Path) -> None:
    """At every length around the blocks of 128 bytes the digest is Python's."""
    files = []
    for size in (0, 1, 111, 127, 128, 129, 255, 256, 257, 1000, 65537):
        files.append(tmp_path / f"{size}")
        files[-1].write_bytes(os.urandom(size))

    expected = [hashlib.blake2b(file.read_bytes()).hexdigest() for file in files]

    assert answers(harness, "blake2b", files) == expected


@pytest.mark.integration
def test_it_verifies_what_minisign_signs_and_nothing_else(harness: list[str], tmp_path: Path) -> None:
    """Good signatures hold; another key, other data, another comment, a spoilt signature, garbage do not."""
    good = sign_as("minisign", "timestamp:1\tfile:x")(b"data")
    lines = good.split(b"\n")
    cases = {
        "good": (b"data", good, True),
        "empty": (b"", sign_as("minisign")(b""), True),
        "data": (b"date", good, False),
        "key": (b"data", sign_as("somebody else")(b"data"), False),
        "comment": (b"data", good.replace(b"file:x", b"file:y"), False),
        "signature": (b"data", good.replace(lines[1][40:44], b"AAAA"), False),
        "global": (b"data", good.replace(lines[3][40:44], b"AAAA"), False),
        "legacy": (b"data", good.replace(b"\nRU", b"\nRW"), False),
        "short": (b"data", good.replace(lines[3], b"AAAA"), False),
        "garbage": (b"data", good.replace(lines[3], b"!"), False),
    }
    for name, (data, signature, _) in cases.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"{name}.minisig").write_bytes(signature)

    found = answers(harness, secret().key.line, [tmp_path / name for name in cases])

    assert dict(zip(cases, found, strict=True)) == {name: str(holds) for name, (_, _, holds) in cases.items()}
