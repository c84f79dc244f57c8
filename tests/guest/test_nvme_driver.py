"""Linux's NVMe driver comes and goes, and resets the device in each way that it knows."""

import contextlib

from disk import Disk
from guest import MIB, Nvme, check, guest, random_disk, serving, sha256


class Two:
    """A guest with two disks, so that a stray effect of one on the other is seen."""

    def __init__(self, running, devices):
        self.guest = running
        self.disk, self.other = (Disk(running, device) for device in devices)


@contextlib.contextmanager
def guest_with_two_disks():
    devices = [
        Nvme(random_disk(16 * MIB, seed=n), slot=0x10 + n, serial=f"disk-{n}") for n in (0, 1)
    ]
    with serving(*devices), guest(*devices, cpus=2) as running:
        yield Two(running, devices)


def short_io(disk):
    disk.verify("--rw=randwrite --bs=4k --iodepth=16 --size=2m")


def each_disk_is_its_own(two):
    for disk in (two.disk, two.other):
        check(disk.sha256() == sha256(disk.device.file), f"{disk.path} is not its file")
        serial = two.guest.run(f"cat /sys/class/nvme/{disk.controller}/serial").strip()
        check(serial == disk.device.serial, f"the serial number is {serial}")


def unbinds_and_binds_again_and_again(two):
    for _ in range(5):
        two.disk.unbind()
        two.disk.bind()
        short_io(two.disk)


def unbinds_during_io(two):
    for _ in range(3):
        io = two.guest.spawn(
            two.disk.fio("--rw=randwrite --bs=4k --iodepth=32 --size=8m --time_based --runtime=60")
        )
        two.guest.run(
            f"until grep -q '[1-9]' /sys/class/block/{two.disk.name}/inflight; do :; done"
        )
        two.disk.unbind()
        check(io.wait()[0] != 0, "fio has noticed nothing")
        two.disk.bind()
        short_io(two.disk)


def resets_the_controller_during_io(two):
    io = two.guest.spawn(
        two.disk.fio(
            "--rw=randwrite --bs=4k --iodepth=16 --size=8m --loops=4",
            "--verify=crc32c --verify_fatal=1",
        )
    )
    for _ in range(3):
        two.guest.run(f"nvme reset /dev/{two.disk.controller}")
    status, output = io.wait()
    check(status == 0, f"fio ended with {status}\n{output}")


def resets_the_function(two):
    methods = two.guest.run(f"cat {two.disk.sysfs}/reset_method 2>/dev/null || true").split()
    check(methods, "the function has no way to reset it")
    for method in methods:
        two.guest.run(
            f"echo {method} >{two.disk.sysfs}/reset_method; echo 1 >{two.disk.sysfs}/reset"
        )
        two.disk.find()
        short_io(two.disk)
        two.disk.unbind()
        two.guest.run(f"echo 1 >{two.disk.sysfs}/reset")
        two.disk.bind()
        short_io(two.disk)


def is_found_again_by_a_rescan(two):
    two.guest.run(f"echo 1 >{two.disk.sysfs}/remove; echo 1 >/sys/bus/pci/rescan")
    two.disk.find()
    short_io(two.disk)


def other_disk_was_left_alone(two):
    check(two.other.sha256() == sha256(two.other.device.file), "the other disk is not its file")
    check(two.other.sha256() == sha256(random_disk(16 * MIB, seed=1)), "the other disk has changed")


GROUPS = [
    (
        guest_with_two_disks,
        [
            each_disk_is_its_own,
            unbinds_and_binds_again_and_again,
            unbinds_during_io,
            resets_the_controller_during_io,
            resets_the_function,
            is_found_again_by_a_rescan,
            other_disk_was_left_alone,
        ],
    ),
]
