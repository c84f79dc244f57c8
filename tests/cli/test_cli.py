#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_cli.py UVFIO FIRST_DRIVER: drives the real program. Time decides nothing: what is awaited has
twenty seconds, what must not happen is asked for after what comes later has happened."""
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

UVFIO = sys.argv[1]
LIMIT = 20


def await_true(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def version_message():
    body = b'\0\0\0\0{"capabilities":{}}\0'
    header = (1).to_bytes(2, "little") * 2 + (16 + len(body)).to_bytes(4, "little")
    return header + bytes(8) + body


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="uvfio-cli-"))
        self.addCleanup(shutil.rmtree, self.directory)
        # A user that the program changes to must reach nothing in it but the sockets.
        self.directory.chmod(0o755)
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=str(self.directory))
        self.served = []
        self.addCleanup(self.end_all)

    def end_all(self):
        for process in self.served:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def path(self, name):
        return str(self.directory / name)

    def run_uvfio(self, *arguments, status=0):
        result = subprocess.run(
            [UVFIO, *arguments], env=self.environment, capture_output=True, text=True, timeout=LIMIT
        )
        self.assertEqual(result.returncode, status, result.stderr)
        return result

    def refused(self, arguments, message, status=2):
        result = self.run_uvfio(*arguments, status=status)
        self.assertEqual(result.stderr, message + "\n")
        self.assertEqual(result.stdout, "")

    def serve(self, *arguments):
        process = subprocess.Popen(
            [UVFIO, "serve", *arguments], env=self.environment, stderr=subprocess.PIPE, text=True
        )
        self.served.append(process)
        sockets = [b for a, b in zip(arguments, arguments[1:]) if a == "--socket"]
        for path in sockets:
            line = ""
            while not line.endswith(f" at {path}\n"):
                line = process.stderr.readline()
                self.assertTrue(line, "it ended before it served")
        return process

    def listed(self):
        return json.loads(self.run_uvfio("ls", "--json").stdout)

    def pid_of(self, path):
        return next(entry["pid"] for entry in self.listed() if entry["socket"] == path)

    def assert_gone(self, process, *paths, status=0):
        self.assertEqual(process.wait(LIMIT), status)
        for path in paths:
            self.assertFalse(os.path.lexists(path), path)
        self.assertEqual(list((self.directory / "uvfio").iterdir()), [])


class Usage(Case):
    def test_nothing(self):
        self.assertIn("Usage: uvfio VERB", self.run_uvfio(status=2).stderr)

    def test_help_and_version(self):
        self.assertRegex(self.run_uvfio("--version").stdout, r"^uvfio \d+\.\d+\.\d+\n$")
        for arguments in (["help"], ["--help"], ["-h"]):
            text = self.run_uvfio(*arguments).stdout
            for verb in ("help", "ls", "models", "serve", "show"):
                self.assertIn(f"\n  {verb} ", text)
        for arguments in (["help", "serve"], ["serve", "--help"]):
            self.assertIn("--socket PATH", self.run_uvfio(*arguments).stdout)

    def test_verbs_and_options(self):
        serve = "uvfio serve: "
        cases = [
            (["serv"], "uvfio: 'serv' is not known; did you mean 'serve'?"),
            (["quux"], "uvfio: 'quux' is not known; see uvfio help"),
            (["help", "sho"], "uvfio: 'sho' is not known; did you mean 'show'?"),
            (["ls", "x"], "uvfio ls: 'x' is one operand too many: expected [--json]"),
            (["ls", "--jason"], "uvfio ls: --jason is not known; did you mean --json?"),
            (["ls", "--json=1"], "uvfio ls: --json: expected nothing after it, got '1'"),
            (["show"], "uvfio show: expected a SOCKET"),
            (
                ["models", "nvem"],
                "uvfio models: model 'nvem' is not known; did you mean 'nvme'?",
            ),
            (["serve"], serve + "expected DEVICE[,key=value...] --socket PATH"),
            (["serve", "serial"], serve + "serial: expected --socket PATH after it"),
            (["serve", "serial", "--socket"], serve + "--socket: expected PATH after it"),
            (["serve", "serial", "--socket="], serve + "--socket: expected PATH, got ''"),
            (["serve", "--socket", "x"], serve + "--socket x: expected a DEVICE before it"),
            (
                ["serve", "serial", "nvme,null=1M", "--socket", "x"],
                serve + "serial: expected --socket PATH after it",
            ),
            (
                ["serve", "serial", "--socket", "x", "--socket", "y"],
                serve + "--socket y: expected a DEVICE before it",
            ),
            (["serve", "--sokcet", "x"], serve + "--sokcet is not known; did you mean --socket?"),
            (
                ["serve", "--quux"],
                serve + "--quux is not known; see uvfio help serve",
            ),
            (
                ["serve", "--user", "no-such-user", "serial", "--socket", "x"],
                serve + "--user: expected the name of a user, got 'no-such-user'",
            ),
            (
                ["serve", "seriel", "--socket", "x"],
                serve + "model 'seriel' is not known; did you mean 'serial'?",
            ),
            (
                ["serve", "serial,line=x", "--socket", "x"],
                serve + "serial: line=: expected pty|unix:PATH|file:PATH|stdio, got 'x'",
            ),
            (
                ["serve", "serial,lime=pty", "--socket", "x"],
                serve + "serial: key 'lime' is not known; did you mean 'line'?",
            ),
        ]
        for arguments, message in cases:
            with self.subTest(arguments=arguments):
                self.refused(arguments, message)

    def test_what_cannot_be_done(self):
        missing = self.path("missing")
        result = self.run_uvfio("show", missing, status=1)
        self.assertIn(missing, result.stderr)
        self.assertIn("No such file", result.stderr)
        self.refused(
            ["serve", f"nvme,file={missing}", "--socket", self.path("s")],
            f"uvfio serve: {missing}: No such file or directory",
            status=1,
        )
        below = missing + "/s"
        self.refused(
            ["serve", "serial", "--socket", below],
            f"uvfio serve: --socket: {below}: No such file or directory",
            status=1,
        )
        long = self.path("x" * 200)
        self.assertIn(long[:40], self.run_uvfio("serve", "serial", "--socket", long, status=1).stderr)


class Models(Case):
    def test_text_and_json_agree(self):
        text = self.run_uvfio("models").stdout
        models = json.loads(self.run_uvfio("models", "--json").stdout)
        self.assertEqual([model["name"] for model in models], sorted(m["name"] for m in models))
        self.assertIn("serial", [model["name"] for model in models])
        for model in models:
            self.assertIn(model["name"], text)
            one = json.loads(self.run_uvfio("models", model["name"], "--json").stdout)
            self.assertEqual(one, model)
            described = self.run_uvfio("models", model["name"]).stdout
            for key in model["keys"]:
                self.assertIn(f"  {key['name']}={key['expects']}", described)
                self.assertTrue(key["help"])


class Serving(Case):
    def test_serve_show_ls(self):
        path, spec = self.path("s"), f"serial,line=unix:{self.path('line')}"
        process = self.serve(spec, "--socket", path)
        (entry,) = self.listed()
        self.assertEqual(entry["model"], "serial")
        self.assertEqual(entry["spec"], spec)
        self.assertEqual(entry["socket"], path)
        self.assertEqual(entry["pid"], process.pid)
        self.assertIn(path, self.run_uvfio("ls").stdout)
        shown = json.loads(self.run_uvfio("show", path, "--json").stdout)
        self.assertEqual(shown["header"]["vendor"], "1b36")
        self.assertEqual(shown["header"]["device"], "0002")
        self.assertEqual(shown["header"]["class"], "070002")
        regions = {region["name"]: region for region in shown["regions"]}
        self.assertEqual(regions["bar0"]["size"], 8)
        self.assertEqual(regions["bar0"]["kind"], "io")
        self.assertEqual(regions["config"]["index"], 7)
        self.assertIn("intx", [irq["name"] for irq in shown["irqs"]])
        self.assertIn("vendor=1b36", self.run_uvfio("show", path).stdout)
        process.terminate()
        self.assert_gone(process, path, self.path("line"))
        self.assertEqual(self.listed(), [])

    def test_capabilities(self):
        path = self.path("n")
        self.serve("nvme,null=1M", "--socket", path)
        shown = json.loads(self.run_uvfio("show", path, "--json").stdout)
        names = [capability["name"] for capability in shown["capabilities"]]
        self.assertIn("MSI-X", names)
        self.assertIn("PCI Express", names)
        self.assertNotIn("unknown", names)
        text = self.run_uvfio("show", path).stdout
        self.assertIn("name=MSI-X", text)
        self.assertIn("\nextended_capabilities: none\n", text)

    def test_sigint(self):
        path = self.path("s")
        process = self.serve("serial", "--socket", path)
        process.send_signal(signal.SIGINT)
        self.assert_gone(process, path)

    def test_two_pairs(self):
        paths = self.path("a"), self.path("b")
        process = self.serve("serial", "--socket", paths[0], "nvme,null=1M", "--socket", paths[1])
        self.assertEqual([entry["socket"] for entry in self.listed()], sorted(paths))
        for path in paths:
            self.run_uvfio("show", path)
        process.terminate()
        self.assert_gone(process, *paths)

    def test_the_second_pair_fails(self):
        paths = self.path("a"), self.path("b")
        self.run_uvfio(
            "serve", "serial", "--socket", paths[0], "nvme,null=1M", "--socket", "/nonexistent/x",
            status=1)
        for path in paths:
            self.assertFalse(os.path.exists(path))
        self.assertEqual(self.listed(), [])

    def test_a_stale_socket_is_replaced_and_a_live_one_is_not(self):
        path = self.path("s")
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        process = self.serve("serial", "--socket", path)
        result = self.run_uvfio("serve", "serial", "--socket", path, status=1)
        self.assertIn(f"--socket: {path}: ", result.stderr)
        self.run_uvfio("show", path)
        self.assertEqual(len(self.listed()), 1)
        process.terminate()
        self.assert_gone(process, path)

    def test_what_a_killed_process_leaves_is_not_listed(self):
        path = self.path("s")
        process = self.serve("serial", "--socket", path)
        process.kill()
        process.wait(LIMIT)
        self.assertEqual(len(list((self.directory / "uvfio").iterdir())), 1)
        self.assertEqual(self.listed(), [])
        self.assertEqual(list((self.directory / "uvfio").iterdir()), [])
        again = self.serve("serial", "--socket", path)
        again.terminate()
        self.assert_gone(again, path)

    def test_a_busy_device(self):
        path = self.path("s")
        process = self.serve("serial", "--socket", path)
        with socket.socket(socket.AF_UNIX) as driver:
            driver.connect(path)
            driver.sendall(version_message())
            driver.recv(4096)
            self.refused(
                ["show", path],
                f"uvfio show: {path}: the device has a driver, and takes one at a time",
                status=1,
            )
        await_true("free again", lambda: subprocess.run(
            [UVFIO, "show", path], env=self.environment, capture_output=True).returncode == 0)
        process.terminate()
        self.assert_gone(process, path)


class Sandbox(Case):
    def setUp(self):
        super().setUp()
        # Where the program was built with AddressSanitizer: to look for leaks at its end it starts a
        # process that traces it, which a sandbox is there to prevent.
        self.environment["ASAN_OPTIONS"] = self.asan_options()

    @staticmethod
    def asan_options():
        options = os.environ.get("ASAN_OPTIONS", "")
        return f"{options}:detect_leaks=0".lstrip(":")

    def check_status(self, pid):
        status = status_of(pid)
        self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(status["NoNewPrivs"], "1")
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
            lines = (thread / "status").read_text()
            self.assertIn("Seccomp:\t2\n", lines)
            self.assertIn("CapEff:\t0000000000000000\n", lines)
            self.assertIn("NoNewPrivs:\t1\n", lines)

    def test_rights_are_gone_and_the_device_works(self):
        path, line = self.path("s"), self.path("line")
        process = self.serve(f"serial,line=unix:{line}", "--socket", path, "--sandbox")
        pid = self.pid_of(path)
        self.assertNotEqual(pid, process.pid)
        self.check_status(pid)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(line)
            for _ in range(3):
                self.run_uvfio("show", path)
        process.terminate()
        self.assert_gone(process, path)

    def test_nobody_is_served_before_the_rights_are_gone(self):
        first = self.path("first")
        arguments = ["serial", "--socket", first]
        # While these are made a driver has the time to be served.
        for nth in range(30):
            arguments += ["nvme,null=1M", "--socket", self.path(f"n{nth}")]
        process = subprocess.Popen([UVFIO, "serve", "--sandbox", *arguments], env=self.environment,
                                   stderr=subprocess.DEVNULL, text=True)
        self.served.append(process)
        with socket.socket(socket.AF_UNIX) as driver:
            driver.settimeout(LIMIT)
            await_true("a connection", lambda: driver.connect_ex(first) == 0)
            driver.sendall(version_message())
            self.assertTrue(driver.recv(4096))
            listener = driver.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.check_status(int.from_bytes(listener[:4], "little"))
        process.terminate()
        self.assert_gone(process, first)

    def test_an_nvme_device_moves_data(self):
        if len(sys.argv) < 3:
            self.skipTest("no driver was given")
        disk, path = self.path("disk"), self.path("n")
        with open(disk, "wb") as file:
            file.truncate(64 << 20)
        for poll in ("on", "off", "adaptive"):
            process = self.serve(f"nvme,file={disk},poll={poll}", "--socket", path, "--sandbox")
            self.check_status(self.pid_of(path))
            result = subprocess.run(
                [sys.argv[2], *self.driver_arguments(path)], capture_output=True, text=True,
                timeout=60)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            process.terminate()
            self.assert_gone(process, path)

    def driver_arguments(self, path):
        return [argument.replace("SOCKET", path) for argument in sys.argv[3:]]

    def test_the_serving_process_is_killed(self):
        path = self.path("s")
        process = self.serve("serial", "--socket", path, "--sandbox")
        pid = self.pid_of(path)
        os.kill(pid, signal.SIGKILL)
        self.assert_gone(process, path, status=1)

    def test_the_guard_is_killed(self):
        path = self.path("s")
        process = self.serve("serial", "--socket", path, "--sandbox")
        pid = self.pid_of(path)
        process.kill()
        process.wait(LIMIT)
        await_true("the serving process ends", lambda: not os.path.exists(f"/proc/{pid}"))

    def test_a_live_socket_is_left_alone(self):
        path = self.path("s")
        process = self.serve("serial", "--socket", path)
        self.run_uvfio("serve", "serial", "--socket", path, "--sandbox", status=1)
        self.run_uvfio("show", path)
        process.terminate()
        self.assert_gone(process, path)

    @unittest.skipIf(os.geteuid(), "only root can become another user")
    def test_user(self):
        path = self.path("s")
        process = self.serve("--user", "nobody", "serial", "--socket", path)
        row = pwd.getpwnam("nobody")
        status = status_of(self.pid_of(path))
        self.assertEqual(status["Uid"].split(), [str(row.pw_uid)] * 4)
        self.assertEqual(status["Gid"].split(), [str(row.pw_gid)] * 4)
        self.assertEqual(status["Groups"].strip(), "")
        self.assertEqual(int(status["CapPrm"], 16), 0)
        self.run_uvfio("show", path)
        process.send_signal(signal.SIGINT)
        self.assert_gone(process, path)

    @unittest.skipIf(os.geteuid(), "root only")
    def test_root_is_no_sandbox(self):
        self.refused(
            ["serve", "--sandbox", "--user", "root", "serial", "--socket", self.path("s")],
            "uvfio serve: --user: expected a user other than root with --sandbox, got 'root'")
        self.assertFalse(os.path.exists(self.path("s")))

    @unittest.skipUnless(os.geteuid(), "root can become anyone")
    def test_user_needs_root(self):
        result = self.run_uvfio("serve", "--user", "root", "serial", "--socket", self.path("s"),
                                status=1)
        self.assertIn("--user: can't become root", result.stderr)


class Chain(Case):
    """A device offered by one process, and again by another that is its driver."""

    def setUp(self):
        super().setUp()
        if len(sys.argv) < 3:
            self.skipTest("no driver was given")
        self.environment["ASAN_OPTIONS"] = Sandbox.asan_options()
        self.near, self.far = self.path("near"), self.path("far")

    def start(self, keys="", *options):
        return (self.serve(f"nvme,mem=64M{keys}", "--socket", self.far),
                self.serve(f"vfio-user,socket={self.far}", "--socket", self.near, *options))

    def drive(self, *options, seconds="0.3"):
        result = subprocess.run([sys.argv[2], "--seconds", seconds, *options, self.near],
                                capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def maps(self, process):
        return pathlib.Path(f"/proc/{process.pid}/maps").read_text()

    def test_data_interrupts_and_doorbells(self):
        for poll, doorbells in (("on", "mapped"), ("off", "by message"), ("adaptive", "by message")):
            with self.subTest(poll=poll):
                far, near = self.start(f",poll={poll}")
                text = self.drive("--interrupts")
                self.assertRegex(text, f"doorbells {doorbells}|{doorbells} doorbells")
                self.assertRegex(text, "read and verified [1-9]")
                self.assertRegex(text, "interrupts: [1-9]")
                self.assertIn("shadow doorbells", self.drive("--shadow"))
                for process in (near, far):
                    process.terminate()
                    self.assertEqual(process.wait(LIMIT), 0)

    def test_in_a_sandbox(self):
        self.start("", "--sandbox")
        self.check_driven()

    def check_driven(self):
        self.assertRegex(self.drive("--interrupts"), "interrupts: [1-9]")
        self.assertRegex(self.drive(), "read and verified [1-9]")

    def test_memory_passes_as_files_and_goes_with_the_driver(self):
        far, near = self.start()
        driver = subprocess.Popen([sys.argv[2], "--seconds", "1000", self.near],
                                  stdout=subprocess.PIPE, text=True)
        self.addCleanup(driver.communicate)
        self.addCleanup(driver.kill)
        line = ""
        while not line.startswith("flushed up to"):
            line = driver.stdout.readline()
            self.assertTrue(line, "the driver ended")
        self.assertIn("memfd:nvme-driver", self.maps(far))
        driver.kill()
        await_true("the memory goes", lambda: "memfd:nvme-driver" not in self.maps(far)
                   and "memfd:nvme-driver" not in self.maps(near))
        flushed = line.split()[-1]
        self.assertIn("is intact", self.drive("--flushed", flushed, seconds="0"))
        self.check_driven()

    def test_the_far_end_dies(self):
        far, near = self.start()
        driver = subprocess.Popen([sys.argv[2], "--seconds", "1000", self.near],
                                  stdout=subprocess.PIPE, text=True)
        self.addCleanup(driver.communicate)
        self.addCleanup(driver.kill)
        while not driver.stdout.readline().startswith("flushed up to"):
            pass
        far.kill()
        self.assertIn("stopped: ", driver.communicate(timeout=LIMIT)[0])
        self.assertEqual(driver.returncode, 1)
        self.assertIsNone(near.poll())
        near.terminate()
        self.assertEqual(near.wait(LIMIT), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
