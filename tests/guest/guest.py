"""Guests in QEMU and the device processes that they drive, for the tests in this folder.

A guest runs QEMU's own devices when GUEST_DEVICES=qemu is in the environment: that checks these
tests, and not uvfio. All timeouts here only bound how long a failure takes; no result depends on
how fast something is.
"""

import contextlib
import hashlib
import itertools
import json
import os
import queue
import random
import shutil
import socket
import subprocess
import tempfile

from agent import Agent
from failures import BOOT_TIMEOUT, COMMAND_TIMEOUT, Breakpoint, Failure, Lost, Skip, check
from failures import wait_until

HERE = os.path.dirname(os.path.realpath(__file__))
UVFIO = os.environ.get("UVFIO") or os.path.join(HERE, "..", "..", "build", "uvfio")
OWN = os.environ.get("GUEST_DEVICES") == "qemu"

MIB = 1 << 20


def needs_a_device_process():
    if OWN:
        raise Skip("QEMU's own devices have no process of their own")


# Files of the host


class Work:
    """The folder of one run: logs, disks, sockets. Kept when something failed."""

    # A socket's path has at most 107 bytes, so not in the cache, wherever that is.
    path = None
    numbers = itertools.count(1)

    @classmethod
    def start(cls):
        cls.path = tempfile.mkdtemp(prefix="uvfio-guest.")

    @classmethod
    def file(cls, name):
        return os.path.join(cls.path, f"{next(cls.numbers)}-{name}")

    @classmethod
    def end(cls, keep):
        if not keep:
            shutil.rmtree(cls.path)


_assets = {}


def asset(name):
    """A path that setup made: GUEST_KERNEL, ..."""
    if not _assets:
        output = subprocess.run(
            [os.path.join(HERE, "setup")], stdout=subprocess.PIPE, check=True, text=True
        )
        _assets.update(line.split("=", 1) for line in output.stdout.splitlines())
    return _assets[name]


def random_disk(size=64 * MIB, seed=1):
    """A disk full of bytes that differ from sector to sector, the same ones in every run."""
    path = Work.file("disk")
    with open(path, "wb") as file:
        file.write(random.Random(seed).randbytes(size))
    return path


def empty_disk(size=64 * MIB):
    path = Work.file("disk")
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def boot_disk():
    """A copy of the disk that starts Linux and our agent, by BIOS and by UEFI."""
    path = Work.file("boot-disk")
    subprocess.run(["cp", "--sparse=always", asset("GUEST_DISK"), path], check=True)
    return path


def sha256(path, offset=0, size=None):
    with open(path, "rb") as file:
        file.seek(offset)
        return hashlib.sha256(file.read() if size is None else file.read(size)).hexdigest()


def tail(path, size=2000):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()[-size:].decode(errors="replace")
    return ""


# Devices. The command lines of uvfio and of QEMU are written here, and nowhere else.


class Device:
    """A device in the guest's slot SLOT."""

    name = "device"
    numbers = itertools.count(1)

    def __init__(self, slot):
        self.slot = slot
        self.id = f"{self.name}{next(self.numbers)}"
        self.socket = Work.file(f"{self.id}.sock")

    @property
    def address(self):
        return f"0000:00:{self.slot:02x}.0"

    def spec(self):
        """As a word for `uvfio serve`."""
        raise NotImplementedError

    def own_arguments(self):
        """As QEMU's own device."""
        raise NotImplementedError

    def qemu_arguments(self):
        if OWN:
            return self.own_arguments()
        device = {
            "driver": "vfio-user-pci",
            "id": self.id,
            "addr": f"{self.slot:x}.0",
            "socket": {"type": "unix", "path": self.socket},
        }
        return ["-device", json.dumps(device)]


