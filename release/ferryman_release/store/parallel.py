"""Several things at a time, and the first failure ends the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> list[Result]:
    """``work`` of each item in ``workers`` threads; results in the order of the items.

    After a failure nothing new is begun, what is under way is waited for, and the first failure is raised. Ctrl-C
    does the same.
    """
    stopped = threading.Event()

    def unless_stopped(item: Item) -> Result | None:
        return None if stopped.is_set() else work(item)

    with ThreadPoolExecutor(workers, thread_name_prefix="store") as pool:
        futures = [pool.submit(unless_stopped, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
    failures = [error for future in futures if (error := future.exception()) is not None]
    if failures:
        raise failures[0]
    return [future.result() for future in futures]  # type: ignore[misc]  # None only after a failure
