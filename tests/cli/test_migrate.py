#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_migrate.py UVFIO DRIVER UVFIO-WITH-A-MODEL-MORE: moves devices between real servers while real drivers use them. Each
block that a driver reads is checked by the driver. Time decides nothing: what is awaited has
its time, and figures are printed, not judged."""
import fcntl
import html.parser
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

UVFIO, DRIVER, UVFIO_BULK = sys.argv[1:4]
LIMIT = 60


def await_true(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="uvfio-migrate-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.directory.chmod(0o755)
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=str(self.directory))
        self.processes = []
        self.addCleanup(self.end_all)

    def end_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def path(self, name):
        return str(self.directory / name)

    def start(self, arguments, **more):
        process = subprocess.Popen(arguments, env=self.environment, text=True, **more)
        self.processes.append(process)
        return process

    def serve(self, name, *devices, options=(), program=UVFIO):
        """A server whose sockets are NAME, NAME1..., and whose control socket is NAME.ctl."""
        arguments = []
        for i, device in enumerate(devices):
            arguments += [device, "--socket", self.path(f"{name}{i or ''}")]
        log = open(self.path(f"{name}.log"), "w")
        self.addCleanup(log.close)
        process = self.start(
            [program, "serve", *arguments, "--control", self.path(f"{name}.ctl"), *options],
            stderr=log,
        )
        last = self.path(f"{name}{len(devices) - 1 or ''}")
        await_true(f"{name} serves", lambda: f" at {last}\n" in self.log(name))
        return process

    def log(self, name):
        return pathlib.Path(self.path(f"{name}.log")).read_text()

    def drive(self, name, model, *options):
        driver = self.start(
            [DRIVER, self.path(name), model, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        driver.first = driver.stdout.readline()
        self.assertTrue(driver.first, self.log(name.rstrip("0123456789")))
        return driver

    def end_driver(self, driver):
        """It ends by itself: all that it read was right."""
        out, _ = driver.communicate(timeout=LIMIT)
        self.assertEqual(driver.returncode, 0, out)
        figures = json.loads(out)
        self.assertEqual(figures["bad"], 0)
        self.assertGreater(figures["blocks"], 0)
        return figures

    def uvfio(self, *arguments, status=0):
        result = subprocess.run(
            [UVFIO, *arguments], env=self.environment, capture_output=True, text=True, timeout=LIMIT
        )
        self.assertEqual(result.returncode, status, result.stderr + result.stdout)
        return result

    def migrate(self, source, destination, *options, status=0):
        return self.uvfio(
            "migrate", self.path(f"{source}.ctl"), self.path(f"{destination}.ctl"), *options,
            status=status,
        )

    def move(self, source, destination, *options):
        return json.loads(self.migrate(source, destination, "--json", *options).stdout)

    def refused(self, source, destination, message, *options):
        result = self.migrate(source, destination, *options, status=1)
        last = result.stderr.splitlines()[-1]
        self.assertRegex(last, message)


class BackAndForth(Case):
    def go(self, times, device, model, *options):
        self.serve("a", device)
        self.serve("b", device + (",incoming=on" if "file=" in device else ""))
        driver = self.drive("a", model, *options)
        downtimes = []
        for i in range(times):
            source, destination = ("a", "b") if i % 2 == 0 else ("b", "a")
            downtimes.append(self.move(source, destination)["downtime_ms"])
        figures = self.end_driver(driver)
        downtimes.sort()
        print(
            f"{self.id().split('.')[-1]}: {times} moves, downtime {downtimes[0]:.1f} to"
            f" {downtimes[-1]:.1f} ms, median {downtimes[times // 2]:.1f};"
            f" {figures['blocks']} blocks, longest {figures['longest_ms']} ms"
        )
        return driver

    def disk(self):
        path = self.path("disk")
        with open(path, "w") as file:
            file.truncate(64 << 20)
        return path

    def test_nvme_mapped_doorbells(self):
        driver = self.go(20, f"nvme,file={self.disk()},poll=on", "nvme")
        self.assertTrue(json.loads(driver.first)["mapped"])

    def test_nvme_interrupts(self):
        self.go(20, f"nvme,file={self.disk()}", "nvme", "interrupts")

    def test_nvme_mapped_and_interrupts(self):
        self.go(6, f"nvme,file={self.disk()},poll=on,pollers=2", "nvme", "interrupts")

    def test_nvme_memory(self):
        self.go(4, "nvme,mem=32M,serial=same", "nvme")

    def test_nvme_shadow_doorbells_by_eventfd(self):
        self.go(20, f"nvme,file={self.disk()},ioeventfd=on,poll=off", "nvme", "shadow", "interrupts")

    def test_ioat(self):
        self.go(20, "ioat", "ioat", "interrupts")

    def test_ioat_remote_memory(self):
        self.go(20, "ioat", "ioat", "remote")



# Packets of the link between two movers.
KINDS = ["", "HELLO", "WELCOME", "STATE", "FDS", "SESSION", "OFFER", "DONE", "ERROR"]


class Control:
    """A mover, asked for as `uvfio migrate` does, with one end of a link of our own."""

    def __init__(self, case, name, command, **parameters):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(case.path(f"{name}.ctl"))
        self.socket.sendall(f"{command}\n".encode())
        self.stream = self.socket.makefile()
        answer = json.loads(self.stream.readline())
        case.assertEqual(answer, {"result": True})
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(LIMIT)
        line = json.dumps({"bandwidth": 0, "max_downtime_ms": 60000, **parameters}) + "\n"
        socket.send_fds(self.socket, [line.encode()], [theirs.fileno()])
        theirs.close()

    def last_word(self):
        """What it says in the end; None: nothing."""
        last = None
        for line in self.stream:
            last = json.loads(line)
        return last if last and "event" not in last else None

    def close(self):
        """When it returns the device is free for the next move."""
        self.link.close()
        try:
            self.socket.shutdown(socket.SHUT_WR)
            self.stream.read()
        except OSError:
            pass  # it has gone
        self.stream.close()
        self.socket.close()


class Between:
    """Passes packets on between two movers until the first of a kind, or the nth one."""

    def __init__(self, case, source="a", destination="b"):
        self.destination = Control(case, destination, "migrate-in")
        self.source = Control(case, source, "migrate-out")
        self.kind, self.held, self.fds = "", b"", []

    def receive(self, link):
        try:
            data, self.fds, _, _ = socket.recv_fds(link, 1 << 17, 256)
        except ConnectionResetError:  # it went without reading all: what it has said comes now
            data, self.fds, _, _ = socket.recv_fds(link, 1 << 17, 256)
        self.kind = KINDS[struct.unpack_from("<I", data)[0]] if data else "END"
        self.held = data

    def send(self, link, data=None):
        try:
            if self.held:
                socket.send_fds(link, [data or self.held], self.fds)
        except BrokenPipeError:
            pass  # it has hung up, and has said why
        self.send_nothing()

    def until(self, kind, nth=1):
        """Stops with that packet in hand, which nobody has seen. Whose it is comes back."""
        while True:
            for mine, other in ((self.source, self.destination), (self.destination, self.source)):
                mine.link.settimeout(0.02)
                try:
                    self.receive(mine.link)
                except TimeoutError:
                    continue
                if self.kind == kind:
                    nth -= 1
                if nth == 0 or self.kind in ("END", "ERROR"):
                    return mine, other
                self.send(other.link)

    def close(self):
        self.send_nothing()
        self.source.close()
        self.destination.close()

    def send_nothing(self):
        for fd in self.fds:
            os.close(fd)
        self.held, self.fds = b"", []


class Failures(Case):
    """Whatever goes wrong before the destination has taken over, the source goes on."""

    DEVICES = {
        "nvme": ("nvme,file={},poll=on", "nvme,file={},poll=on,incoming=on"),
        "ioat": ("ioat", "ioat"),
    }

    def begin(self, model):
        path = self.path("disk")
        if not os.path.exists(path):
            with open(path, "w") as file:
                file.truncate(64 << 20)
        here, there = self.DEVICES[model]
        self.there = there.format(path)
        self.source = self.serve("a", here.format(path))
        self.destination = self.serve("b", self.there)
        self.driver = self.drive("a", model, "interrupts")

    def again(self):
        """The destination anew, where it was killed."""
        if self.destination.poll() is not None:
            self.destination.communicate()
            self.destination = self.serve("b", self.there)

    def moves_after_all(self):
        self.again()
        self.move("a", "b")
        self.move("b", "a")

    def kill(self, process):
        process.kill()
        process.wait(LIMIT)

    def test_destination_killed(self):
        for model in ("nvme", "ioat"):
            self.begin(model)
            for kind in ("HELLO", "WELCOME", "STATE", "FDS", "SESSION", "OFFER"):
                with self.subTest(model=model, kind=kind):
                    between = Between(self)
                    between.until(kind)
                    self.kill(self.destination)
                    between.send_nothing()
                    between.destination.link.close()
                    # What the driver of the link does is what a dead process does.
                    between.source.link.close()
                    self.assertIn("error", between.source.last_word())
                    between.close()
                    self.moves_after_all()
            self.end_driver(self.driver)
            self.end_all()

    def test_migrate_killed(self):
        """At each state of the source, and at none: both notice, and the driver nothing."""
        self.begin("nvme")
        for kind in ("HELLO", "WELCOME", "STATE", "FDS", "SESSION", "OFFER"):
            with self.subTest(kind=kind):
                between = Between(self)
                between.until(kind)
                between.source.socket.shutdown(socket.SHUT_RDWR)
                between.destination.socket.shutdown(socket.SHUT_RDWR)
                between.close()
                await_true("the device is free", lambda: self.is_free("b"))
                self.moves_after_all()
        self.end_driver(self.driver)

    def is_free(self, name):
        """Nothing moves there, and nobody has it."""
        result = subprocess.run(
            [UVFIO, "show", self.path(name)], env=self.environment, capture_output=True
        )
        return result.returncode == 0

    def test_real_migrate_killed(self):
        """The command itself, in the middle of what a limit stretches."""
        self.serve("a", "nvme,mem=64M,serial=same")
        self.serve("b", "nvme,mem=64M,serial=same")
        driver = self.drive("a", "nvme")
        for sign in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            process = self.start(
                [UVFIO, "migrate", self.path("a.ctl"), self.path("b.ctl"), "--bandwidth", "1M",
                 "--max-downtime", "3600000"],
                stderr=subprocess.PIPE,
            )
            for line in process.stderr:
                if line.startswith(("PRE_COPY", "STOP_COPY")):
                    break
            process.send_signal(sign)
            process.wait(LIMIT)
            await_true("the device is free", lambda: self.is_free("b"))
        self.migrate("a", "b", "--max-downtime", "60000")
        self.end_driver(driver)

    def test_source_killed(self):
        """Before it is taken over the driver loses its device, and the destination is free again;
        after, it doesn't matter any more."""
        for kind in ("STATE", "OFFER"):
            self.begin("nvme")
            between = Between(self)
            between.until(kind)
            self.kill(self.source)
            between.close()
            self.driver.communicate(timeout=LIMIT)
            self.assertNotEqual(self.driver.returncode, 0)
            await_true("the device is free", lambda: self.is_free("b"))
            self.end_driver(self.drive("b", "nvme"))
            self.end_all()
        self.begin("nvme")
        between = Between(self)
        between.until("DONE")
        self.kill(self.source)
        between.close()
        self.end_driver(self.driver)

    def test_nobody_comes_to_say_that_it_is_done(self):
        self.begin("nvme")
        between = Between(self)
        between.until("DONE")
        between.send_nothing()
        between.close()
        await_true("the source is free", lambda: self.is_free("a"))
        self.move("b", "a")
        self.end_driver(self.driver)

    def test_stream_is_refused(self):
        """Each byte of what the destination gets can be wrong: nothing is taken over."""
        self.begin("ioat")
        for kind, nth in (("STATE", 1), ("STATE", 2), ("SESSION", 1)):
            for at in (8, 20, 45, 60, 100):
                with self.subTest(kind=kind, nth=nth, at=at):
                    between = Between(self)
                    _, other = between.until(kind, nth)
                    self.assertEqual(between.kind, kind)
                    data = bytearray(between.held)
                    if at >= len(data):
                        between.close()
                        await_true("the device is free", lambda: self.is_free("b"))
                        continue
                    data[at] ^= 0xFF
                    between.send(other.link, bytes(data))
                    between.until("ERROR")
                    between.send(between.source.link)
                    word = between.source.last_word()
                    between.close()
                    if "result" in word:  # what the driver said of itself: not for us to judge
                        self.assertEqual(kind, "SESSION")
                        self.move("b", "a")
                        continue
                    self.assertRegex(word["error"], "^the destination: .")
                    await_true("the device is free", lambda: self.is_free("b"))
        self.moves_after_all()
        self.end_driver(self.driver)

    def test_packets_that_make_no_sense(self):
        self.begin("ioat")
        for packet in (b"", b"\1", struct.pack("<II", 3, 5) + b"123", struct.pack("<II", 99, 0),
                       struct.pack("<II", 1, 64) + struct.pack("<I", 9) + bytes(60),
                       struct.pack("<II", 1, 64) + struct.pack("<I", 1) + b"x" * 60):
            control = Control(self, "b", "migrate-in")
            if packet:
                control.link.send(packet)
            else:
                control.link.close()
            self.assertIn("error", control.last_word())
            control.close()
        # Who says nothing of where it goes, or too much.
        for text in (b"", b"x" * 2000, b"{}\n", b"[]\n", b"\n"):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(self.path("b.ctl"))
                raw.sendall(b"migrate-in\n")
                raw.recv(100)
                raw.sendall(text)
                raw.shutdown(socket.SHUT_WR)
                rest = b""
                try:
                    while data := raw.recv(4096):
                        rest += data
                except ConnectionResetError:
                    self.assertGreater(len(text), 1024)  # it has not read all
                    continue
                self.assertIn(b"error", rest)
        self.moves_after_all()
        self.end_driver(self.driver)

    def test_storage_is_somebody_elses(self):
        """The destination can't lock the file at the last moment: the source gets it back."""
        self.begin("nvme")
        between = Between(self)
        _, other = between.until("OFFER")
        with open(self.path("disk"), "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            between.send(other.link)
            between.until("ERROR")
            self.assertIn(b"in use by another process", between.held)
            between.send(between.source.link)
            # The source has to wait for it as well.
            time.sleep(0.2)
        self.assertIn("in use by another process", between.source.last_word()["error"])
        between.close()
        self.moves_after_all()
        self.end_driver(self.driver)

    def test_storage_stays_somebody_elses(self):
        """For longer than anybody waits to hear how it ends: it goes on all the same."""
        self.begin("nvme")
        between = Between(self)
        between.until("OFFER")
        with open(self.path("disk"), "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            between.destination.close()
            between.source.link.close()
            self.assertIn("error", between.source.last_word())
            self.assertIn("it does not go on yet: ", self.log("a"))
            self.assertNotIn("it goes on at last", self.log("a"))
        await_true("it goes on", lambda: "it goes on at last" in self.log("a"))
        between.close()
        self.moves_after_all()
        self.end_driver(self.driver)


class Refusals(Case):
    def ask(self, client, command, body):
        """A message as the protocol has it, whose answer is no error."""
        client.sendall(struct.pack("<HHIII", 7, command, 16 + len(body), 0, 0) + body)
        answer = client.recv(4096)
        self.assertEqual(struct.unpack_from("<HHIII", answer)[3], 1)
        return answer[16:]

    def test_its_driver_migrates_it(self):
        """What that has begun isn't touched, whatever the refusal."""
        self.serve("a", "ioat")
        self.serve("b", "ioat")
        self.serve("c", "nvme,mem=1M")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT)
            client.connect(self.path("a"))
            self.ask(client, 1, b'\0\0\0\0{"capabilities":{}}\0')
            for state in (4, 1):  # RESUMING, STOP
                self.ask(client, 16, struct.pack("<IIIi", 16, 1 << 17 | 2, state, -1))
                self.refused("a", "b", "uvfio migrate: its driver is migrating it$")
                self.refused("a", "c", "the destination: the device is a nvme here, not a ioat$")
                answer = self.ask(client, 16, struct.pack("<IIIi", 16, 1 << 16 | 2, 0, 0))
                self.assertEqual(struct.unpack_from("<III", answer)[2], state)
                self.ask(client, 13, b"")  # DEVICE_RESET
            self.move("a", "b")

    def test_no_driver(self):
        self.serve("a", "ioat")
        self.serve("b", "ioat")
        self.refused("a", "b", "uvfio migrate: no driver is connected$")

    def test_other_model(self):
        self.serve("a", "ioat")
        self.serve("b", "nvme,mem=1M")
        driver = self.drive("a", "ioat")
        self.refused("a", "b", "the destination: the device is a nvme here, not a ioat$")
        self.end_driver(driver)

    def test_other_make(self):
        self.serve("a", "nvme,mem=32M,serial=x")
        self.serve("b", "nvme,mem=16M,serial=x")
        self.serve("c", "nvme,mem=32M,serial=x,poll=on")
        driver = self.drive("a", "nvme")
        self.refused("a", "b", "the destination: a state is refused: .*(33554432|size)")
        self.refused("a", "c", "the destination: ")
        self.end_driver(driver)

    def test_owned(self):
        self.serve("a", "ioat")
        self.serve("b", "ioat")
        first, second = self.drive("a", "ioat"), self.drive("b", "ioat")
        self.refused("a", "b", "the destination: it has a driver$")
        self.end_driver(first)
        self.end_driver(second)

    def test_to_itself(self):
        self.serve("a", "ioat")
        driver = self.drive("a", "ioat")
        self.refused("a", "a", "it is being moved already$")
        self.end_driver(driver)

    def test_several_devices(self):
        self.serve("a", "ioat", "nvme,mem=32M,serial=x")
        self.serve("b", "nvme,mem=32M,serial=x", "ioat")
        dma, disk = self.drive("a", "ioat"), self.drive("a1", "nvme")
        self.refused("a", "b", "expected a device: there are 2$")
        for source, destination in (("a", "b"), ("b", "a")):
            for device in ("ioat", "nvme"):
                self.uvfio("migrate", self.path(f"{source}.ctl#{device}"),
                           self.path(f"{destination}.ctl#{device}"))
        result = self.uvfio("migrate", self.path("a.ctl#ioatt"), self.path("b.ctl#ioat"), status=1)
        self.assertIn("did you mean 'ioat'?", result.stderr)
        self.end_driver(dma)
        self.end_driver(disk)

    def test_arguments(self):
        for arguments, message in (
            ([], "expected SOURCE DESTINATION"),
            (["a"], "expected SOURCE DESTINATION"),
            (["a", "b", "c"], "'c' is one operand too many: expected SOURCE DESTINATION"),
            (["a", "b", "--bandwidth", "x"],
             "--bandwidth: expected bytes a second, as 100M, got 'x'"),
            (["a", "b", "--bandwidth", "0"],
             "--bandwidth: expected bytes a second, as 100M, got '0'"),
            (["a", "b", "--max-downtime", "1K"],
             "--max-downtime: expected 1 to 3600000 milliseconds, got '1K'"),
        ):
            result = self.uvfio("migrate", *arguments, status=2)
            self.assertEqual(result.stderr, f"uvfio migrate: {message}\n")
        result = self.uvfio("migrate", self.path("x"), self.path("y"), status=1)
        self.assertIn("No such file or directory", result.stderr)
        self.serve("a", "ioat")
        result = self.uvfio("migrate", self.path("a.ctl"), self.path("a.ctl"), "--report",
                            "/nonexistent/x", status=1)
        self.assertIn("--report /nonexistent/x: No such file", result.stderr)

    def test_not_in_run(self):
        self.serve("a", "ioat")
        control = self.path("run.ctl")
        program = self.start(
            [UVFIO, "run", "--control", control, "--device", "ioat", "--", "sleep", "60"])
        await_true("run's socket is there", lambda: os.path.exists(control))
        result = self.uvfio("migrate", control, self.path("a.ctl"), status=1)
        self.assertIn("no driver outside has a device of this program", result.stderr)
        program.terminate()


class Sandbox(BackAndForth):
    """All that a move takes is among the system calls that the sandbox leaves."""

    def go(self, times, device, model, *options):
        self.serve("a", device, options=("--sandbox",))
        self.serve("b", device + (",incoming=on" if "file=" in device else ""),
                   options=("--sandbox",))
        driver = self.drive("a", model, *options)
        for i in range(2):
            self.move("a", "b")
            # A refusal as well: it takes other calls.
            self.refused("b", "b", "it is being moved already$")
            self.move("b", "a")
        self.end_driver(driver)
        return driver


class PageParser(html.parser.HTMLParser):
    """Every element ends where it should; nothing comes from outside."""

    VOID = {"meta", "line", "rect", "polyline", "circle"}

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], {}, ""

    def handle_starttag(self, tag, attributes):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        for name, value in attributes:
            if name in ("src", "href", "srcset") or "://" in (value or ""):
                raise AssertionError(f"{tag} {name}={value}")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"</{tag}> ends something else")

    def handle_data(self, data):
        self.text += data


