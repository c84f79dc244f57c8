"""The UART: Linux finds a 16550A, and bytes go both ways over its line unchanged."""

import contextlib
import hashlib
import random
import threading

from guest import Serial, check, guest, serving

# What one way carries in a test. The driver sets no limit, but each byte is a trap or two.
AMOUNT = 16384


class Line:
    """The UART in the guest, and the far end of its line here."""

    def __init__(self, running, device):
        self.guest = running
        self.device = device
        self.sysfs = f"/sys/bus/pci/devices/{device.address}"
        self.far = device.connect()
        self.find()

    def find(self):
        self.tty = self.guest.run(
            f"""for i in $(seq 100); do
                    for tty in {self.sysfs}/*/*/tty/ttyS* {self.sysfs}/tty/ttyS*; do
                        [ -e $tty ] && echo ${{tty##*/}} && exit
                    done
                    sleep 0.1
                done
                exit 1"""
        )

    def sh(self, text):
        """A command with the UART, in raw mode, as its input and output."""
        return f"""exec <>/dev/{self.tty} 2>/tmp/error
            stty raw -echo <&0
            ({text}) >&0 || cat /tmp/error"""

    def receive(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.far.recv(size - len(data))
            check(part, f"the line was closed after {len(data)} of {size} bytes")
            data += part
        return bytes(data)

    def interrupts(self):
        for text in self.guest.run("cat /proc/interrupts").splitlines():
            words = text.split()
            if words and self.tty in words[-1].split(","):
                return sum(int(word) for word in words[1:] if word.isdigit())
        return 0


def random_bytes(size, seed):
    return random.Random(seed).randbytes(size)


@contextlib.contextmanager
def guest_with_serial():
    device = Serial()
    with serving(device), guest(device, cpus=2) as running:
        line = Line(running, device)
        with line.far:
            yield line


def is_a_16550a(line):
    # The kernel's number of that type in linux/serial.h.
    kind = line.guest.run(f"cat /sys/class/tty/{line.tty}/type")
    check(kind == "4", f"the type of {line.tty} is {kind}")
    state = line.guest.run(f"stty -F /dev/{line.tty} 115200 && stty -F /dev/{line.tty}")
    check("115200" in state, state)


def guest_receives(line):
    data = random_bytes(AMOUNT, 1)
    command = line.guest.spawn(line.sh(f"echo R; head -c {len(data)} | sha256sum"))
    check(line.receive(2) == b"R\n", "the guest does not start")
    line.far.sendall(data)
    got = line.receive(64).decode(errors="replace")
    check(got == hashlib.sha256(data).hexdigest(), f"the guest has received something else: {got}")
    line.receive(len("  -\n"))
    command.wait()


def guest_sends(line):
    command = line.guest.spawn(
        line.sh(f"head -c {AMOUNT} /dev/urandom >/tmp/sent; cat /tmp/sent")
        + "; sha256sum </tmp/sent >/tmp/sum"
    )
    data = line.receive(AMOUNT)
    command.wait()
    expected = line.guest.run("cat /tmp/sum").split()[0]
    check(hashlib.sha256(data).hexdigest() == expected, "the far end has received something else")


def echoes(line):
    """Both ways at once: what is sent comes back, whatever the pieces are."""
    data = random_bytes(AMOUNT, 2)
    command = line.guest.spawn(line.sh(f"printf R; head -c {len(data)}"))
    check(line.receive(1) == b"R", "the guest does not start")
    sender = threading.Thread(target=line.far.sendall, args=(data,))
    sender.start()
    back = line.receive(len(data))
    sender.join()
    command.wait()
    check(back == data, f"{sum(a != b for a, b in zip(back, data))} of {len(data)} bytes differ")


def interrupts(line):
    # A line in /proc/interrupts is there while the port is open.
    holder = line.guest.run(f"sleep 1000 </dev/{line.tty} >/dev/null & echo $!; sleep 0.2")
    before = line.interrupts()
    echoes(line)
    after = line.interrupts()
    line.guest.run(f"kill {holder}")
    check(after > before, f"{before} interrupts before, {after} after")


def far_end_may_leave_and_return(line):
    line.far.close()
    line.far = line.device.connect()
    echoes(line)


def is_bound_again_and_again(line):
    for _ in range(3):
        line.guest.run(f"echo {line.device.address} >/sys/bus/pci/drivers/serial/unbind")
        check(line.guest.sh(f"ls {line.sysfs}/*/*/tty")[0] != 0, "the port is still there")
        line.guest.run(f"echo {line.device.address} >/sys/bus/pci/drivers/serial/bind")
        line.find()
        echoes(line)


GROUPS = [
    (
        guest_with_serial,
        [
            is_a_16550a,
            guest_receives,
            guest_sends,
            echoes,
            interrupts,
            far_end_may_leave_and_return,
            is_bound_again_and_again,
        ],
    ),
]
