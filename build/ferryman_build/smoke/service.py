"""The service run: start, wait until ready, read, stop, and see that nothing stays.

What a service manager does with the program, in its order. The first thing that does not hold ends the run.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial

from ferryman_build.artifacts import SmokeCheck
from ferryman_build.settings import Service
from ferryman_build.smoke.process import Child
from ferryman_build.smoke.sandbox import Sandbox
from ferryman_build.targets import Os

_POLL_SECONDS = 0.05
_REQUEST_SECONDS = 5.0
_STAY_UP_SECONDS = 1.0
_MOST_BYTES = 10_000_000

Step = Callable[[], str]  # "" when it holds, otherwise what was seen instead


def run_service(
    child: Child, service: Service, sandbox: Sandbox, *, tree: bool, system: Os = Os.LINUX, pace: float = 1.0
) -> Iterator[SmokeCheck]:
    """Go through the life of ``child``; ``service`` has its placeholders filled already, and its timeout scaled.

    Yields one check per step, and stops behind the first that failed. ``tree``: nothing may be left in TMPDIR either.
    ``pace``: how many times as slow as this machine the program is; it scales the limits that no setting has.
    """
    for name, step in _steps(child, service, sandbox, tree=tree, system=system, pace=pace):
        started = time.monotonic()
        problem = step()
        seconds = round(time.monotonic() - started, 3)
        if problem:
            yield SmokeCheck(name=name, passed=False, seconds=seconds, detail=problem + child.tail())
            return
        yield SmokeCheck(name=name, passed=True, seconds=seconds)


def _steps(
    child: Child, service: Service, sandbox: Sandbox, *, tree: bool, system: Os, pace: float
) -> Iterator[tuple[str, Step]]:
    answers: list[str] = []
    if service.ready:
        yield f"ready: {service.ready}", partial(_wait_ready, child, service.ready, service.timeout, pace)
    else:
        yield "stays up", partial(_stay_up, child, _STAY_UP_SECONDS * pace)
    for url in service.get:
        yield f"GET {url}", partial(_read, url, answers, _REQUEST_SECONDS * pace)
    for text in service.expect:
        yield f"answers contain {text!r}", partial(_expect, text, answers)
    asked = "stops when asked" if system is Os.WINDOWS else "stops on SIGTERM"
    yield asked, partial(_stop, child, service)
    yield "leaves no process", partial(_nothing_left, child)
    if tree:
        yield "leaves no temporary file", partial(_nothing_in_tmp, sandbox)


def _wait_ready(child: Child, url: str, timeout: float, pace: float) -> str:
    deadline = time.monotonic() + timeout
    seen = "nothing"
    while time.monotonic() < deadline:
        code = child.wait(_POLL_SECONDS)
        if code is not None:
            return f"the program ended with exit code {code} before it was ready"
        status, seen = _fetch(url, min(_REQUEST_SECONDS * pace, max(0.1, deadline - time.monotonic())))
        if status == http.client.OK:
            return ""
        seen = f"status {status}" if status else seen
    return f"no answer 200 within {timeout:g} s; the last one was: {seen}"


def _stay_up(child: Child, seconds: float) -> str:
    code = child.wait(seconds)
    return "" if code is None else f"the program ended with exit code {code} within {seconds:g} s"


def _read(url: str, answers: list[str], seconds: float) -> str:
    status, text = _fetch(url, seconds)
    if status != http.client.OK:
        return f"answered {status} instead of 200" if status else f"no answer: {text}"
    answers.append(text)
    return ""


def _expect(text: str, answers: list[str]) -> str:
    whole = "\n".join(answers)
    return "" if text in whole else f"not in the {len(whole)} characters of the answers"


def _stop(child: Child, service: Service) -> str:
    child.terminate()
    code = child.wait(service.timeout)
    if code is None:
        return f"did not stop within {service.timeout:g} s and was killed with its children"
    allowed = " or ".join(map(str, service.exit_codes))
    return "" if code in service.exit_codes else f"stopped with exit code {code} instead of {allowed}"


def _nothing_left(child: Child) -> str:
    left = child.leftovers()
    return f"still running after the stop: {', '.join(left)}" if left else ""


def _nothing_in_tmp(sandbox: Sandbox) -> str:
    left = sandbox.written(sandbox.tmp)
    return f"left in TMPDIR: {', '.join(left[:10])}" if left else ""


def _fetch(url: str, timeout: float) -> tuple[int, str]:
    """(status, body); status 0 and the reason when there was no answer."""
    # A proxy of the build machine has nothing to do with loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            return response.status, response.read(_MOST_BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.reason
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        number = getattr(reason, "errno", None)
        return 0, os.strerror(number) if number else str(reason) or type(reason).__name__
