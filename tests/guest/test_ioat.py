"""Linux's own driver for I/OAT, ioatdma: it finds channels that copy as its self-test wants."""

import contextlib

from guest import Ioat, check, guest, serving

# What the driver says of a device that doesn't do as it should.
COMPLAINTS = ("elf-test", "ailed", "halted", "Err(", "imeout", "Reset channel")


class Engine:
    """The DMA engine in the guest."""

    def __init__(self, running, device):
        self.guest = running
        self.device = device
        self.sysfs = f"/sys/bus/pci/devices/{device.address}"

    def bind(self):
        self.guest.run(f"echo {self.device.address} >/sys/bus/pci/drivers/ioatdma/bind")

    def unbind(self):
        self.guest.run(f"echo {self.device.address} >/sys/bus/pci/drivers/ioatdma/unbind")

    def channels(self):
        return self.guest.run(f"ls {self.sysfs}/dma 2>/dev/null || true").split()

    def interrupts(self):
        """Of each vector."""
        counts = []
        for text in self.guest.run("cat /proc/interrupts").splitlines():
            words = text.split()
            if words and words[-1].startswith("ioat-"):
                counts.append(sum(int(word) for word in words[1:] if word.isdigit()))
        return counts

    def check_works(self):
        """A driver whose self-test fails does not bind."""
        driver = self.guest.run(f"readlink {self.sysfs}/driver || true")
        check(driver.endswith("/ioatdma"), f"the device's driver is {driver!r}")
        channels = self.channels()
        check(len(channels) == self.device.channels, f"the channels are {channels}")
        for line in self.guest.run("dmesg").splitlines():
            if "ioatdma" in line:
                check(not any(word in line for word in COMPLAINTS), line)


def guest_with(**options):
    @contextlib.contextmanager
    def fixture():
        device = Ioat(**options)
        with serving(device), guest(device, cpus=2) as running:
            engine = Engine(running, device)
            running.run("modprobe ioatdma")
            yield engine

    return fixture


def self_test_passes(engine):
    engine.check_works()
    # Linux takes Skylake's engine, which says 3.3, as one of version 3.2.
    version = engine.guest.run(f"cat {engine.sysfs}/dma/*/quickdata/version")
    check(version == "3.2", f"the version is {version}")
    counts = engine.interrupts()
    check(len(counts) == 1 and counts[0] > 0, f"the vector has counted {counts}")


def each_channel_has_its_vector(engine):
    engine.check_works()
    counts = engine.interrupts()
    check(len(counts) == engine.device.channels, f"the vectors have counted {counts}")
    check(counts[0] > 0, "the self-test, of the first channel, has interrupted nobody")


def unbinds_and_binds_again_and_again(engine):
    for _ in range(5):
        engine.unbind()
        check(not engine.channels(), "there are channels without a driver")
        engine.bind()
        engine.check_works()


def resets_the_function(engine):
    methods = engine.guest.run(f"cat {engine.sysfs}/reset_method").split()
    check("flr" in methods, f"the ways to reset the function are {methods}")
    for method in methods:
        engine.unbind()
        engine.guest.run(
            f"echo {method} >{engine.sysfs}/reset_method; echo 1 >{engine.sysfs}/reset"
        )
        engine.bind()
        engine.check_works()


def interrupts_by_its_pin(engine):
    engine.guest.run("rmmod ioatdma && modprobe ioatdma ioat_interrupt_style=intx")
    engine.check_works()
    counts = engine.interrupts()
    check(len(counts) == 1 and counts[0] > 0, f"the pin has counted {counts}")
    check("ioat-intx" in engine.guest.run("cat /proc/interrupts"), "it is not the pin")


def is_found_again_by_a_rescan(engine):
    engine.guest.run(f"echo 1 >{engine.sysfs}/remove; echo 1 >/sys/bus/pci/rescan")
    engine.check_works()


GROUPS = [
    (
        guest_with(),
        [
            self_test_passes,
            unbinds_and_binds_again_and_again,
            resets_the_function,
            is_found_again_by_a_rescan,
            interrupts_by_its_pin,
        ],
    ),
    (guest_with(channels=4), [each_channel_has_its_vector]),
]
