"""What a program does with other processes."""

import os
import sys

from oneself.report import say


def square(number):
    return number * number


def put(queue, number):
    queue.put((number, os.getpid() != os.getppid()))


def fill(name, size):
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(name=name)
    memory.buf[:size] = bytes(range(size))
    memory.close()


def context(method):
    import multiprocessing

    return multiprocessing.get_context(method)


def pool(method):
    with context(method).Pool(2) as workers:
        say(workers.map(square, [1, 2, 3]))


def queue(method):
    ways = context(method)
    box = ways.Queue()
    workers = [ways.Process(target=put, args=(box, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    found = sorted(box.get(timeout=30) for _ in workers)
    for worker in workers:
        worker.join()
    say([found, [worker.exitcode for worker in workers]])


def shared(method):
    """Shared memory, which the resource tracker (a process of its own) watches over."""
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(create=True, size=16)
    try:
        worker = context(method).Process(target=fill, args=(memory.name, 16))
        worker.start()
        worker.join()
        say([worker.exitcode, list(memory.buf[:16])])
    finally:
        memory.close()
        memory.unlink()


def leak():
    """Die without giving shared memory back; the resource tracker, a process of its own, is what is left to do it."""
    import signal
    from multiprocessing import shared_memory

    say(shared_memory.SharedMemory(create=True, size=16).name)
    os.kill(os.getpid(), signal.SIGKILL)


def manager(method):
    with context(method).Manager() as boss:
        numbers = boss.list([1, 2])
        numbers.append(3)
        say(list(numbers))


def executor(method):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, mp_context=context(method)) as workers:
        say(list(workers.map(square, range(4))))


def dies(method):
    """A worker that raises: its traceback and its exit code."""
    worker = context(method).Process(target=square, args=("no number",))
    worker.start()
    worker.join()
    say(worker.exitcode)


def itself():
    """subprocess of sys.executable: the same program again."""
    import json
    import subprocess

    done = subprocess.run(command("report"), capture_output=True, check=True)
    child = json.loads(done.stdout)
    say(
        [
            child["parent"] == os.getpid(),
            child["argv"][1:],
            child["tree"] == ascii(getattr(sys, "_MEIPASS", "")),
        ]
    )


def command(*words):
    """How this program starts itself: frozen, its executable; plain, the interpreter with the script."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *words]
    return [sys.executable, sys.argv[0], *words]


def again():
    """Another program in the same process."""
    say(os.getpid())
    words = command("report")
    os.execv(words[0], words)


def child(*words):
    """Run something else with the streams of this program; its exit code is ours."""
    import subprocess

    return subprocess.run(words, check=False).returncode


def asynchronous():
    import asyncio

    async def talk():
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await process.communicate(b"over and back")
        shell = await asyncio.create_subprocess_shell("exit 7")
        return [out.decode(), process.returncode, await shell.wait()]

    say(asyncio.run(talk()))


def fork():
    """A forked child goes on with everything."""
    number = os.fork()
    if not number:
        from oneself import later

        os._exit(0 if later.lazily() == "3/2" else 1)
    say(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))


def daemon(path):
    """The double fork of old; the daemon writes into ``path`` once its parents are gone."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.closerange(0, 256)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    sys.exit(attend(path))


def attend(path):
    import pathlib
    import subprocess
    import time

    while os.getppid() != 1 and not pathlib.Path(path + ".go").exists():
        time.sleep(0.01)
    from oneself import later

    seen = subprocess.run(command("report"), capture_output=True, check=False)
    with open(path + ".part", "wb") as file:
        file.write(b"%s %d\n" % (later.lazily().encode(), seen.returncode))
    pathlib.Path(path + ".part").rename(path)


def hold_forked():
    """A child that outlives its parent, if that is killed, and ends when its input does."""
    from oneself.acts import settle

    if os.fork():
        os.wait()
    else:
        settle()
