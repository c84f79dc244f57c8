"""NVMe disks as a guest sees them."""

from guest import check


class Disk:
    """The disk of the NVMe controller DEVICE in the guest GUEST, whatever the kernel calls it."""

    def __init__(self, guest, device):
        self.guest = guest
        self.device = device
        self.sysfs = f"/sys/bus/pci/devices/{device.address}"
        guest.run("modprobe nvme")
        self.find()

    def find(self):
        """Waits for the driver, which takes its time after it was bound."""
        found = self.guest.run(
            f"""for i in $(seq 600); do
                    for disk in {self.sysfs}/nvme/nvme*/nvme*n1; do
                        [ -b "/dev/${{disk##*/}}" ] && echo "${{disk##*/}}" && exit
                    done
                    sleep 0.1
                done
                dmesg | tail -n 20
                exit 1"""
        )
        self.name = found
        self.controller = found[: found.rindex("n")]
        self.path = f"/dev/{self.name}"

    def sha256(self, offset=0, size=None):
        """The hash of the disk's bytes, read from the device and not from the guest's cache."""
        count = "" if size is None else f"count={size}"
        return self.guest.run(
            f"dd if={self.path} bs=1M skip={offset} {count}"
            " iflag=direct,fullblock,skip_bytes,count_bytes 2>/dev/null | sha256sum"
        ).split()[0]

    def write(self, offset, text):
        """Writes the output of the shell command TEXT there, and flushes the device's cache."""
        self.guest.run(
            f"({text}) | dd of={self.path} bs=64k seek={offset}"
            " iflag=fullblock oflag=seek_bytes conv=notrunc,fsync"
        )

    def flush(self):
        self.guest.run(f"sync; blockdev --flushbufs {self.path}; nvme flush {self.path}")

    def fio(self, *options):
        return f"fio --name=io --filename={self.path} --direct=1 --ioengine=libaio " + " ".join(
            options
        )

    def verify(self, *options):
        """Lets fio write, read again and compare."""
        status, output = self.guest.sh(
            self.fio(
                "--verify=crc32c",
                "--verify_fatal=1",
                "--randrepeat=0",
                "--output-format=terse",
                *options,
            )
        )
        check(status == 0, f"fio ended with {status}\n{output}")

    def interrupts(self):
        """How many interrupts each queue had, by queue number. 0 is the admin queue."""
        counts = {}
        for line in self.guest.run("cat /proc/interrupts").splitlines():
            words = line.split()
            if words and words[-1].startswith(f"{self.controller}q"):
                queue = int(words[-1][len(self.controller) + 1 :])
                counts[queue] = sum(int(word) for word in words[1:] if word.isdigit())
        return counts

    def unbind(self):
        self.guest.run(f"echo {self.device.address} >/sys/bus/pci/drivers/nvme/unbind")

    def bind(self):
        self.guest.run(f"echo {self.device.address} >/sys/bus/pci/drivers/nvme/bind")
        self.find()
