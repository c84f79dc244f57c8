"""A machine starts from the NVMe disk, by BIOS and by UEFI: boot loader, kernel and initramfs."""

import contextlib

from disk import Disk
from guest import Nvme, boot_disk, check, guest, serving, sha256


@contextlib.contextmanager
def started_from_disk(firmware):
    device = Nvme(boot_disk())
    with serving(device), guest(device, start=firmware, reboots=True) as running:
        yield Disk(running, device)


def by_bios():
    return started_from_disk("bios")


def by_uefi():
    return started_from_disk("uefi")


def started_by(disk, firmware):
    words = disk.guest.run("cat /proc/cmdline").split()
    check(f"uvfio.started={firmware}" in words, f"the command line is {' '.join(words)}")


def bios_starts_linux(disk):
    started_by(disk, "bios")


def uefi_starts_linux(disk):
    started_by(disk, "uefi")
    check(disk.guest.sh("[ -d /sys/firmware/efi ]")[0] == 0, "not started by UEFI")


def guest_mounts_the_disk_it_started_from(disk):
    disk.guest.run(f"mount -t vfat -o iocharset=ascii {disk.path} /mnt")
    count = disk.guest.run("cat /mnt/vmlinuz | wc -c; echo written >/mnt/written; umount /mnt")
    check(int(count) > 1 << 20, f"the kernel has {count} bytes")


def disk_is_the_same_on_both_sides(disk):
    disk.guest.run("sync")
    check(disk.sha256() == sha256(disk.device.file), "guest and host read different bytes")


def bios_starts_linux_again_after_a_reboot(disk):
    disk.guest.reboot()
    started_by(disk, "bios")


def uefi_starts_linux_again_after_a_reboot(disk):
    disk.guest.reboot()
    started_by(disk, "uefi")


GROUPS = [
    (
        by_bios,
        [
            bios_starts_linux,
            guest_mounts_the_disk_it_started_from,
            disk_is_the_same_on_both_sides,
            bios_starts_linux_again_after_a_reboot,
        ],
    ),
    (by_uefi, [uefi_starts_linux, uefi_starts_linux_again_after_a_reboot]),
]
