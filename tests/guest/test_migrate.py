"""A virtual machine moves to another QEMU, and its devices and what they write move with it."""

import contextlib
import json

from disk import Disk
from failures import check, wait_until
from guest import MIB, Device, Ioat, Nvme, Offered, needs_a_device_process, random_disk, sha256
from machine import SLOW, machine
from test_ioat import Engine

MOVES = 20
FLOOR_MOVES = 6

# Writes the whole disk in a new order, reads it again and compares, until it is told to stop; then
# reads what was written last once more.
WORK = """n=1
work() {{
    fio --name=io --filename={path} --direct=1 --ioengine=libaio --rw=randwrite --bs=4k \\
        --iodepth=8 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=$n "$@"
}}
while [ ! -e /tmp/stop ]; do
    n=$((n + 1))
    work --verify_backlog=256 >/tmp/fio.log 2>&1 || {{ cat /tmp/fio.log; exit 1; }}
done
work --verify_only && echo $((n - 1)) passes"""


class Work:
    """fio at work on the disk PATH of the guest of MOVING, wherever that is."""

    def __init__(self, moving, path):
        self.guest = moving
        self.command = moving.guest.spawn(WORK.format(path=path))

    def check_goes_on(self):
        if self.command.done:
            check(False, f"fio has ended: {self.command.wait()[1]}")

    def end(self):
        self.check_goes_on()
        self.guest.run("touch /tmp/stop")
        status, output = self.command.wait()
        check(status == 0, f"fio ended with {status}\n{output}")
        self.guest.run("rm /tmp/stop")
        return output.splitlines()[-1]


class VirtioDisk(Device):
    """QEMU's own, for comparison."""

    name = "virtio"

    def __init__(self, file, slot=0x10):
        super().__init__(slot)
        self.file = file

    def qemu_arguments(self):
        backend = {"driver": "file", "node-name": "disk", "filename": self.file}
        device = {"driver": "virtio-blk-pci", "addr": f"{self.slot:x}.0", "drive": "disk"}
        return ["-blockdev", json.dumps(backend), "-device", json.dumps(device)]


def nvme(file, incoming, by="host", properties=()):
    device = Nvme(file, options=["incoming=on"] if incoming else [])
    return Offered(device, by, properties=properties)


def engine(by="host", properties=()):
    offered = Offered(Ioat(), by, properties=properties)
    offered.channels = offered.device.channels
    return offered


# While it works


@contextlib.contextmanager
def working():
    needs_a_device_process()
    file = random_disk(16 * MIB)

    def place(incoming):
        return {"devices": [nvme(file, incoming), engine()]}

    with machine(place) as moving:
        moving.file = file
        yield moving


def floor():
    """Downtimes of the same machine with a disk of QEMU's own instead."""
    file = random_disk(16 * MIB)

    def place(incoming):
        return {"devices": [], "others": [VirtioDisk(file)]}

    with machine(place) as moving:
        moving.run("modprobe virtio_blk")
        work = Work(moving, "/dev/vda")
        downtimes = [moving.move()["downtime"] for _ in range(FLOOR_MOVES)]
        work.end()
    return downtimes


def goes_back_and_forth(moving):
    disk = Disk(moving.guest, moving.place.devices[0])
    moving.run("modprobe ioatdma")
    work = Work(moving, disk.path)
    downtimes = []
    for _ in range(MOVES):
        downtimes.append(moving.move()["downtime"])
        work.check_goes_on()
    passes = work.end()
    disk.guest = moving.guest
    check(disk.sha256() == sha256(moving.file), "guest and host read different bytes")
    ioat = Engine(moving.guest, moving.place.devices[1])
    ioat.unbind()
    ioat.bind()
    ioat.check_works()
    moving.check_log()
    print("    ms down:", *downtimes, f"({passes})")
    print("    ms down without the devices:", *floor())


# What devices write into memory that has been sent already

