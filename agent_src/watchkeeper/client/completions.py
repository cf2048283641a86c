"""Completions for shells, made from the parser: a command or option that is added there is completed at once.

Names of services and of everything else are asked from the running agent with `watchkeeper names`, when somebody presses
the key; when none runs, nothing is offered.
"""

from __future__ import annotations

import argparse
import enum
from dataclasses import dataclass, field

from watchkeeper.commands import Parser, commands_of


class Value(enum.StrEnum):
    """What may follow an option, or stand in a place."""

    NOTHING = ""
    ANYTHING = "anything"
    FILES = "files"
    SERVICES = "services"
    KEYS = "keys"


_BY_METAVAR = {
    "FILE": Value.FILES,
    "PATH": Value.FILES,
    "DIR": Value.FILES,
    "SERVICE": Value.SERVICES,
    "KEY": Value.KEYS,
}


@dataclass(frozen=True)
class Words:
    """What may be written: one of these words, or a value of a kind."""

    words: tuple[str, ...] = ()
    value: Value = Value.NOTHING


@dataclass(frozen=True)
class Command:
    """One command: what each option takes, and what the places without an option take."""

    name: str
    help: str
    options: dict[str, Words] = field(default_factory=dict)
    places: Words = Words()


def script(shell: str, parser: Parser) -> str:
    """The text for one of `commands.SHELLS`."""
    commands = [_command(name, each, _help(parser, name)) for name, each in commands_of(parser).items()]
    return {"bash": bash, "zsh": zsh, "fish": fish, "powershell": powershell}[shell](commands).rstrip("\n")


def _help(parser: Parser, name: str) -> str:
    for action in parser._actions:
        for choice in getattr(action, "_choices_actions", ()):
            if choice.dest == name:
                return str(choice.help or "")
    return ""


def _command(name: str, parser: Parser, text: str) -> Command:
    options = {word: _words(action) for action in parser._actions for word in action.option_strings}
    places = [_words(action) for action in parser._actions if not action.option_strings]
    return Command(name, text, options, places[0] if places else Words())


def _words(action: argparse.Action) -> Words:
    if action.nargs == 0:
        return Words()
    if action.choices:
        return Words(tuple(map(str, action.choices)))
    return Words((), _BY_METAVAR.get(str(action.metavar), Value.ANYTHING))


def bash(commands: list[Command]) -> str:
    """Source it, or save it as /etc/bash_completion.d/watchkeeper."""
    lines = [
        "# Completions of watchkeeper for bash: source <(watchkeeper completions bash)",
        "_watchkeeper() {",
        "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}",
        "  COMPREPLY=()",
        "  if ((COMP_CWORD == 1)); then",
        f'    mapfile -t COMPREPLY < <(compgen -W "{_joined(commands)} --help --version" -- "$current")',
        "    return",
        "  fi",
        '  case "$command:$previous" in',
    ]
    for command in commands:
        for option, words in command.options.items():
            if words != Words():
                lines.append(f"    {command.name}:{option}) {_bash_fill(words)}; return ;;")
    lines += ["  esac", "  if [[ $current == -* ]]; then", '    case "$command" in']
    for command in commands:
        lines.append(f"      {command.name}) {_bash_words(' '.join(command.options))} ;;")
    lines += ["    esac", "    return", "  fi", '  case "$command" in']
    for command in commands:
        if command.places != Words():
            lines.append(f"    {command.name}) {_bash_fill(command.places)} ;;")
    return "\n".join([*lines, "  esac", "}", "complete -F _watchkeeper watchkeeper", ""])


def _bash_words(words: str) -> str:
    return f'mapfile -t COMPREPLY < <(compgen -W "{words}" -- "$current")'


def _bash_fill(words: Words) -> str:
    if words.words:
        return _bash_words(" ".join(words.words))
    return {
        Value.FILES: 'compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current")',
        Value.SERVICES: _bash_words("$(watchkeeper names service 2>/dev/null)"),
        Value.KEYS: _bash_words("$(watchkeeper names 2>/dev/null)"),
    }.get(words.value, ":")


