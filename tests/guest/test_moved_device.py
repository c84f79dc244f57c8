"""
A guest's device goes from one process to another and back while the guest uses it: QEMU, whose
device it is by vfio-user, takes no part in it.
"""

import contextlib
import json
import subprocess

from disk import Disk
from guest import UVFIO, Nvme, Served, check, empty_disk, guest, needs_a_device_process, tail

MOVES = 20


class Moved:
    """The disk in the guest, and the two processes that can have it."""

    def __init__(self, running, here, there):
        self.guest = running
        self.disk = Disk(running, here.devices[0])
        self.here = here
        self.there = there

    def move(self, *options):
        """To the other process. Returns the report."""
        command = [UVFIO, "migrate", "--json", self.here.control, self.there.control, *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        check(
            result.returncode == 0,
            f"{result.stderr}\n{tail(self.here.process.log)}\n{tail(self.there.process.log)}",
        )
        self.here, self.there = self.there, self.here
        return json.loads(result.stdout)


@contextlib.contextmanager
def guest_with_two_processes():
    needs_a_device_process()
    device = Nvme(empty_disk())
    other = Nvme(device.file, serial=device.serial, options=("incoming=on",))
    servers = []
    try:
        servers += [Served([device]), Served([other])]
        with guest(device, cpus=2, reboots=True) as running:
            yield Moved(running, *servers)
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            server.kill()


def fio_verifies_while_it_moves(moved):
    work = moved.guest.spawn(
        "until [ -e /tmp/enough ]; do "
        + moved.disk.fio(
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_backlog=64",
            "--randrepeat=0",
            "--output-format=terse",
            "--rw=randwrite --bsrange=4k-64k --iodepth=16 --size=16m",
            "--numjobs=2 --offset_increment=32m",
        )
        + " || exit; done"
    )
    reports = [moved.move() for _ in range(MOVES)]
    moved.guest.run("touch /tmp/enough")
    status, output = work.wait()
    check(status == 0, f"fio ended with {status}\n{output}")
    downtimes = sorted(report["downtime_ms"] for report in reports)
    print(
        f"    {MOVES} moves; downtime {downtimes[0]:.1f} to {downtimes[-1]:.1f} ms,"
        f" median {downtimes[MOVES // 2]:.1f}"
    )


def guest_has_noticed_nothing(moved):
    messages = moved.guest.run("dmesg | grep -E 'nvme.*(timeout|reset|abort|error)' || true")
    check(not messages, messages)


def driver_can_be_bound_again(moved):
    moved.move()
    moved.disk.unbind()
    moved.move()
    moved.disk.bind()
    moved.disk.verify("--rw=randwrite --bs=4k --iodepth=32 --size=8m")


def guest_reboots_with_it(moved):
    moved.move()
    moved.guest.reboot()
    moved.disk = Disk(moved.guest, moved.disk.device)
    moved.disk.verify("--rw=randwrite --bs=4k --iodepth=32 --size=8m")
    moved.move()
    moved.disk.verify("--rw=randwrite --bs=4k --iodepth=32 --size=8m")


GROUPS = [
    (
        guest_with_two_processes,
        [
            fio_verifies_while_it_moves,
            guest_has_noticed_nothing,
            driver_can_be_bound_again,
            guest_reboots_with_it,
        ],
    ),
]
