"""What a test of this folder can find wrong, and how it waits."""

import time

BOOT_TIMEOUT = 180
COMMAND_TIMEOUT = 120


class Failure(Exception):
    """What a test found wrong."""


class Lost(Failure):
    """The guest or its QEMU doesn't answer: nothing more can be tested with it."""


class Breakpoint(Lost):
    """
    The guest's kernel died of a breakpoint in its own code while it started. Linux plants and
    removes them when it patches itself, and TCG with a thread for each processor can run one that
    is no longer there. No device has to do with that.
    """


class Skip(Exception):
    """The test means nothing here."""


def check(condition, reason):
    if not condition:
        raise Failure(reason)


def wait_until(condition, what, timeout=COMMAND_TIMEOUT, interval=0.02):
    """Polls until condition() gives something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failure(f"waited {timeout} s for: {what}")
        time.sleep(interval)