class Reports(Case):
    def test_limits(self):
        self.serve("a", "nvme,mem=64M,serial=x")
        self.serve("b", "nvme,mem=64M,serial=x")
        driver = self.drive("a", "nvme")
        time.sleep(0.5)
        # What takes as long as that is said to take as long.
        result = self.move("a", "b", "--bandwidth", "4M", "--max-downtime", "3600000")
        sent = result["pre_copy_bytes"] + result["stop_copy_bytes"]
        self.assertGreater(sent, 1 << 20)
        self.assertGreater(result["total_ms"], sent / (4 << 20) * 1000 * 0.9)
        self.assertEqual(result["bandwidth"], 4 << 20)
        self.end_driver(driver)

    def test_page_and_text(self):
        self.serve("a", "nvme,mem=32M,serial=x")
        self.serve("b", "nvme,mem=32M,serial=x")
        driver = self.drive("a", "nvme")
        page = self.path("page.html")
        text = self.migrate("a", "b", "--report", page).stdout
        self.assertRegex(text, r"(?m)^downtime   [0-9.]+ ms \(expected [0-9.]+, at most 300\)$")
        result = self.move("b", "a", "--report", page)
        self.end_driver(driver)
        parser = PageParser()
        parser.feed(pathlib.Path(page).read_text())
        parser.close()
        self.assertEqual(parser.open, [])
        self.assertEqual(parser.seen["svg"], 4)
        self.assertGreaterEqual(parser.seen["rect"], 2 * len(result["states"]) - 3)
        for figure in (f"{result['downtime_ms']:.1f} ms", f"{result['total_ms']:.1f} ms",
                       "PRE_COPY_P2P", "STOP_COPY", "RESUMING"):
            self.assertIn(figure, parser.text)
        self.assertIn("prefers-color-scheme: dark", pathlib.Path(page).read_text())
        states = [state["state"] for state in result["states"]]
        self.assertEqual(states, ["RUNNING", "PRE_COPY", "PRE_COPY_P2P", "STOP_COPY", "RESUMING"])
        self.assertAlmostEqual(sum(state["ms"] for state in result["states"]), result["total_ms"],
                               delta=0.1)
        self.assertGreater(len(result["progress"]), 3)


