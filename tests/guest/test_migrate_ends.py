"""Moves that come to nothing: the machine goes on where it was."""

import contextlib

from disk import Disk
from failures import check, wait_until
from guest import MIB, needs_a_device_process, random_disk, sha256
from load import Devices, Work
from machine import SLOW, machine

BY_CANCELLING = "cancelled"
BY_KILLING = "destination_killed"
# A limit with which it stops at once, with all its memory to be sent still: more than fits into a
# socket.
SOON = 60_000


class Doomed:
    """A move as far as one of its states. HOW: its way out."""

    def __init__(self, moving, how):
        self.moving = moving
        self.how = how
        self.to = moving.add()

    def cancel(self):
        self.moving.place.qmp("migrate_cancel")

    def cancel_connecting(self):
        """Which QEMU still waits for."""
        self.cancel()
        self.moving.relay.close()

    def kill(self):
        self.to.kill()
        self.moving.relay.close()

    def kill_and_go_on(self):
        """As long as QEMU waits to be told to go on, it notices nothing."""
        self.kill()
        self.moving.place.qmp("migrate-continue", state="pre-switchover")

    def end(self, cancel=None, kill=None):
        source = self.moving.place
        if self.how == BY_CANCELLING:
            (cancel or self.cancel)()
        else:
            (kill or self.kill)()
        self.moving.wait_for("cancelled", "failed")
        self.moving.relay.close()
        self.to.kill()
        wait_until(lambda: source.qmp("query-status")["status"] == "running", "the source to go on")


def while_it_is_set_up(doomed):
    doomed.moving.begin(doomed.to, busy=True)
    doomed.moving.wait_for("setup")
    doomed.end(cancel=doomed.cancel_connecting)


def while_memory_is_sent(doomed):
    doomed.moving.begin(doomed.to, busy=False, bandwidth=SLOW)
    doomed.moving.wait_for("active")
    doomed.end()


def while_memory_is_sent_again(doomed):
    doomed.moving.begin(doomed.to, busy=False, limit=0)
    doomed.moving.wait_for_pass(2)
    doomed.end()


def while_it_is_stopped(doomed):
    doomed.moving.begin(doomed.to, busy=False)
    doomed.moving.wait_for("pre-switchover")
    doomed.end(kill=doomed.kill_and_go_on)


def while_devices_are_saved(doomed):
    source = doomed.moving.place
    doomed.moving.begin(doomed.to, busy=False, limit=SOON)
    doomed.moving.wait_for("pre-switchover")
    doomed.moving.relay.hold()
    source.qmp("migrate-continue", state="pre-switchover")
    source.guest.wait_event("MIGRATION", status="device")
    # QEMU does nothing else until it is rid of what it sends.
    doomed.end(
        cancel=lambda: source.qmp("yank", at_once=True, instances=[{"type": "migration"}])
    )


def doomed(**options):
    @contextlib.contextmanager
    def fixture():
        needs_a_device_process()
        file = random_disk(8 * MIB)
        place = Devices(file, **options)
        with machine(place, pause_before_switchover=True, events=True) as moving:
            moving.work = Work(moving, Disk(moving.guest, moving.place.devices[0]).path)
            moving.file = file
            yield moving

    return fixture


def goes_on(state, how, where=""):
    def test(moving):
        state(Doomed(moving, how))
        moving.work.check_goes_on()
        moving.check_log()

    test.__name__ = f"goes_on{where}_if_{how}_{state.__name__}"
    return test


def moves(where=""):
    def test(moving):
        to = moving.add()
        moving.begin(to)
        moving.wait_for("pre-switchover")
        moving.place.qmp("migrate-continue", state="pre-switchover")
        moving.arrive(to)
        moving.leave()
        moving.work.end()
        disk = Disk(moving.guest, moving.place.devices[0])
        check(disk.sha256() == sha256(moving.file), "guest and host read different bytes")
        moving.check_log()

    test.__name__ = f"moves{where}_all_the_same"
    return test


STATES = [
    while_it_is_set_up,
    while_memory_is_sent,
    while_memory_is_sent_again,
    while_it_is_stopped,
    while_devices_are_saved,
]


def tests_of(states, where=""):
    ways = [(state, how) for state in states for how in (BY_CANCELLING, BY_KILLING)]
    return [*[goes_on(state, how, where) for state, how in ways], moves(where)]


GROUPS = [
    (doomed(), tests_of(STATES)),
    (doomed(chained=True), tests_of(STATES[2:], "_behind_a_socket")),
]
