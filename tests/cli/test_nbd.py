#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_nbd.py UVFIO NVME_IO: a sandboxed nvme device whose storage is an NBD server's export, and
which is driven while the server is killed and started again. Each write that was flushed must be
there. Ends with status 77 where the servers are not installed."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

UVFIO, NVME_IO = sys.argv[1:3]
LIMIT = 60
SIZE = 64 << 20


def await_true(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


def answers(path):
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="uvfio-nbd-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.directory.chmod(0o755)
        self.processes = []
        self.addCleanup(self.end_all)
        self.disk = self.path("disk")
        with open(self.disk, "wb") as disk:
            disk.truncate(SIZE)
        self.nbd, self.socket = self.path("nbd"), self.path("socket")
        self.device = f"nvme,nbd=nbd+unix:///?socket={self.nbd}"

    def end_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def path(self, name):
        return str(self.directory / name)

    def start(self, *command, **keys):
        process = subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, **keys)
        self.processes.append(process)
        return process

    def start_server(self, *command):
        pathlib.Path(self.nbd).unlink(missing_ok=True)
        server = self.start(*command, stderr=subprocess.DEVNULL)
        await_true(f"{command[0]} answers", lambda: answers(self.nbd))
        return server

    def serve(self, *arguments):
        served = self.start(UVFIO, "serve", *arguments, "--socket", self.socket,
                            stderr=subprocess.PIPE,
                            env=dict(os.environ, XDG_RUNTIME_DIR=str(self.directory)))
        line = ""
        while not line.endswith(f" at {self.socket}\n"):
            line = served.stderr.readline()
            self.assertTrue(line, "it ended before it served")
        return served

    def check(self, flushed):
        """What is there is not older than that. Returns what is flushed now."""
        result = subprocess.run([NVME_IO, "--flushed", str(flushed), "--seconds", "1", self.socket],
                                capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return self.flushed(result.stdout)

    def flushed(self, text):
        return int(re.findall(r"flushed up to (\d+)", text)[-1])

    def kill_under_load(self, *command):
        server = self.start_server(*command)
        served = self.serve(self.device, "--sandbox")
        flushed = self.check(0)
        driver = self.start(NVME_IO, "--flushed", str(flushed), "--seconds", "3", self.socket,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = []
        for _ in range(3):
            while not lines or "flushed up to" not in lines[-1]:
                lines.append(driver.stdout.readline())
                self.assertTrue(lines[-1], "".join(lines))
            lines.append("")
            server.kill()
            server.wait()
            server = self.start_server(*command)
        text = "".join(lines) + driver.communicate(timeout=LIMIT)[0]
        self.assertEqual(driver.returncode, 0, text)
        flushed = self.check(self.flushed(text))
        served.terminate()
        log = served.communicate(timeout=LIMIT)[1]
        self.assertEqual(served.returncode, 0, log)
        self.assertIn("the connection is lost", log)
        self.assertIn("connected again", log)
        # By another process, and past the server: it is all in the file.
        self.start_server(*command)
        pathlib.Path(self.socket).unlink(missing_ok=True)
        self.serve(f"nvme,file={self.disk}")
        self.check(flushed)

    def test_nbdkit_killed_under_load(self):
        self.kill_under_load("nbdkit", "-f", "-U", self.nbd, "file", self.disk)

    def test_nbdkit_without_several_connections(self):
        self.device += ",pollers=2"
        self.kill_under_load("nbdkit", "-f", "-U", self.nbd, "--filter=multi-conn", "file",
                             self.disk, "multi-conn-mode=disable")

    @unittest.skipUnless(shutil.which("qemu-nbd"), "no qemu-nbd")
    def test_qemu_killed_under_load(self):
        # Its lock on the file would keep out who looks at it past the server.
        self.kill_under_load("qemu-nbd", "-t", "-e", "8", "-k", self.nbd, "--image-opts",
                             f"driver=raw,file.driver=file,file.filename={self.disk},"
                             "file.locking=off")

    def dials(self, served):
        """The processes that could connect for it: they have its program, and another parent."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and "uvfio-dialler" in (entry / "comm").read_text() and \
                        self.socket in (entry / "cmdline").read_text():
                    found.append(entry.name)
            except OSError:
                pass
        return found

    def test_nothing_is_left(self):
        self.start_server("nbdkit", "-f", "-U", self.nbd, "memory", "16M")
        for end in ("terminate", "kill"):
            served = self.serve(self.device)
            self.assertEqual(len(self.dials(served)), 1)
            getattr(served, end)()
            served.communicate(timeout=LIMIT)
            await_true("the dialler ends", lambda: not self.dials(served))
            pathlib.Path(self.socket).unlink(missing_ok=True)

    def refused(self, device, status, *words):
        result = subprocess.run([UVFIO, "serve", device, "--socket", self.socket],
                                capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual(result.returncode, status, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def test_refused(self):
        self.refused(self.device, 1, self.nbd, "No such file")
        self.refused("nvme,nbd=http://localhost/", 2, "http://localhost/")
        self.refused(self.device + ",reconnect=x", 2, "reconnect")
        self.start_server("nbdkit", "-f", "-U", self.nbd, "--filter=blocksize-policy", "memory",
                          "16M", "blocksize-minimum=4096", "blocksize-preferred=4096")
        self.refused(self.device, 2, "block=4096")


if __name__ == "__main__":
    if not shutil.which("nbdkit"):
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
