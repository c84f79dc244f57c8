"""A guest reads from an NVMe disk what it wrote, and what the file on the host holds."""

import contextlib

from disk import Disk
from guest import MIB, Nvme, check, guest, random_disk, serving, sha256

CPUS = 4


@contextlib.contextmanager
def guest_with_disk():
    device = Nvme(random_disk())
    with serving(device), guest(device, cpus=CPUS, reboots=True) as running:
        yield Disk(running, device)


def reads_what_the_file_holds(disk):
    check(disk.sha256() == sha256(disk.device.file), "guest and host read different bytes")


def has_a_queue_for_each_cpu(disk):
    count = disk.guest.run(f"cat /sys/class/nvme/{disk.controller}/queue_count")
    check(int(count) == CPUS + 1, f"the driver has {count} queues with {CPUS} CPUs")


def fio_verifies_over_all_queues_and_each_interrupts(disk):
    before = disk.interrupts()
    disk.verify(
        f"--numjobs={CPUS} --cpus_allowed=0-{CPUS - 1} --cpus_allowed_policy=split",
        "--rw=randwrite --bs=4k --iodepth=32 --size=8m --offset_increment=16m",
    )
    after = disk.interrupts()
    check(len(after) == CPUS + 1, f"interrupts are {after}")
    for queue in range(1, CPUS + 1):
        check(after[queue] > before[queue], f"queue {queue} has not interrupted: {before}, {after}")


def fio_verifies_random_sizes(disk):
    disk.verify(
        "--numjobs=4 --rw=randwrite --bsrange=512-256k --blockalign=512 --iomem_align=512",
        "--iodepth=16 --size=15m --offset_increment=16m",
    )


def fio_verifies_largest_transfers(disk):
    disk.verify("--rw=write --bs=4m --iodepth=4 --size=32m --iomem_align=512")


def fio_verifies_mixed_with_flushes(disk):
    disk.verify("--rw=randrw --bs=8k --iodepth=8 --size=8m --fsync=16")


def file_system_holds_files(disk):
    disk.guest.run(f"mke2fs -F {disk.path} && modprobe ext4 && mount -t ext4 {disk.path} /mnt")
    disk.guest.run(
        """cp -r /usr/bin/fio /usr/bin/nvme /usr/lib64 /mnt
            cd /mnt
            find . -type f | xargs sha256sum >/tmp/sums"""
    )
    disk.guest.run(f"umount /mnt; echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 {disk.path} /mnt")
    disk.guest.run("cd /mnt; sha256sum -c /tmp/sums; cd /; umount /mnt")


def discards_no_more_than_asked(disk):
    sector = "tr '\\0' x </dev/zero | head -c"
    disk.write(0, f"{sector} {3 * MIB}")
    disk.guest.run(f"blkdiscard -o {MIB} -l {MIB} {disk.path}")
    for offset in (0, 2 * MIB):
        expected = disk.guest.run(f"{sector} {MIB} | sha256sum").split()[0]
        check(disk.sha256(offset, MIB) == expected, f"the MiB at {offset} has changed")


def file_holds_what_the_guest_wrote(disk):
    disk.flush()
    check(disk.sha256() == sha256(disk.device.file), "guest and host read different bytes")


def contents_survive_a_reboot(disk):
    disk.write(5 * MIB, f"head -c {4 * MIB} /dev/urandom")
    before = disk.sha256()
    disk.guest.reboot()
    again = Disk(disk.guest, disk.device)
    check(again.sha256() == before, "the disk is another one after the reboot")
    check(
        sha256(disk.device.file) == before, "the file is not what the guest reads after the reboot"
    )
    again.verify("--rw=randwrite --bs=4k --iodepth=16 --size=4m")


GROUPS = [
    (
        guest_with_disk,
        [
            reads_what_the_file_holds,
            has_a_queue_for_each_cpu,
            fio_verifies_over_all_queues_and_each_interrupts,
            fio_verifies_random_sizes,
            fio_verifies_largest_transfers,
            fio_verifies_mixed_with_flushes,
            file_system_holds_files,
            discards_no_more_than_asked,
            file_holds_what_the_guest_wrote,
            contents_survive_a_reboot,
        ],
    ),
]