def zsh(commands: list[Command]) -> str:
    """Save it as _watchkeeper in a folder of $fpath."""
    lines = [
        "#compdef watchkeeper",
        "# Completions of watchkeeper for zsh: watchkeeper completions zsh > ~/.zfunc/_watchkeeper",
        "_watchkeeper() {",
        "  local -a commands",
        "  commands=(",
        *(f"    {_quoted(f'{each.name}:{each.help}')}" for each in commands),
        "  )",
        "  if (( CURRENT == 2 )); then _describe command commands; return; fi",
        '  case "${words[2]}" in',
    ]
    for command in commands:
        specs = [_quoted(f"{option}{_zsh_value(words)}") for option, words in command.options.items()]
        if command.places != Words():
            specs.append(_quoted(f"*{_zsh_value(command.places)}"))
        lines.append(f"    {command.name}) shift words; (( CURRENT-- )); _arguments {' '.join(specs)} ;;")
    lines += [
        "  esac",
        "}",
        '_watchkeeper_names() { compadd -- ${(f)"$(watchkeeper names $1 2>/dev/null)"} }',
    ]
    return "\n".join(
        [
            *lines,
            'if [[ $funcstack[1] == _watchkeeper ]]; then _watchkeeper "$@"; else compdef _watchkeeper watchkeeper; fi',
            "",
        ]
    )


def _zsh_value(words: Words) -> str:
    if words.words:
        return f":value:({' '.join(words.words)})"
    return {
        Value.NOTHING: "",
        Value.FILES: ":file:_files",
        Value.SERVICES: ":service:{_watchkeeper_names service}",
        Value.KEYS: ":key:{_watchkeeper_names}",
    }.get(words.value, ":value: ")


def fish(commands: list[Command]) -> str:
    """Save it as ~/.config/fish/completions/watchkeeper.fish."""
    lines = [
        "# Completions of watchkeeper for fish: watchkeeper completions fish | source",
        "complete -c watchkeeper -f",
    ]
    lines += [
        f"complete -c watchkeeper -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}"
        for command in commands
    ]
    for command in commands:
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        for option, words in command.options.items():
            flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c watchkeeper {seen} {flag}{_fish_value(words, required=True)}")
        if command.places != Words():
            lines.append(f"complete -c watchkeeper {seen}{_fish_value(command.places, required=False)}")
    return "\n".join([*lines, ""])


def _fish_value(words: Words, *, required: bool) -> str:
    need = " -x" if required else ""
    if words.words:
        return f"{need} -a '{' '.join(words.words)}'"
    return {
        Value.NOTHING: "",
        Value.FILES: " -r -F" if required else " -F",
        Value.SERVICES: f"{need} -a '(watchkeeper names service 2>/dev/null)'",
        Value.KEYS: f"{need} -a '(watchkeeper names 2>/dev/null)'",
    }.get(words.value, need)


def powershell(commands: list[Command]) -> str:
    """Add it to $PROFILE."""
    lines = [
        "# Completions of watchkeeper for PowerShell: watchkeeper completions powershell | Out-String | Invoke-Expression",
        "Register-ArgumentCompleter -Native -CommandName watchkeeper -ScriptBlock {",
        "  param($word, $line, $position)",
        "  $given = @($line.CommandElements | ForEach-Object { $_.ToString() })",
        "  $count = $given.Count; if ($word -ne '') { $count-- }",
        "  $previous = if ($count -ge 1) { $given[$count - 1] } else { '' }",
        f"  $found = @({_list(each.name for each in commands)}, '--help', '--version')",
        "  if ($count -ge 2) {",
        "    $found = switch ($given[1]) {",
    ]
    for command in commands:
        lines.append(f"      '{command.name}' {{")
        for option, words in command.options.items():
            if words != Words():
                lines.append(f"        if ($previous -eq '{option}') {{ {_powershell_fill(words)}; break }}")
        places = _powershell_fill(command.places)
        options = f"@({_list(command.options)})"
        lines.append(f"        if ($word -like '-*') {{ {options} }} else {{ {places} }}")
        lines.append("      }")
    lines += ["    }", "  }"]
    lines += ['  $found | Where-Object { $_ -like "$word*" } | ForEach-Object {']
    lines += [
        "    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)",
        "  }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _powershell_fill(words: Words) -> str:
    if words.words:
        return f"@({_list(words.words)})"
    return {
        Value.FILES: '@(Get-ChildItem -Path "$word*" -Name)',
        Value.SERVICES: "@(watchkeeper names service 2>$null)",
        Value.KEYS: "@(watchkeeper names 2>$null)",
    }.get(words.value, "@()")


def _joined(commands: list[Command]) -> str:
    return " ".join(each.name for each in commands)


def _list(words: object) -> str:
    return ", ".join(f"'{word}'" for word in words)  # type: ignore[attr-defined]


def _quoted(text: str) -> str:
    """In single quotes; one within them ends and begins anew."""
    return "'" + text.replace("'", "'\\''") + "'"
