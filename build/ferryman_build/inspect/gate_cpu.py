"""The gate's rules about processors: which instructions a promise allows, and who may have others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ferryman_build.inspect.cpu import LEVELS, allowed, level_of, level_text
from ferryman_build.inspect.gate_codes import Code, Finding, finding
from ferryman_build.inspect.native import NO_DECODER, NOT_MEASURED, Cpu, Native, Reason
from ferryman_build.inspect.survey import Survey
from ferryman_build.targets import Target


def findings(survey: Survey, target: Target) -> Iterator[Finding]:
    """One for each file with instructions that the promise does not include, or whose instructions nobody could read."""
    promise = allowed(target.arch, target.cpu)
    if promise is None:
        return
    if target.arch == "amd64":  # a file for several machines may have such code for another target
        yield from (_unknown(native, target) for native in survey.natives if NO_DECODER in native.notes)
    measured = [(native, native.cpu[target.arch]) for native in survey.natives if target.arch in native.cpu]
    enough = _enough([cpu for _, cpu in measured], promise, target)
    for native, cpu in measured:
        yield from _of_file(native, cpu, promise, target, enough)


def _unknown(native: Native, target: Target) -> Finding:
    why = NO_DECODER.removeprefix(NOT_MEASURED)
    message = f"whether {native.name} needs more than {target.cpu} is not known: {why}"
    return finding(Code.CPU_UNKNOWN, native.name, "iced-x86", message, target)


def _enough(measured: Iterable[Cpu], promise: frozenset[str], target: Target) -> str:
    """The promise that would do for all files: the way out must not lead to the next error."""
    wanted = set(promise)
    for cpu in measured:
        wanted |= _all_of(target.arch, cpu.required) if cpu.required else set()
        if not _chooses(cpu, promise):
            wanted |= cpu.features.keys()
    return f"cpu {level_text(target.arch, wanted)}"


def _chooses(cpu: Cpu, promise: frozenset[str]) -> bool:
    return bool(cpu.chosen) and not cpu.whole and cpu.early.keys() <= promise


def _of_file(
    native: Native, cpu: Cpu, promise: frozenset[str], target: Target, enough: str
) -> Iterator[Finding]:
    if cpu.required and not _all_of(target.arch, cpu.required) <= promise:
        message = (
            f"{native.name} has a note that {cpu.required} is needed, and the loader refuses it elsewhere, but"
            f" {target} promises {target.cpu}"
        )
        yield finding(Code.CPU, native.name, cpu.required, message, target, floor=enough)
        return
    beyond = {name: reason for name, reason in cpu.features.items() if name not in promise}
    if not beyond:
        return
    early = {name: reason for name, reason in cpu.early.items() if name not in promise}
    needed = level_text(target.arch, cpu.features)
    if _chooses(cpu, promise):
        yield _note(native, cpu, needed, beyond, target)
        return
    shown = _highest(target.arch, early or beyond)
    message = (
        f"{native.name} needs {needed} ({shown.label} in {shown.symbol}) and {_why(cpu, early)}, but {target}"
        f" promises {target.cpu}"
    )
    yield finding(Code.CPU, native.name, shown.symbol, message, target, floor=enough)


def _note(native: Native, cpu: Cpu, needed: str, beyond: Iterable[str], target: Target) -> Finding:
    asked = ", ".join(cpu.chosen)
    message = f"{native.name} has code for up to {needed}, chosen at run time ({asked}){_held(target.arch, cpu, beyond)}"
    return finding(Code.CPU_AT_RUN_TIME, native.name, needed, message, target)


def _held(arch: str, cpu: Cpu, beyond: Iterable[str]) -> str:
    """Which functions have the newest code: whether the choice is about them is for a person to see."""
    order = list(LEVELS[arch])
    newest = max(beyond, key=lambda name: order.index(level) if (level := level_of(arch, name)) else -1)
    names = cpu.holders.get(newest, ())
    shown = [name for name in names if not name.startswith("0x")] or names[:1]
    return f": {newest} in {', '.join(shown)}{' …' if len(names) > len(shown) else ''}" if shown else ""


def _why(cpu: Cpu, early: Mapping[str, Reason]) -> str:
    if not cpu.chosen and cpu.unheard:
        return f"asks what the processor has only in {cpu.unheard[0]}, which nothing in the file calls"
    if not cpu.chosen:
        return "does not ask what the processor has"
    if early:
        return "uses it as soon as it is loaded"
    return "all of its vector code does, so nothing is chosen at run time"


def _highest(arch: str, reasons: Mapping[str, Reason]) -> Reason:
    """The reason that says most: the one of the highest level; of no level at all is higher still."""
    order = list(LEVELS[arch])
    rank = {name: number for number, name in enumerate(order)}
    return max(reasons.values(), key=lambda reason: rank.get(reason.version, len(order)))


def _all_of(arch: str, level: str) -> frozenset[str]:
    return allowed(arch, level) or frozenset()
