"""What devices write into memory that has been sent already is sent again."""

import contextlib

from disk import Disk
from failures import check
from guest import MIB, needs_a_device_process, random_disk, sha256
from load import Devices
from machine import machine

PIECE = 4 * MIB
# Of whom QEMU asks what is dirty: a device, or the container or IOAS that it is in. With which
# calls, and with which not.
OFF = {"enable-migration": "on", "x-device-dirty-page-tracking": "off"}
TRACKED = {
    "by_the_device": {},
    "by_the_container": {"properties": OFF},
    "by_the_device_in_iommufd": {"by": "iommufd"},
    "by_iommufd": {"by": "iommufd", "properties": OFF},
    "by_the_process_of_the_device": {"chained": True},
}
CALLS = {
    "by_the_container": "VFIO_IOMMU_DIRTY_PAGES",
    "by_iommufd": "IOMMU_HWPT_GET_DIRTY_BITMAP",
}


class Tracked:
    """A machine, and a disk that nobody writes: what was read of it once is in the page cache."""

    def __init__(self, moving, file):
        self.moving = moving
        self.file = file
        self.disk = Disk(moving.guest, moving.place.devices[0])
        # The cache of a block device that nobody has open is dropped.
        moving.run(f"sleep 1000000 <{self.disk.path} >/dev/null 2>&1 &")
        self.piece = 0

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
    with machine(place(file, "by_the_device")) as moving:
        yield Tracked(moving, file)


def place(file, variant):
    # What the kernel itself writes into a page would be sent for that reason.
    return Devices(file, append="init_on_alloc=0", **TRACKED[variant])


def check_calls(source, variant):
    calls = source.calls()
    for other, name in CALLS.items():
        check((name in calls) == (other == variant), f"the calls are {calls}")


def sends_again(variant):
    def test(tracked):
        moving = tracked.moving
        if variant != "by_the_device":
            moving.move(moving.add(place(tracked.file, variant)))
        disk = moving.place.devices[0]
        moving.place.inject(disk, "dirty-lose,count=0")
        check(not tracked.move(place(tracked.file, variant)), "nothing is stale without reports")
        moving.go_back()
        moving.place.clear()
        check(tracked.move(place(tracked.file, variant)), "memory is stale")
        check_calls(moving.source, variant)
        moving.leave()
        moving.check_log()

    test.__name__ = f"sends_again_what_is_logged_{variant}"
    return test


GROUPS = [
    (tracked, [sends_again(variant) for variant in TRACKED]),
]
