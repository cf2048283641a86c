"""The ways in which a program ends."""

import os
import sys


def leave(code):
    sys.exit(int(code))


def leave_with_words():
    sys.exit("the lamp is out")


def return_words(code):
    """What main() returns is the exit code."""
    return int(code)


def fail():
    """An exception that nobody catches, through two functions of two files."""
    from oneself import acts, report

    assert acts
    report.say("failing")
    deeper(0)


def deeper(number):
    return 1 / number


def chained():
    try:
        deeper(0)
    except ZeroDivisionError as error:
        raise LookupError("nothing there") from error


def interrupted():
    raise KeyboardInterrupt


def abort():
    os.abort()


def at_exit():
    """What is registered runs, and what is buffered is written."""
    import atexit

    atexit.register(print, "at the end")
    sys.stdout.write("buffered ")
    sys.exit(3)


def crash(how):
    """A native fault, after faulthandler was told to say where."""
    import faulthandler

    faulthandler.enable()
    if how == "segv":
        faulthandler._sigsegv()
    faulthandler._sigabrt()


def dump():
    """faulthandler on request."""
    import faulthandler

    faulthandler.dump_traceback(file=sys.stderr)


def wait(handled=""):
    """Say "ready" and wait for a signal; with a word, handle TERM, INT and HUP."""
    import signal
    import time

    def handler(number, frame):
        os.write(1, b"handled %d\n" % number)
        sys.exit(5)

    if handled:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, handler)
    os.write(1, b"ready\n")
    time.sleep(60)


def broken_pipe():
    """Write until the reader is gone."""
    while True:
        print("x" * 100, flush=True)