PIECE = 4 * MIB
# Of whom QEMU asks what is dirty: a device, or the container or IOAS that it is in.
TRACKED = {
    "device": ("host", {}),
    "container": ("host", {"enable-migration": "on", "x-device-dirty-page-tracking": "off"}),
    "iommufd_device": ("iommufd", {}),
    "iommufd": ("iommufd", {"enable-migration": "on", "x-device-dirty-page-tracking": "off"}),
}


def tracked_place(file, by, properties):
    def place(incoming):
        devices = [nvme(file, incoming, by, properties), engine(by, properties)]
        return {"devices": devices, "append": "init_on_alloc=0"}

    return place


class Tracked:
    """A machine, and a disk that nobody writes: what was read of it once is in the page cache."""

    def __init__(self, moving, file):
        self.moving = moving
        self.file = file
        self.disk = Disk(moving.guest, moving.place.devices[0])
        # The cache of a block device that nobody has open is dropped.
        moving.run(f"sleep 1000000 <{self.disk.path} >/dev/null 2>&1 &")
        self.piece = 0
        self.variant = "device"

    def cached(self):
        return self.moving.run(
            "set -o pipefail;"
            f"dd if={self.disk.path} bs={PIECE} skip={self.piece} count=1 2>/dev/null | sha256sum"
        ).split()[0]

    def move(self, place):
        """
        Gives whether the page cache on the other side holds what the device has written into it
        while its pages had been sent. A piece is not read twice: what is missed would show nothing.
        """
        self.piece += 1
        expected = sha256(self.file, self.piece * PIECE, PIECE)
        to = self.moving.add(place)
        self.moving.begin(to, limit=0)
        self.moving.wait_for_pass(2)
        check(self.cached() == expected, "guest and host read different bytes")
        self.moving.complete()
        self.moving.arrive(to)
        return self.cached() == expected


@contextlib.contextmanager
def tracked():
    needs_a_device_process()
    file = random_disk()
    with machine(tracked_place(file, *TRACKED["device"])) as moving:
        yield Tracked(moving, file)


def tracks(variant):
    def test(tracked):
        moving = tracked.moving
        place = tracked_place(tracked.file, *TRACKED[variant])
        if tracked.variant != variant:
            moving.move(moving.add(place))
            tracked.variant = variant
        moving.place.uvfio("inject", "dirty-lose,count=0,device=" + moving.place.devices[0].host)
        check(not tracked.move(place), "nothing is stale, though no report told of it")
        moving.go_back()
        moving.place.uvfio("clear")
        check(tracked.move(place), "memory is stale")
        moving.leave()
        moving.check_log()

    test.__name__ = f"sends_again_what_was_written_{variant}"
    return test


# Moves that come to nothing

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
        self.to.guest.kill()
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
        self.to.guest.kill()
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


@contextlib.contextmanager
def doomed():
    needs_a_device_process()
    file = random_disk(16 * MIB)

    def place(incoming):
        return {"devices": [nvme(file, incoming), engine()]}

    with machine(place, pause_before_switchover=True, events=True) as moving:
        moving.work = Work(moving, Disk(moving.guest, moving.place.devices[0]).path)
        moving.file = file
        yield moving


def goes_on(state, how):
    def test(moving):
        state(Doomed(moving, how))
        moving.work.check_goes_on()
        moving.check_log()

    test.__name__ = f"goes_on_if_{how}_{state.__name__}"
    return test


def moves_all_the_same(moving):
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


STATES = [
    while_it_is_set_up,
    while_memory_is_sent,
    while_memory_is_sent_again,
    while_it_is_stopped,
    while_devices_are_saved,
]


GROUPS = [
    (
        doomed,
        [goes_on(state, how) for state in STATES for how in (BY_CANCELLING, BY_KILLING)]
        + [moves_all_the_same],
    ),
    (tracked, [tracks(variant) for variant in TRACKED]),
    (working, [goes_back_and_forth]),
]
