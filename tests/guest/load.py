"""Devices of a machine that moves, and what works on its disks meanwhile."""

import json

from failures import check
from guest import Device, Ioat, Nvme, Offered

# Writes the whole disk in a new order, reads it again and compares, until it is told to stop; then
# reads what was written last once more. Flushes take so long that one is often in progress when the
# machine stops.
WORK = """n=1
work() {{
    fio --name=io --filename={path} --direct=1 --ioengine=libaio --rw=randwrite --bs=4k \\
        --iodepth=8 --fsync=32 --verify=crc32c --verify_fatal=1 --verify_state_save=0 \\
        --randseed=$n "$@"
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


class Devices:
    """
    An NVMe disk in FILE and a DMA engine, as vfio-pci finds them BY "host" or "iommufd". CHAINED:
    the disk is in a process of its own, behind a socket. DISK: more options of the disk. The rest is
    as a Place has it.
    """

    def __init__(self, file, by="host", chained=False, properties=(), disk=(), **options):
        self.file = file
        self.disk = list(disk)
        self.by = by
        self.chained = chained
        self.properties = properties
        self.options = options

    def __call__(self, incoming):
        disk = Nvme(self.file, options=self.disk + (["incoming=on"] if incoming else []))
        spec = f"vfio-user,socket={disk.socket}" if self.chained else None
        engine = Offered(Ioat(), self.by, properties=self.properties)
        engine.channels = engine.device.channels
        return {
            "devices": [Offered(disk, self.by, spec, self.properties), engine],
            "served": [disk] if self.chained else [],
            **self.options,
        }


class Comparison:
    """No device of ours: a disk of QEMU's own."""

    def __init__(self, file):
        self.file = file

    def __call__(self, incoming):
        return {"devices": [], "others": [VirtioDisk(self.file)]}
