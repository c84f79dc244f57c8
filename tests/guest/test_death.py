"""The device's process or QEMU dies at a bad moment, and the other one lives on."""

import contextlib
import time

from disk import Disk
from guest import (
    Lost,
    MIB,
    Nvme,
    OWN,
    Serial,
    Served,
    check,
    empty_disk,
    guest,
    needs_a_device_process,
    random_disk,
    sha256,
    start,
    tail,
    wait_until,
)

FLUSHED = 4 * MIB
# A driver that waits for a device that is gone gives up after these seconds.
IMPATIENT = "nvme_core.io_timeout=4 nvme_core.admin_timeout=4 nvme_core.shutdown_timeout=2"


class Deaths:
    """A disk that outlives its device processes and guests. What it starts it ends."""

    def __init__(self):
        self.device = Nvme(empty_disk())
        self.served = None
        self.guest = None

    def start_device(self):
        self.served = Served([self.device])

    def start_guest(self, **options):
        self.guest = start([self.device], append=IMPATIENT, **options)
        return Disk(self.guest, self.device)

    def start_io(self, disk, depth=16):
        """Writes behind what is flushed, until something stops it."""
        io = disk.guest.spawn(
            disk.fio(
                f"--rw=randwrite --bs=4k --iodepth={depth} --offset={FLUSHED} --time_based --runtime=600"
            )
        )
        before = sum(disk.interrupts().values())
        wait_until(lambda: sum(disk.interrupts().values()) > before + 100, "I/O in the guest")
        check(not io.done, f"fio has ended: {io.output}")
        return io

    def write_flushed(self, disk):
        """Returns the hash of what the device said is durable."""
        disk.write(0, f"head -c {FLUSHED} /dev/urandom")
        return disk.sha256(0, FLUSHED)

    def end(self):
        if self.guest:
            self.guest.kill()
        if self.served:
            self.served.kill()


@contextlib.contextmanager
def device_process_dies():
    needs_a_device_process()
    deaths = Deaths()
    try:
        yield deaths
    finally:
        deaths.end()


# QEMU 11.1's vfio-user client aborts when its server goes away with bytes that it has not read: the
# connection is reset, which it reports twice.
QEMU_DEFECT = "error_setv: Assertion `*errp == NULL' failed"


def guest_gets_errors_when_the_device_dies(deaths):
    for paused in (False, True):
        deaths.start_device()
        disk = deaths.start_guest()
        deaths.hash = deaths.write_flushed(disk)
        try:
            guest_sees_the_device_die(deaths, disk, paused)
            return
        except Lost:
            if paused or QEMU_DEFECT not in tail(deaths.guest.qemu.log):
                raise
            deaths.guest.kill()


def guest_sees_the_device_die(deaths, disk, paused):
    io = deaths.start_io(disk, depth=1)
    if paused:
        # Nothing new is sent, and what was sent is soon read.
        deaths.guest.qmp("stop")
        time.sleep(1)
    deaths.served.kill()
    if paused:
        deaths.guest.qmp("cont")
    status, output = io.wait()
    check(status != 0, f"fio has noticed nothing:\n{output}")
    # The kernel leaves an empty disk, or none.
    read = deaths.guest.run(f"dd if={disk.path} bs=4k count=1 iflag=direct 2>/dev/null | wc -c")
    check(read == "0", f"{read} bytes of a dead device were read")
    # All that needs no device still works.
    check(deaths.guest.run("echo alive") == "alive", "the guest does not answer")
    check(deaths.guest.qmp("query-status")["running"], "the guest does not run")


def qemu_ends_when_asked_after_the_device_died(deaths):
    deaths.guest.qmp("quit")
    status = deaths.guest.qemu.popen.wait(60)
    check(status == 0, f"QEMU ended with {status}")


def new_device_process_has_what_was_flushed(deaths):
    check(
        sha256(deaths.device.file, 0, FLUSHED) == deaths.hash, "the file has lost what was flushed"
    )
    deaths.served.start()
    disk = deaths.start_guest()
    check(disk.sha256(0, FLUSHED) == deaths.hash, "the guest does not find what was flushed")
    disk.verify("--rw=randwrite --bs=4k --iodepth=16 --size=4m")
    deaths.guest.power_off()
    deaths.served.stop()


@contextlib.contextmanager
def qemu_dies():
    """QEMU's own devices die with it: then the test is that the next one has what was flushed."""
    deaths = Deaths()
    try:
        if not OWN:
            deaths.start_device()
        yield deaths
        if not OWN:
            deaths.served.stop()
    finally:
        deaths.end()


def next_qemu_finds_the_device_reset(deaths):
    disk = deaths.start_guest()
    for _ in range(2):
        hash_before = deaths.write_flushed(disk)
        deaths.start_io(disk)
        deaths.guest.kill()
        if not OWN:
            deaths.served.check_alive()
        check(
            sha256(deaths.device.file, 0, FLUSHED) == hash_before,
            "the file has lost what was flushed",
        )

        # Before any firmware has run: no BAR is where the last guest had it.
        disk = None
        deaths.guest = start([deaths.device], append=IMPATIENT, paused=True)
        bars = registers(deaths.guest, deaths.device)
        check(bars, "the device has no BAR")
        check(all(address == -1 for address in bars), f"BARs are at {bars}")
        deaths.guest.qmp("cont")
        deaths.guest.wait_ready()
        disk = Disk(deaths.guest, deaths.device)
        check(
            disk.sha256(0, FLUSHED) == hash_before, "the next guest does not find what was flushed"
        )
        disk.verify("--rw=randwrite --bs=4k --iodepth=16 --size=4m")
    deaths.guest.power_off()


def registers(running, device):
    """The addresses of the device's BARs, -1 for what is not mapped."""
    for bus in running.qmp("query-pci"):
        for found in bus["devices"]:
            if found["slot"] == device.slot:
                return [region["address"] for region in found["regions"]]
    return []


@contextlib.contextmanager
def one_process_serves_several():
    needs_a_device_process()
    devices = [
        Nvme(random_disk(16 * MIB, seed=1), slot=0x10, serial="disk-0"),
        Nvme(random_disk(16 * MIB, seed=2), slot=0x11, serial="disk-1"),
        Serial(slot=0x12),
    ]
    served = Served(devices)
    try:
        yield served
        served.stop()
    finally:
        served.kill()


def one_process_serves_two_guests(served):
    """A guest for each disk, at the same time: one crashes, and the other is not disturbed."""
    first, second, serial = served.devices
    with guest(second, serial) as survivor:
        disk = Disk(survivor, second)
        crasher = start([first])
        try:
            io = Disk(crasher, first).fio(
                "--rw=randwrite --bs=4k --iodepth=16 --time_based --runtime=600"
            )
            crasher.spawn(io)
            verified = survivor.spawn(
                disk.fio("--rw=randwrite --bs=4k --iodepth=16 --size=8m --verify=crc32c")
            )
        finally:
            crasher.kill()
        status, output = verified.wait()
        check(status == 0, f"fio ended with {status}\n{output}")
        with guest(first) as after:
            Disk(after, first).verify("--rw=randwrite --bs=4k --iodepth=16 --size=4m")


GROUPS = [
    (
        device_process_dies,
        [
            guest_gets_errors_when_the_device_dies,
            qemu_ends_when_asked_after_the_device_died,
            new_device_process_has_what_was_flushed,
        ],
    ),
    (qemu_dies, [next_qemu_finds_the_device_reset]),
    (one_process_serves_several, [one_process_serves_two_guests]),
]
