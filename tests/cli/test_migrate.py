#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_migrate.py UVFIO DRIVER: moves devices between real servers while real drivers use them. Each
block that a driver reads is checked by the driver. Time decides nothing: what is awaited has
its time, and figures are printed, not judged."""
import html.parser
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

UVFIO, DRIVER = sys.argv[1:3]
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

    def serve(self, name, *devices, options=()):
        """A server whose sockets are NAME, NAME1..., and whose control socket is NAME.ctl."""
        arguments = []
        for i, device in enumerate(devices):
            arguments += [device, "--socket", self.path(f"{name}{i or ''}")]
        log = open(self.path(f"{name}.log"), "a")
        self.addCleanup(log.close)
        process = self.start(
            [UVFIO, "serve", *arguments, "--control", self.path(f"{name}.ctl"), *options],
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
        self.assertTrue(driver.first, self.log(name))
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


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