class Nvme(Device):
    name = "nvme"

    def __init__(self, file, slot=0x10, serial="uvfio-disk", options=()):
        super().__init__(slot)
        self.file = file
        self.serial = serial
        self.options = options

    def spec(self):
        return ",".join(["nvme", f"file={self.file}", f"serial={self.serial}", *self.options])

    def own_arguments(self):
        backend = {
            "driver": "raw",
            "node-name": f"{self.id}-disk",
            "file": {"driver": "file", "filename": self.file},
        }
        device = {
            "driver": "nvme",
            "id": self.id,
            "addr": f"{self.slot:x}.0",
            "serial": self.serial,
        }
        namespace = {
            "driver": "nvme-ns",
            "bus": self.id,
            "drive": f"{self.id}-disk",
        }
        # fmt: off
        return [
            "-blockdev", json.dumps(backend),
            "-device", json.dumps(device), "-device", json.dumps(namespace),
        ]
        # fmt: on


class Serial(Device):
    """A UART whose line is a unix socket that the device's side listens on."""

    name = "serial"

    def __init__(self, slot=0x11):
        super().__init__(slot)
        self.line = Work.file(f"{self.id}.line")

    def spec(self):
        return f"serial,line=unix:{self.line}"

    def own_arguments(self):
        line = f"socket,id={self.id}-line,path={self.line},server=on,wait=off"
        device = {
            "driver": "pci-serial",
            "id": self.id,
            "addr": f"{self.slot:x}.0",
            "chardev": f"{self.id}-line",
        }
        return ["-chardev", line, "-device", json.dumps(device)]

    def connect(self):
        """The far end of the line."""
        wait_until(lambda: is_listening(self.line), f"a listener on {self.line}", timeout=30)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.line)
        connection.settimeout(COMMAND_TIMEOUT)
        return connection


class Ioat(Device):
    """A DMA engine. QEMU has none of its own."""

    name = "ioat"

    def __init__(self, slot=0x12, channels=1):
        super().__init__(slot)
        self.channels = channels

    def spec(self):
        return f"ioat,channels={self.channels}"

    def own_arguments(self):
        raise Skip("QEMU has no I/OAT of its own")


class Offered(Device):
    """
    DEVICE as `uvfio run` offers it to the QEMU that it starts, whose vfio-pci finds it BY "host",
    "sysfsdev" or "iommufd", and with PROPERTIES beside. SPEC is a device's that is reached in
    another way than by its own.
    """

    def __init__(self, device, by, spec=None, properties=()):
        super().__init__(device.slot)
        self.device = device
        self.by = by
        self.words = spec or device.spec()
        self.properties = dict(properties)
        self.host = f"0000:{device.slot:02x}:00.0"

    def spec(self):
        return f"{self.words},bdf={self.host}"

    def qemu_arguments(self):
        needs_a_device_process()
        device = {"driver": "vfio-pci", "id": self.id, "addr": f"{self.slot:x}.0"}
        device.update(self.properties)
        if self.by == "sysfsdev":
            device["sysfsdev"] = f"/sys/bus/pci/devices/{self.host}"
        else:
            device["host"] = self.host
        if self.by != "iommufd":
            return ["-device", json.dumps(device)]
        device["iommufd"] = f"{self.id}-iommufd"
        return ["-object", f"iommufd,id={self.id}-iommufd", "-device", json.dumps(device)]


def is_listening(path):
    """Whether some process accepts connections there; asking does not connect."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split(maxsplit=7)
            # Flag __SO_ACCEPTCON.
            if len(fields) == 8 and fields[7].strip() == path and int(fields[3], 16) & 0x10000:
                return True
    return False


# Processes


class Process:
    def __init__(self, name, arguments, **popen):
        self.name = name
        self.log = Work.file(f"{name}.log")
        with open(self.log, "wb") as log:
            log.write((" ".join(arguments) + "\n").encode())
            log.flush()
            self.popen = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen
            )

    @property
    def status(self):
        """Of a process that has ended, else None."""
        return self.popen.poll()

    def kill(self):
        """As if it had crashed."""
        self.popen.kill()
        self.popen.wait()

    def terminate(self, timeout=30):
        """Asks it to end, and returns its status."""
        self.popen.terminate()
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} does not end by SIGTERM ({self.log})") from None


class Served:
    """One `uvfio serve` process with any number of devices."""

    def __init__(self, devices):
        self.devices = devices
        self.process = None
        self.control = Work.file("control")
        self.start()

    def start(self):
        """Again, too, after a kill: a socket that is left is the server's to replace."""
        arguments = [UVFIO, "serve", "--control", self.control]
        for device in self.devices:
            arguments += [device.spec(), "--socket", device.socket]
        self.process = Process("uvfio", arguments)
        for device in self.devices:
            wait_until(
                lambda: self.process.status is not None or is_listening(device.socket),
                f"uvfio to listen on {device.socket}",
            )
            self.check_alive()

    def check_alive(self):
        status = self.process.status
        if status is not None:
            raise Failure(f"uvfio ended with {status}: {tail(self.process.log, 500)}")

    def kill(self):
        self.process.kill()

    def stop(self):
        """The orderly end, which is part of every test."""
        self.check_alive()
        status = self.process.terminate()
        check(status == 0, f"uvfio ended by SIGTERM with {status}, not 0")