class Rounds(Case):
    """A device whose state changes while it is sent; its model checks that what arrives is new."""

    MIB = 1 << 20

    def begin(self, size, rate):
        for name in ("a", "b"):
            self.serve(name, f"bulk,size={size},rate={rate}", program=UVFIO_BULK)
        self.client = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.client.close)
        self.client.settimeout(LIMIT)
        self.client.connect(self.path("a"))
        body = b'\0\0\0\0{"capabilities":{}}\0'
        self.ask(1, body)

    def ask(self, command, body):
        """A message as the protocol has it, and that there is an answer without an error."""
        self.client.sendall(struct.pack("<HHIII", 7, command, 16 + len(body), 0, 0) + body)
        answer = self.client.recv(4096)
        self.assertEqual(struct.unpack_from("<HHIII", answer)[3], 1)

    def is_served(self):
        self.ask(4, struct.pack("<IIII", 16, 0, 0, 0))  # DEVICE_GET_INFO

    def test_all_goes_early(self):
        self.begin("32M", "0")
        result = self.move("a", "b", "--bandwidth", "32M", "--max-downtime", "100")
        self.is_served()
        self.assertGreaterEqual(result["pre_copy_bytes"], 32 * self.MIB)
        self.assertLess(result["stop_copy_bytes"], self.MIB)
        # A limit is one from below: what is sent takes as long as that.
        early = next(state for state in result["states"] if state["state"] == "PRE_COPY")
        self.assertGreater(early["ms"], 900)
        rates = [sample["rate"] for sample in result["progress"]]
        self.assertLessEqual(rates[-1], 32 * self.MIB)

    def test_rounds_get_shorter(self):
        self.begin("32M", "8M")
        result = self.move("a", "b", "--bandwidth", "64M", "--max-downtime", "50")
        self.is_served()
        self.assertGreaterEqual(result["pre_copy_bytes"], 32 * self.MIB)
        self.assertLess(result["stop_copy_bytes"], 16 * self.MIB)
        print(f"rounds {result['rounds']}, {result['pre_copy_bytes'] / self.MIB:.1f} MiB early, "
              f"{result['stop_copy_bytes'] / self.MIB:.1f} at the stop, "
              f"downtime {result['downtime_ms']:.0f} ms")
        back = self.move("b", "a", "--max-downtime", "10000")
        self.is_served()
        self.assertGreater(back["rounds"], 0)

    def test_never(self):
        self.begin("32M", "256M")
        self.refused("a", "b", "the expected downtime stays at .* ms, which is more than 100$",
                     "--bandwidth", "16M", "--max-downtime", "100")
        self.is_served()
        self.move("a", "b", "--max-downtime", "60000")
        self.is_served()

    def test_cancelled_early_and_late(self):
        self.begin("32M", "8M")
        for state, downtime in (("PRE_COPY", "1"), ("STOP_COPY", "60000")):
            process = self.start([UVFIO, "migrate", self.path("a.ctl"), self.path("b.ctl"),
                                  "--bandwidth", "16M", "--max-downtime", downtime],
                                 stderr=subprocess.PIPE)
            for line in process.stderr:
                if line.startswith(state):
                    break
            process.kill()
            process.wait(LIMIT)
            self.is_served()
        await_true("the device is free", lambda: "serves" not in self.uvfio(
            "ctl", self.path("b.ctl"), "list").stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
