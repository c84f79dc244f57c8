"""QEMU with its own vfio-pci, started by `uvfio run`: a machine starts from the disk it finds."""

import contextlib
import glob
import os
import signal

import test_ioat
from disk import Disk
from guest import UVFIO, Failure, Guest, Ioat, Nvme, Offered, boot_disk, check, empty_disk
from guest import guest, needs_a_device_process, random_disk, serving, sha256, wait_until


def under_run(*offered):
    needs_a_device_process()
    words = [UVFIO, "run"]
    for device in offered:
        words += ["--device", device.spec()]
    return [*words, "--"]


@contextlib.contextmanager
def started(by, chained=False, **options):
    """
    BY is how vfio-pci is told of the device. CHAINED: the device is in yet another process, behind
    a socket.
    """
    device = Nvme(boot_disk())
    offered = Offered(device, by, f"vfio-user,socket={device.socket}" if chained else None)
    options.update(start="bios", reboots=True, under=under_run(offered))
    with serving(*[device] if chained else []):
        with guest(offered, **options) as running:
            yield Disk(running, offered)


# Debian 12's QEMU knows groups and type1 alone.


def old_by_host():
    return started("host", program="GUEST_OLD_QEMU")


def old_by_sysfsdev():
    return started("sysfsdev", program="GUEST_OLD_QEMU")


def by_host():
    return started("host")


def by_sysfsdev():
    return started("sysfsdev")


def by_iommufd():
    return started("iommufd")


def chained():
    return started("host", chained=True)


def private_memory():
    return started("host", shared=False)


def starts_from_the_disk(disk):
    words = disk.guest.run("cat /proc/cmdline").split()
    check("uvfio.started=bios" in words, f"the command line is {' '.join(words)}")


def memory_is_shared(disk):
    """The supervisor has the guest's memory mapped: no copy through another process's memory."""
    mapped = 0
    with open(f"/proc/{disk.guest.qemu.popen.pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            words = line.split(maxsplit=5)
            if len(words) > 5 and words[5].startswith("/memfd:memory-backend-memfd"):
                first, end = (int(word, 16) for word in words[0].split("-"))
                mapped += end - first
    check(mapped >= disk.guest.memory, f"{mapped} bytes of the guest's memory are mapped")


def disk_is_the_same_on_both_sides(disk):
    disk.write(0x3F00000, "yes written | head -c 1048576")
    check(disk.sha256() == sha256(disk.device.device.file), "guest and host read different bytes")


def queues_interrupt(disk):
    counts = disk.interrupts()
    check(counts.get(0, 0) > 0, f"the admin queue had no interrupt: {counts}")
    check(sum(counts.values()) > counts[0], f"no I/O queue had an interrupt: {counts}")


def starts_again_after_a_reboot(disk):
    disk.guest.reboot()
    starts_from_the_disk(disk)


SHARED = [
    starts_from_the_disk,
    memory_is_shared,
    disk_is_the_same_on_both_sides,
    queues_interrupt,
]
PRIVATE = [test for test in SHARED if test is not memory_is_shared]


def tests_of(variant, tests):
    """The same tests for each variant, by names that say which it is."""

    def named(test):
        def run(disk):
            test(disk)

        run.__name__ = f"{variant.__name__}_{test.__name__}"
        return run

    return variant, [named(test) for test in tests]


# Two devices, each a group of its own, in one container


@contextlib.contextmanager
def two_devices():
    disk, engine = Offered(Nvme(random_disk()), "host"), Offered(Ioat(), "host")
    engine.channels = engine.device.channels
    with guest(disk, engine, under=under_run(disk, engine)) as running:
        running.run("modprobe ioatdma")
        both = test_ioat.Engine(running, engine)
        both.disk = Disk(running, disk)
        yield both


def both_work(both):
    disk = both.disk
    check(disk.sha256() == sha256(disk.device.device.file), "guest and host read different bytes")
    both.check_works()


# Ends that are not orderly


@contextlib.contextmanager
def no_guest():
    yield


def command_line(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as words:
        return words.read()


def start_qemu():
    """One that has the device, and whose guest has not begun. Gives it, and QEMU's process id."""
    offered = Offered(Nvme(empty_disk()), "host")
    running = Guest([offered], paused=True, under=under_run(offered))
    pid = running.qemu.popen.pid
    for tasks in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(tasks, encoding="ascii") as file:
            for child in file.read().split():
                # Another child can be uvfio's own.
                if command_line(child) != command_line(pid):
                    return running, int(child)
    running.kill()
    raise Failure("uvfio run has no child that is QEMU")


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "XZ"
    except OSError:
        return False


def killed_qemu_ends_the_run(_):
    running, pid = start_qemu()
    try:
        os.kill(pid, signal.SIGKILL)
        status = running.qemu.popen.wait(30)
        check(status in (-signal.SIGKILL, 128 + signal.SIGKILL), f"uvfio run ended with {status}")
    finally:
        running.kill()


def killed_run_ends_qemu(_):
    running, pid = start_qemu()
    running.kill()
    try:
        wait_until(lambda: not is_running(pid), "QEMU to end", timeout=30)
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


GROUPS = [
    *[
        tests_of(variant, SHARED)
        for variant in [old_by_host, old_by_sysfsdev, by_sysfsdev, by_iommufd, chained]
    ],
    tests_of(by_host, [*SHARED, starts_again_after_a_reboot]),
    tests_of(private_memory, PRIVATE),
    (
        two_devices,
        [both_work, test_ioat.resets_the_function, test_ioat.interrupts_by_its_pin],
    ),
    (no_guest, [killed_qemu_ends_the_run, killed_run_ends_qemu]),
]
