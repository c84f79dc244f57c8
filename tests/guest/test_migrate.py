"""A virtual machine moves to another QEMU, and its devices and what they do move with it."""

import contextlib
import statistics

from disk import Disk
from failures import check
from guest import MIB, needs_a_device_process, random_disk, sha256
from load import Comparison, Devices, Work
from machine import machine
from test_ioat import Engine

SIZE = 8 * MIB
MOVES = 20
SOME_MOVES = 3


class Moving:
    """MOVING, with fio at work on its disk."""

    def __init__(self, moving, file):
        self.moving = moving
        self.file = file
        self.disk = Disk(moving.guest, moving.place.devices[0])
        moving.run("modprobe ioatdma")
        self.work = Work(moving, self.disk.path)

    def move(self, count):
        """Gives how long it was down, in ms."""
        downtimes = []
        for _ in range(count):
            downtimes.append(self.moving.move()["downtime"])
            self.work.check_goes_on()
        return downtimes

    def end(self):
        passes = self.work.end()
        self.disk.guest = self.moving.guest
        check(self.disk.sha256() == sha256(self.file), "guest and host read different bytes")
        engine = Engine(self.moving.guest, self.moving.place.devices[1])
        engine.unbind()
        engine.bind()
        engine.check_works()
        self.moving.check_log()
        return passes


def moving(**options):
    @contextlib.contextmanager
    def fixture():
        needs_a_device_process()
        file = random_disk(SIZE)
        with machine(Devices(file, **options)) as a_machine:
            yield Moving(a_machine, file)

    return fixture


medians = []


def show(what, downtimes):
    """The first that is shown is what the others are compared with."""
    medians.append(statistics.median(downtimes))
    print(f"    {what}: down for {' '.join(map(str, downtimes))} ms; the median is", end=" ")
    print(f"{medians[-1]:g}", end="\n" if len(medians) == 1 else "")
    if len(medians) > 1:
        print(f", {medians[-1] - medians[0]:+g} (goal: +10 at most)")


def goes_back_and_forth(moving):
    downtimes = moving.move(MOVES)
    passes = moving.end()
    show(f"with the devices, {passes}", downtimes)


def goes_without_the_devices(_):
    """For comparison: the same with a disk of QEMU's own."""
    with machine(Comparison(random_disk(SIZE))) as other:
        other.run("modprobe virtio_blk")
        work = Work(other, "/dev/vda")
        downtimes = [other.move()["downtime"] for _ in range(2 * SOME_MOVES)]
        passes = work.end()
    show(f"without the devices, {passes}", downtimes)


def goes_with_its_process(moving):
    downtimes = moving.move(SOME_MOVES)
    passes = moving.end()
    show(f"the disk behind a socket, {passes}", downtimes)


def goes_with_an_older_qemu(moving):
    downtimes = moving.move(1)
    passes = moving.end()
    show(f"an older QEMU, {passes}", downtimes)


def goes_with_trapped_doorbells(moving):
    """QEMU has them mapped, and doesn't know that they are taken away while the state is saved."""
    downtimes = moving.move(SOME_MOVES)
    passes = moving.end()
    show(f"the doorbells trapped while saving, {passes}", downtimes)


@contextlib.contextmanager
def nothing():
    needs_a_device_process()
    yield


GROUPS = [
    (nothing, [goes_without_the_devices]),
    (moving(), [goes_back_and_forth]),
    (moving(chained=True), [goes_with_its_process]),
    (moving(disk=["poll=on", "doorbells=trapped-while-saving"]), [goes_with_trapped_doorbells]),
    (moving(program="GUEST_STABLE_QEMU"), [goes_with_an_older_qemu]),
]
