#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_faults.py UVFIO FAULT_DRIVER: what a driver sees of each kind of fault: asked for on the command
line and by the control socket, through a group and an iommufd, as root and as an ordinary user. Time
decides nothing: what is awaited has twenty seconds."""
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

ORDINARY = 1000
LIMIT = 20
FIRST, SECOND = "0000:65:00.0", "0000:66:00.0"
RIGHT = "state=1 error=0 right=1 record=1"


class Driver:
    """The driver under `uvfio run`: a line in, a line out."""

    def __init__(self, case, uvfio, driver, directory, identity, *options):
        self.directory = directory
        self.uvfio, self.identity = uvfio, identity
        self.socket = os.path.join(directory, "control")
        self.process = subprocess.Popen(
            [uvfio, "run", "--control", self.socket, "--device", f"ioat,bdf={FIRST}", "--device",
             f"ioat,bdf={SECOND}", *options, "--", driver], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, **identity)
        # One that hangs is killed, and then says nothing.
        self.timer = threading.Timer(3 * LIMIT, self.process.kill)
        self.timer.start()
        case.addCleanup(self.end)

    def end(self):
        self.timer.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def ctl(self, *command):
        return subprocess.run([self.uvfio, "ctl", self.socket, *command], check=True, text=True,
                              capture_output=True, timeout=LIMIT, **self.identity).stdout

    def finish(self):
        self.process.stdin.close()
        return self.process.wait(LIMIT)


class Faults:
    how = "group"
    user = os.getuid()

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="uvfio-faults-")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o777)
        # An ordinary user may not be able to read where they were built.
        self.programs = [shutil.copy(program, self.directory) for program in sys.argv[1:3]]
        self.identity = {}
        if self.user != os.getuid():
            self.identity = {"user": self.user, "group": self.user, "extra_groups": []}

    def start(self, *faults):
        options = [word for fault in faults for word in ("--inject", fault)]
        return Driver(self, *self.programs, self.directory, self.identity, *options)

    def open(self, *faults, slots=1):
        driver = self.start(*faults)
        for slot in range(slots):
            self.assertEqual(driver.say(f"{slot} open {self.how} {(FIRST, SECOND)[slot]}"), "ok")
        return driver

    def check(self, driver, *steps):
        for line, answer in steps:
            with self.subTest(line=line):
                self.assertEqual(driver.say(line), answer)

    def test_nothing_is_wrong(self):
        driver = self.open(slots=2)
        self.check(driver, ("0 copy", RIGHT), ("0 await msix", "ok"), ("1 copy", RIGHT),
                   ("1 await msix", "ok"), ("0 irqs", "msix=1 err=0 req=0"),
                   ("1 irqs", "msix=1 err=0 req=0"), ("0 reset", "ok"), ("0 close", "ok"))
        self.assertEqual(driver.finish(), 0)

    def test_dma_fails(self):
        # The descriptor, the source, the destination, the completion.
        errors = {1: 0x10, 2: 0x100, 3: 0x200, 4: 0x1000}
        for nth, error in errors.items():
            driver = self.open(f"dma-fail,device={FIRST},nth={nth},errno=EIO", slots=2)
            right = int(nth == 4)
            self.check(driver,
                       ("0 copy", f"state=3 error={error:#x} right={right} record=0"
                        if nth == 4 else f"state=3 error={error:#x} right=0 record=0"),
                       ("1 copy", RIGHT), ("0 copy", RIGHT))
            driver.end()

    def test_dma_fails_while_it_runs(self):
        driver = self.open()
        self.check(driver, ("0 copy", RIGHT))
        driver.ctl("inject", f"dma-fail,device={FIRST},direction=write,iova=0x10002000-0x10002fff,"
                   "count=2")
        for _ in range(2):
            self.check(driver, ("0 copy", "state=3 error=0x200 right=0 record=0"))
        self.check(driver, ("0 copy", RIGHT))
        self.assertIn("hits=2 over", driver.ctl("list"))

    def test_mappings_fail(self):
        driver = self.open("map-fail,nth=2")
        self.check(driver, ("0 map 0x20000000", "ENOMEM"), ("0 map 0x20000000", "ok"))
        driver.ctl("inject", f"map-fail,device={FIRST},errno=ENOSPC")
        self.check(driver, ("0 map 0x30000000", "ENOSPC"), ("0 map 0x30000000", "ok"),
                   ("0 copy", RIGHT))
        driver.ctl("inject", "map-fail,iova=0x40001000,errno=EFAULT")
        self.check(driver, ("0 map 0x40000000", "ok"), ("0 map 0x40001000", "EFAULT"))

    def test_the_opening_maps(self):
        driver = self.start("map-fail")
        self.check(driver, (f"0 open {self.how} {FIRST}", "ENOMEM"),
                   (f"0 open {self.how} {FIRST}", "ok"), ("0 copy", RIGHT))

    def test_an_interrupt_is_lost(self):
        driver = self.open(f"irq-drop,device={FIRST},index=msix")
        # The second comes after the first would have.
        self.check(driver, ("0 copy", RIGHT), ("0 copy", RIGHT), ("0 await msix", "ok"),
                   ("0 irqs", "msix=1 err=0 req=0"))
        self.assertIn("seen=1 hits=1 over", driver.ctl("list"))

    def test_an_interrupt_is_late(self):
        driver = self.open(slots=2)
        driver.ctl("inject", f"irq-delay,device={FIRST},ms=60000")
        driver.ctl("inject", f"irq-delay,device={SECOND},ms=50")
        self.check(driver, ("0 copy", RIGHT), ("1 copy", RIGHT), ("1 await msix", "ok"),
                   ("0 irqs", "msix=0 err=0 req=0"), ("0 copy", RIGHT), ("0 await msix", "ok"),
                   ("0 close", "ok"), (f"0 open {self.how} {FIRST}", "ok"), ("0 copy", RIGHT))

    def removed(self, driver):
        self.check(driver, ("0 read config 0 4", "0xffffffff"), ("0 read bar0 0x88 8", f"{2**64-1:#x}"),
                   ("0 copy", "state=7 error=0xffffffff right=0 record=0"),
                   ("0 irqs", "msix=0 err=0 req=0"), ("0 reset", "ENODEV"), ("1 copy", RIGHT),
                   ("0 close", "ok"), (f"0 open {self.how} {FIRST}", "ENODEV"), ("1 copy", RIGHT))
        driver.ctl("clear", FIRST)
        self.check(driver, (f"0 open {self.how} {FIRST}", "ok"), ("0 copy", RIGHT))

    def test_the_device_is_pulled_out(self):
        driver = self.open(slots=2)
        driver.ctl("inject", f"remove,device={FIRST},notify=both")
        self.check(driver, ("0 await req", "ok"), ("0 await err", "ok"))
        self.assertRegex(driver.say("0 irqs"), "msix=0 err=1 req=[1-9]")
        driver.ctl("clear")
        driver.ctl("inject", f"remove,device={FIRST},notify=none")
        self.removed(driver)

    def test_the_device_is_pulled_out_at_an_access(self):
        driver = self.open(f"remove,device={FIRST},nth=5,notify=none", slots=2)
        # The first that the driver does is to enable it.
        answers = [driver.say("0 read config 0 4") for _ in range(4)]
        self.assertEqual(answers, ["0x20218086"] * 3 + ["0xffffffff"])
        self.removed(driver)

    def test_the_device_is_asked_for(self):
        driver = self.open()
        driver.ctl("request", FIRST)
        self.check(driver, ("0 await req", "ok"), ("0 copy", RIGHT), ("0 close", "ok"))

    def test_an_error_is_reported(self):
        driver = self.open(f"aer,device={FIRST},bit=14,header=1:2:3:4,nth=3", slots=2)
        status = "0 read config 0x104 4"
        self.assertEqual([driver.say(status) for _ in range(2)], ["0", "0x4000"])
        self.check(driver, ("0 irqs", "msix=0 err=1 req=0"), ("1 irqs", "msix=0 err=0 req=0"),
                   ("0 read config 0x11c 4", "0x1"))
        driver.ctl("inject", f"aer,device={FIRST},bit=20")
        self.check(driver, (status, "0x104000"), ("0 irqs", "msix=0 err=1 req=0"), ("0 copy", RIGHT))
        driver.ctl("inject", f"aer,device={FIRST},correctable,bit=6")
        self.check(driver, ("0 read config 0x110 4", "0x40"))

    def test_a_register_is_slow(self):
        driver = self.open(slots=2)
        driver.ctl("inject", f"read-slow,device={FIRST},region=bar0,us=60000000")
        self.check(driver, ("0 read-slowly", "ok"))
        while "hits=1" not in driver.ctl("list"):
            pass  # its thread hasn't begun
        self.check(driver, ("1 copy", RIGHT), ("1 read bar0 8 1", "0x33"))
        # The device itself answers others too.
        self.check(driver, ("0 read config 0 4", "0x20218086"), ("0 copy", RIGHT))
        driver.ctl("inject", f"write-slow,device={SECOND},us=1000,count=3")
        self.check(driver, ("1 copy", RIGHT))
        self.assertIn("hits=3 over", driver.ctl("list"))


class Group(Faults, unittest.TestCase):
    pass


class Cdev(Faults, unittest.TestCase):
    how = "cdev"


@unittest.skipIf(os.getuid(), "only root can become another user")
class GroupOfAUser(Faults, unittest.TestCase):
    user = ORDINARY


@unittest.skipIf(os.getuid(), "only root can become another user")
class CdevOfAUser(Faults, unittest.TestCase):
    how = "cdev"
    user = ORDINARY


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