@contextlib.contextmanager
def serving(*devices):
    """A device process for each of DEVICES, none when they are QEMU's own."""
    served = []
    try:
        if not OWN:
            for device in devices:
                served.append(Served([device]))
        yield served
        for process in served:
            process.stop()
    finally:
        for process in served:
            process.kill()


# Guests


class Guest:
    """QEMU with our kernel and initramfs, or with what its disk or firmware starts."""

    def __init__(
        self,
        devices,
        *,
        start="kernel",
        memory=512,
        cpus=2,
        reboots=False,
        append="",
        arguments=(),
        paused=False,
        program="GUEST_QEMU",
        under=(),
        shared=True,
        agent=None,
    ):
        """
        START is "kernel", "bios" (SeaBIOS starts from a disk) or "uefi" (OVMF does). PROGRAM is
        which QEMU, UNDER the words of a program that starts it. SHARED: its memory is a file. With
        the AGENT of another it waits for that guest to move here.
        """
        self.memory = memory * MIB
        self.console = Work.file("console")
        self.events = []
        self.agent = agent or Agent()
        self.line, far_line = socket.socketpair()
        self.monitor, monitor = socket.socketpair()
        self.monitor.settimeout(COMMAND_TIMEOUT)
        kind, share = ("memfd", "on") if shared else ("ram", "off")
        # fmt: off
        line = [
            *under, asset(program), "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "q35,memory-backend=memory", "-m", f"{memory}M",
            "-object", f"memory-backend-{kind},id=memory,size={memory}M,share={share}",
            "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", str(cpus),
            "-chardev", f"file,id=console,path={self.console}", "-serial", "chardev:console",
            "-chardev", f"socket,id=monitor,fd={monitor.fileno()}",
            "-mon", "chardev=monitor,mode=control",
            "-chardev", f"socket,id=agent,fd={far_line.fileno()}",
            "-device", "virtio-serial-pci,addr=3.0",
            "-device", "virtserialport,chardev=agent,name=agent",
        ]
        # fmt: on
        if start != "kernel":
            # What SeaBIOS says.
            line += ["-chardev", f"file,id=firmware,path={Work.file('firmware.log')}"]
            line += ["-device", "isa-debugcon,iobase=0x402,chardev=firmware"]
        if start == "kernel":
            line += ["-kernel", asset("GUEST_KERNEL"), "-initrd", asset("GUEST_INITRAMFS")]
            # On a busy machine TCG's timers are too late for Linux's test of them.
            line += ["-append", f"console=ttyS0 quiet panic=-1 no_timer_check {append}"]
        elif start == "uefi":
            firmware = os.path.join(asset("GUEST_ROOT"), "usr/share/OVMF")
            variables = Work.file("uefi-variables")
            shutil.copy(os.path.join(firmware, "OVMF_VARS_4M.fd"), variables)
            code = os.path.join(firmware, "OVMF_CODE_4M.fd")
            line += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
            line += ["-drive", f"if=pflash,format=raw,file={variables}"]
        if not reboots:
            line.append("-no-reboot")
        if paused:
            line.append("-S")
        if agent:
            line += ["-incoming", "defer"]
        for device in devices:
            line += device.qemu_arguments()
        line += arguments
        with far_line, monitor:
            self.qemu = Process("qemu", line, pass_fds=(far_line.fileno(), monitor.fileno()))
        self.agent.add(self.line)
        self.monitor_file = self.monitor.makefile("rb")
        try:
            self._read_monitor()
            self.qmp("qmp_capabilities", enable=["oob"])
            if not agent:
                self.agent.use(self.line)
                if not paused:
                    self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self, timeout=BOOT_TIMEOUT):
        """Until the guest's agent has said that it runs, after a start or a reboot."""
        try:
            ready = self.agent.readies.get(timeout=timeout)
        except queue.Empty:
            raise Lost(f"no agent after {timeout} s; console: {tail(self.console, 500)}") from None
        if not ready:
            if "Oops: int3" in tail(self.console, 100000):
                raise Breakpoint("the guest's kernel ran a breakpoint of its own")
            raise Lost(f"QEMU has ended: {tail(self.qemu.log, 1000)} {tail(self.console, 300)}")

    def spawn(self, text):
        """Starts a shell command; its .wait() gives (status, output)."""
        return self.agent.spawn(text)

    def sh(self, text, timeout=COMMAND_TIMEOUT):
        """Runs a shell command in the guest and returns (status, output)."""
        return self.agent.sh(text, timeout)

    def run(self, text, timeout=COMMAND_TIMEOUT):
        """Runs a command that must succeed, and returns its output without the last newline."""
        return self.agent.run(text, timeout)

    def _read_monitor(self):
        line = self.monitor_file.readline()
        if not line:
            self.qemu.popen.wait(30)
            raise Lost(f"QEMU has ended: {tail(self.qemu.log)}")
        return json.loads(line)

    def wait_event(self, name, **data):
        """Until the monitor has told of such an event. What it told before is forgotten."""

        def matches(answer):
            return answer.get("event") == name and data.items() <= answer.get("data", {}).items()

        while not any(matches(event) for event in self.events):
            self.events = [self._read_monitor()]
        self.events = []

    def qmp(self, command, at_once=False, **arguments):
        """
        A command of QEMU's monitor, or, AT_ONCE, of the thread that reads them. Events are kept in
        .events.
        """
        message = {"exec-oob" if at_once else "execute": command, "arguments": arguments}
        try:
            self.monitor.sendall(json.dumps(message).encode() + b"\n")
            while True:
                answer = self._read_monitor()
                if "event" in answer:
                    self.events.append(answer)
                if "error" in answer:
                    raise Failure(f"QMP {command}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]
        except (TimeoutError, ConnectionError) as error:
            raise Lost(f"QMP {command}: {error}") from None

    def reboot(self):
        self.spawn("reboot -f")
        self.agent.forget_commands()
        self.wait_ready()

    def kernel_log(self):
        status, output = self.sh("dmesg", timeout=10)
        return output if status == 0 else ""

    def keep_kernel_log(self):
        with contextlib.suppress(Failure), open(Work.file("dmesg"), "w", encoding="utf-8") as log:
            log.write(self.kernel_log())

    def power_off(self, timeout=COMMAND_TIMEOUT):
        """The guest's own, orderly end."""
        self.spawn("poweroff -f")
        self._wait_end("the guest does not power off", timeout)

    def quit(self, timeout=COMMAND_TIMEOUT):
        """Ends QEMU in order, whatever the guest does."""
        self.qmp("quit")
        self._wait_end("QEMU does not quit", timeout)

    def _wait_end(self, problem, timeout):
        try:
            status = self.qemu.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Lost(problem) from None
        check(status == 0, f"QEMU ended with {status}: {tail(self.qemu.log)}")

    def kill(self):
        """Ends QEMU as a crash would."""
        self.qemu.kill()
        self.monitor.close()
        self.agent.remove(self.line)


def start(devices, **options):
    """A guest that has started; in the second or third attempt, where TCG spoilt the first."""
    for _ in range(2):
        try:
            return Guest(devices, **options)
        except Breakpoint as breakpoint_:
            print(f"    {breakpoint_}: once more", flush=True)
    return Guest(devices, **options)


@contextlib.contextmanager
def guest(*devices, **options):
    """A running guest with DEVICES, which are served. What its kernel said of a failure is kept."""
    running = start(devices, **options)
    try:
        yield running
        running.power_off()
    except BaseException:
        running.keep_kernel_log()
        raise
    finally:
        running.kill()
