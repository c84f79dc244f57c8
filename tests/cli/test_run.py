#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_run.py UVFIO: `uvfio run` and `uvfio ctl` from outside: options, topology files, exit statuses,
signals, the terminal, the control socket. Time decides nothing: what is awaited has twenty seconds."""
import json
import os
import pathlib
import pty
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import unittest

UVFIO = os.path.abspath(sys.argv[1])
ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 20
RUN = "uvfio run: "


def await_true(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="uvfio-run-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return str(self.directory / name)

    def write(self, name, text):
        (self.directory / name).write_text(text)
        return self.path(name)

    def uvfio(self, *arguments, status=0, **keywords):
        result = subprocess.run([UVFIO, *arguments], capture_output=True, text=True, timeout=LIMIT,
                                **keywords)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result

    def run_program(self, *program, options=("--device", "ioat"), status=0, **keywords):
        return self.uvfio("run", *options, "--", *program, status=status, **keywords)

    def refused(self, arguments, message, status=125):
        # A folder that can't be searched would count as a program that can't be executed.
        result = self.uvfio("run", *arguments, status=status,
                            env=dict(os.environ, PATH="/usr/bin:/bin"))
        self.assertEqual(result.stderr, RUN + message + "\n")
        self.assertEqual(result.stdout, "")

    def start(self, *program, options=("--device", "ioat"), **keywords):
        """Starts a program, which says "ready" on its standard output."""
        process = subprocess.Popen([UVFIO, "run", *options, "--", *program], text=True,
                                   stdout=subprocess.PIPE, stdin=subprocess.PIPE, **keywords)

        def end():
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

        self.addCleanup(end)
        self.line = process.stdout.readline()
        self.assertTrue(self.line.startswith("ready"), self.line)
        return process


class Usage(Case):
    def test_options(self):
        device = ["--device", "ioat"]
        cases = [
            ([], "expected a PROGRAM"),
            (device, "expected a PROGRAM"),
            ([*device, "--"], "expected a PROGRAM"),
            (["true"], "expected --device MODEL[,key=value...] or --topology FILE"),
            (["--device"], "--device: expected MODEL[,...] after it"),
            (["--devcie", "x"], "--devcie is not known; did you mean --device?"),
            (["--quux"], "--quux is not known; see uvfio help run"),
            (["--stats=1", "true"], "--stats: expected nothing after it, got '1'"),
            ([*device, "--control", "", "true"], "--control: expected PATH, got ''"),
            ([*device, "--trace=", "true"], "--trace: expected FILE, got ''"),
            ([*device, "--trace", "a", "--trace", "b", "true"], "--trace is given twice"),
        ]
        for arguments, message in cases:
            with self.subTest(arguments=arguments):
                self.refused(arguments, message)

    def test_help(self):
        self.assertIn("--topology FILE", self.uvfio("run", "--help").stdout)
        self.assertIn("SOCKET COMMAND", self.uvfio("help", "ctl").stdout)

    def test_devices(self):
        cases = [
            (["ioatt"], "model 'ioatt' is not known; did you mean 'ioat'?"),
            (["ioat,bdf=65:00"],
             "--device: expected an address such as 0000:65:00.0, got '65:00'"),
            (["ioat,bdf=0000:65:20.0"],
             "--device: expected an address such as 0000:65:00.0, got '0000:65:20.0'"),
            (["ioat,bdf=0000:65:00.8"],
             "--device: expected an address such as 0000:65:00.0, got '0000:65:00.8'"),
            (["ioat,bdf=-1:00.0"],
             "--device: expected an address such as 0000:65:00.0, got '-1:00.0'"),
            (["ioat,group=-1"],
             "--device: ioat: group=: expected a number from 0 to 2147483647, got '-1'"),
            (["ioat,numa=x"], "--device: ioat: numa=: expected a number from 0 to 1023, got 'x'"),
            (["ioat,trap=maybe"], "--device: ioat: trap=: expected on|off, got 'maybe'"),
            (["ioat,trap0=1"], "--device: ioat: trap0=: expected on|off, got '1'"),
            (["ioat,group=1,group=2"], "--device: ioat: group= is given twice"),
            (["ioat,trap6=on"], "ioat: key 'trap6' is not known"),
            (["ioat,bdf=1:0.0", "ioat,bdf=0000:01:00.0"],
             "0000:01:00.0: two devices have this address"),
            (["ioat,name=a", "ioat,name=a"], "a: two devices have this name"),
        ]
        for specs, message in cases:
            with self.subTest(specs=specs):
                arguments = [word for spec in specs for word in ("--device", spec)]
                self.refused([*arguments, "--", "true"], message)

    def test_iommu(self):
        cases = [
            ("pgsizes=", "pgsizes=: expected SIZE[+SIZE...], got ''"),
            ("pgsizes=3K", "pgsizes=: expected a power of two of at least 4K, got '3K'"),
            ("pgsizes=2K", "pgsizes=: expected a power of two of at least 4K, got '2K'"),
            ("pgsizes=4K+x", "pgsizes=: expected a size such as 4K, got 'x'"),
            ("aperture=4096", "aperture=: expected FIRST-LAST, got '4096'"),
            ("aperture=2-1", "aperture=: expected FIRST-LAST, got '2-1'"),
            ("reserved=x-y", "reserved=: expected FIRST-LAST, got 'x-y'"),
            ("mappings=0", "iommu: mappings=: expected a number of at least 1, got '0'"),
            ("locked=0", "iommu: locked=: expected a size such as 512, 64K or 1G of at least 1, "
             "got '0'"),
            ("pgsize=4K", "iommu: key 'pgsize' is not known; did you mean 'pgsizes'?"),
        ]
        for text, message in cases:
            with self.subTest(text=text):
                self.refused(["--device", "ioat", "--iommu", text, "true"], f"--iommu: {message}")
        self.refused(["--device", "ioat", "--iommu", "mappings=1", "--iommu", "mappings=1", "true"],
                     "--iommu: it is given twice")

    def test_inject(self):
        cases = [
            ("dma-fial", "--inject: fault 'dma-fial' is not known; did you mean 'dma-fail'?"),
            ("remove,nth=0", "--inject: remove: nth=: expected a number of at least 1, got '0'"),
            ("remove,device=x", "remove,device=x: device 'x' is not there"),
            ("aer,bit=14", "aer,bit=14: aer,bit=14: nobody has ioat open; nth=N waits for an "
             "access"),
        ]
        for spec, message in cases:
            with self.subTest(spec=spec):
                self.refused(["--device", "ioat", "--inject", spec, "true"], message)
        self.refused(["--device", "ioat", "--device", "ioat", "--inject", "remove", "true"],
                     "remove: expected a device: there are 2")

    def test_files(self):
        missing = self.path("missing/file")
        self.refused(["--device", "ioat", "--trace", missing, "true"],
                     f"--trace: {missing}: No such file or directory")
        self.refused(["--device", "ioat", "--control", missing, "true"],
                     f"--control: {missing}: No such file or directory")
        taken = self.write("taken", "")
        self.refused(["--device", "ioat", "--control", taken, "true"],
                     f"--control: {taken}: Address already in use")
        self.assertTrue(os.path.exists(taken))
        self.refused(["--topology", missing, "true"],
                     f"--topology: {missing}: No such file or directory")


class Topology(Case):
    def test_the_documented_example(self):
        text = (ROOT / "docs/topology.md").read_text()
        example = re.search(r"```json\n(.*?)```", text, re.S).group(1)
        example = example.replace("disk.img", self.write("disk.img", "\0" * (1 << 20)))
        manual = (ROOT / "docs/man/uvfio-run.1").read_text()
        self.assertIn("0000:65:00.0", manual)
        result = self.run_program(
            "sh", "-c", "cd /sys/bus/pci/devices && ls && cat */numa_node && "
            "readlink */iommu_group | sed s,.*/,, && ls /dev/vfio",
            options=("--topology", self.write("example.json", example)))
        self.assertEqual(result.stdout.split(),
                         "0000:65:00.0 0000:65:00.1 0000:66:00.0 1 1 -1 7 7 8 7 8 devices vfio"
                         .split())

    def test_refused(self):
        cases = [
            ("", "line 1: unexpected end of data"),
            ("[]", "expected an object"),
            ("{", "line 1: unexpected end of data"),
            ('{\n"devices": [\n}', "line 3: "),
            ('{"devices":[]} x', "line 1: "),
            ('{"device":[]}', "'device' is not known; did you mean 'devices'?"),
            ('{"devices":{}}', "devices: expected an array"),
            ('{"devices":[1]}', "devices[0]: expected an object"),
            ('{"devices":[{}]}', 'devices[0]: expected a spec, such as "nvme,file=disk.img"'),
            ('{"devices":[{"spec":1}]}', "devices[0].spec: expected a text"),
            ('{"devices":[{"spec":"ioat\\u0000"}]}',
             "devices[0].spec: expected a text without a byte 0"),
            ('{"devices":[{"spec":"ioat","adress":"x"}]}',
             "devices[0]: 'adress' is not known; did you mean 'address'?"),
            ('{"devices":[{"spec":"ioat","address":"x"}]}',
             "devices[0].address: expected an address such as 0000:65:00.0, got 'x'"),
            ('{"devices":[{"spec":"ioat","group":-1}]}',
             "devices[0].group: expected a number of at most 2147483647, got -1"),
            ('{"devices":[{"spec":"ioat","group":1e3}]}', "devices[0].group: expected a number"),
            ('{"devices":[{"spec":"ioat","numa_node":1024}]}',
             "devices[0].numa_node: expected a number of at most 1023, got 1024"),
            ('{"devices":[{"spec":"ioat","trap":1}]}',
             "devices[0].trap: expected true, false or an object of BARs"),
            ('{"devices":[{"spec":"ioat","trap":{"bar6":true}}]}',
             "devices[0].trap: 'bar6' is not known; did you mean 'bar0'?"),
            ('{"devices":[{"spec":"ioat","trap":{"bar0":1}}]}',
             "devices[0].trap.bar0: expected true or false"),
            ('{"iommu":{"page_sizes":["3K"]}}',
             "iommu.page_sizes[0]: expected a power of two of at least 4K"),
            ('{"iommu":{"page_sizes":[]}}', "iommu.page_sizes: expected a size"),
            ('{"iommu":{"aperture":[1]}}', "iommu.aperture: expected [FIRST, LAST]"),
            ('{"iommu":{"aperture":[2,1]}}', "iommu.aperture: the first is past the last"),
            ('{"iommu":{"reserved":[["0x10","y"]]}}',
             "iommu.reserved[0][1]: expected a number of at most 18446744073709551615"),
            ('{"iommu":{"locked":null}}', "iommu.locked: expected a number"),
            ('{"inject":["remove,nth=0"]}',
             "inject[0]: remove: nth=: expected a number of at least 1, got '0'"),
            ("[" * 100, "line 1: nesting too deep"),
            ('{"a":' + '"x' * 600000, "expected at most 1 MiB"),
        ]
        for text, message in cases:
            with self.subTest(text=text[:60]):
                path = self.write("t.json", text)
                result = self.uvfio("run", "--topology", path, "true", status=125)
                self.assertIn(f"{RUN}--topology: {path}: ", result.stderr)
                self.assertIn(message, result.stderr)

    def test_with_options(self):
        path = self.write("t.json", '{"devices":[{"spec":"ioat"}],"iommu":{"mappings":1}}')
        self.refused(["--topology", path, "--iommu", "mappings=1", "true"],
                     "--iommu: it is given twice")
        result = self.run_program("ls", "/sys/bus/pci/devices",
                                  options=("--topology", path, "--device", "ioat,bdf=01:00.0"))
        self.assertEqual(result.stdout.split(), ["0000:01:00.0", "0000:02:00.0"])


class Ends(Case):
    def test_statuses(self):
        for status in (0, 1, 42, 125, 255):
            self.run_program("sh", "-c", f"exit {status}", status=status)
        self.refused(["--device", "ioat", "/nonexistent"],
                     "/nonexistent: No such file or directory", status=127)
        self.refused(["--device", "ioat", "no-such-program-here"],
                     "no-such-program-here: No such file or directory", status=127)
        self.refused(["--device", "ioat", "/etc/passwd"], "/etc/passwd: Permission denied",
                     status=126)

    def test_signals_end_it_as_they_end_the_program(self):
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT,
                       signal.SIGPIPE, signal.SIGINT):
            result = subprocess.run(
                ["sh", "-c", '"$@"; echo $?', "sh", UVFIO, "run", "--device", "ioat", "--", "sh",
                 "-c", f"kill -{number.value} $$"], capture_output=True, text=True, timeout=LIMIT,
                # Python ignores it.
                preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL))
            self.assertEqual(result.stdout, f"{128 + number.value}\n", number)

    def test_what_the_program_inherits(self):
        text = self.run_program("grep", "^Sig[BIC]", "/proc/self/status",
                                preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL))
        direct = subprocess.run(["grep", "^Sig[BIC]", "/proc/self/status"], capture_output=True,
                                text=True, check=True, preexec_fn=lambda: signal.signal(
                                    signal.SIGPIPE, signal.SIG_DFL))
        self.assertEqual(text.stdout, direct.stdout)

    def test_arguments_input_and_output(self):
        result = self.run_program("sh", "-c", 'cat; echo "$@" >&2', "-", "--device", "x", "--",
                                  input="hello")
        self.assertEqual(result.stdout, "hello")
        self.assertEqual(result.stderr, "--device x --\n")
        self.assertEqual(self.uvfio("run", "--device", "ioat", "echo", "--stats").stdout,
                         "--stats\n")

    def test_what_it_started_is_waited_for(self):
        result = self.run_program("sh", "-c", "(sleep 0.3; echo late) & exit 3", status=3)
        self.assertEqual(result.stdout, "late\n")


class Signals(Case):
    PROGRAM = ("import signal,sys\n"
               "def got(n, f): print('got', n, flush=True)\n"
               "[signal.signal(n, got) for n in (1, 2, 3, 10, 12, 15, 28, 34)]\n"
               "print('ready', flush=True)\n"
               "for line in sys.stdin: print('line', flush=True)\n")

    def test_what_is_sent_is_passed_on(self):
        process = self.start(sys.executable, "-c", self.PROGRAM)
        for number in (1, 2, 3, 10, 12, 15, 28, 34):
            process.send_signal(number)
            self.assertEqual(process.stdout.readline(), f"got {number}\n")
        process.stdin.close()
        self.assertEqual(process.wait(LIMIT), 0)

    def test_termination(self):
        process = self.start("sh", "-c", "echo ready; exec sleep 100")
        process.terminate()
        self.assertEqual(process.wait(LIMIT), -signal.SIGTERM)

    def test_the_supervisor_is_killed(self):
        process = self.start("sh", "-c", "echo ready $$; exec sleep 100")
        process.kill()
        self.assertEqual(process.wait(LIMIT), -signal.SIGKILL)


    def test_alarms_are_passed_on(self):
        # The kernel sends them to us alone: the timer that exec keeps is of our process.
        code = f"import os,signal; signal.alarm(1); os.execv({UVFIO!r}, {self.ARGUMENTS!r})"
        result = subprocess.run([sys.executable, "-c", code], timeout=LIMIT)
        self.assertEqual(result.returncode, -signal.SIGALRM)

    ARGUMENTS = ["uvfio", "run", "--device", "ioat", "--", "sleep", "100"]

    def test_ignored_children(self):
        """Whoever starts us may ignore his children; we wait for ours."""
        code = ("import os,signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
                f"os.execv({UVFIO!r}, {[*self.ARGUMENTS[:-2], 'sh', '-c', 'exit 7']!r})")
        self.assertEqual(subprocess.run([sys.executable, "-c", code], timeout=LIMIT).returncode, 7)

    def test_of_the_program_itself(self):
        """What it sends to all of its process group it has got already."""
        code = self.PROGRAM.replace("print('ready'", "import os; os.kill(0, 10); print('ready'")
        code = code.replace("'got', n,", "'ready' if n == 10 else 'got', n,")
        process = self.start(sys.executable, "-c", code, preexec_fn=os.setpgrp)
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGUSR2)
        self.assertEqual(process.stdout.readline(), "got 12\n")

    def test_stopped_alone(self):
        process = self.start(sys.executable, "-c",
                             self.PROGRAM.replace("'ready'", "'ready', __import__('os').getpid()"),
                             preexec_fn=os.setpgrp)
        program = int(self.line.split()[1])

        def state(pid):
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

        process.send_signal(signal.SIGTSTP)
        for pid in (program, process.pid):
            await_true("stopped", lambda: state(pid) == "T")
        process.send_signal(signal.SIGCONT)
        await_true("continued", lambda: state(program) != "T")

    def test_the_program_has_ended(self):
        """What it has left behind doesn't keep us from ending."""
        process = self.start("sh", "-c", "sleep 100 >/dev/null <&- & echo ready $! $$")
        left, program = map(int, self.line.split()[1:])
        self.addCleanup(os.kill, left, signal.SIGKILL)
        await_true("ended", lambda: not os.path.exists(f"/proc/{program}"))
        process.terminate()
        self.assertEqual(process.wait(LIMIT), -signal.SIGTERM)


class Terminal(Case):
    """On a terminal of its own, with itself as the session's leader: as an interactive shell has it."""

    def start_on_terminal(self, program):
        pid, master = pty.fork()
        if not pid:
            try:
                os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "-i"])
            finally:
                os._exit(99)
        self.addCleanup(os.close, master)

        def end():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

        self.addCleanup(end)
        self.master, self.text = master, ""
        # What is typed is not what is expected.
        self.type("bind 'set enable-bracketed-paste off'; PS1='prompt''> '\n")
        self.expect("prompt> ")
        self.type(f"{UVFIO} run --device ioat -- {program}\n")

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, what):
        end = time.monotonic() + LIMIT
        while what not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"never: {what!r}; there was {self.text!r}")
            self.text += os.read(self.master, 65536).decode(errors="replace")
        self.text = self.text.split(what, 1)[1]

    def test_interrupt(self):
        self.start_on_terminal(
            "sh -c 'trap \"echo cau\"\"ght; exit 5\" INT; echo rea\"\"dy; read line'")
        self.expect("ready")
        self.type("\x03")
        self.expect("caught")
        self.expect("prompt> ")
        self.type("echo stat''us $?\n")
        self.expect("status 5")

    def test_interrupt_without_handler(self):
        self.start_on_terminal("sh -c 'echo rea\"\"dy; exec sleep 100'")
        self.expect("ready")
        self.type("\x03")
        self.expect("prompt> ")
        self.type("echo stat''us $?\n")
        self.expect("status 130")

    def test_stop_and_continue(self):
        self.start_on_terminal("sh -c 'echo rea\"\"dy; read line; echo got $line'")
        self.expect("ready")
        self.type("\x1a")
        self.expect("Stopped")
        self.expect("prompt> ")
        self.type("fg\n")
        self.expect("uvfio run")
        self.type("hello\n")
        self.expect("got hello")
        self.expect("prompt> ")

    def test_hang_up(self):
        """We lead the session: nobody else is told."""
        done = self.path("done")
        pid, master = pty.fork()
        if not pid:
            try:
                # nohup may have started us.
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
                os.execv(UVFIO, ["uvfio", "run", "--device", "ioat", "--", "sh", "-c",
                                 f"trap 'echo >{done}; exit' HUP; echo ready; "
                                 "while :; do sleep 0.1; done"])
            finally:
                os._exit(99)
        self.master, self.text = master, ""
        self.expect("ready")
        os.close(master)
        try:
            await_true("told", lambda: os.path.exists(done))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def test_size_and_input(self):
        self.start_on_terminal("sh -c 'tty; stty size; echo rea\"\"dy; read line; echo got $line'")
        self.expect("/dev/pts/")
        self.expect("ready")
        self.type("hello\n")
        self.expect("got hello")


class Control(Case):
    def setUp(self):
        super().setUp()
        self.socket = self.path("control")

    def run_with_control(self, *options):
        return self.start("sh", "-c", "echo ready; read line; exit 7",
                          options=("--control", self.socket, "--device",
                                   "ioat,bdf=65:00.0,name=dma,group=4", "--device", "ioat",
                                   *options))

    def ctl(self, *command):
        return json.loads(self.uvfio("ctl", "--json", self.socket, *command).stdout or "true")

    def refused_by(self, message, *command):
        result = self.uvfio("ctl", self.socket, *command, status=1)
        self.assertEqual(result.stderr, f"uvfio ctl: {message}\n")

    def test_usage(self):
        for arguments in ([], ["x"]):
            self.assertEqual(self.uvfio("ctl", *arguments, status=2).stderr,
                             "uvfio ctl: expected SOCKET COMMAND\n")
        self.assertIn("No such file", self.uvfio("ctl", self.socket, "list", status=1).stderr)
        self.assertIn("at most", self.uvfio("ctl", "x", "y" * 1100, status=2).stderr)
        self.assertIn("one line", self.uvfio("ctl", "x", "a\nb", status=2).stderr)

    def test_commands(self):
        process = self.run_with_control("--inject", "map-fail,nth=9")
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o600)
        self.assertEqual(self.ctl("devices"), [
            {"address": "0000:65:00.0", "name": "dma", "device": "ioat", "group": 4},
            {"address": "0000:01:00.0", "device": "ioat", "group": 1}])
        self.assertEqual([row["command"] for row in self.ctl("help")],
                         ["clear [DEVICE]", "devices", "help", "inject SPEC", "list",
                          "migrate-in [DEVICE]",
                          "migrate-out [DEVICE]", "request [DEVICE]", "stats"])
        self.uvfio("ctl", self.socket, "inject", "remove,device=dma,nth=100")
        self.ctl("inject", "remove,device=01:00.0,nth=5")
        self.assertEqual(self.ctl("list"), [
            {"fault": "map-fail,nth=9", "seen": 0, "hits": 0, "over": False},
            {"device": "0000:65:00.0", "fault": "remove,device=dma,nth=100", "seen": 0, "hits": 0,
             "over": False},
            {"device": "0000:01:00.0", "fault": "remove,device=01:00.0,nth=5", "seen": 0,
             "hits": 0, "over": False}])
        self.ctl("clear", "0000:65:00.0")
        self.assertEqual(len(self.ctl("list")), 2)
        self.ctl("clear")
        self.assertEqual(self.ctl("list"), [])
        self.assertTrue(all(row["count"] for row in self.ctl("stats")))
        self.refused_by("expected a device: there are 2", "request")
        self.refused_by("0000:65:00.0: the program hasn't opened it", "request", "dma")
        self.refused_by("device 'ioat' is one of 2: say its address", "clear", "ioat")
        self.refused_by("device 'dmb' is not there; did you mean 'dma'?", "clear", "dmb")
        self.refused_by("inject: expected SPEC after it", "inject")
        self.refused_by("list: expected nothing after it, got 'x y'", "list", "x", "y")
        self.refused_by("'lsit' is not known; did you mean 'list'?", "lsit")
        self.refused_by("'quux' is not known; see help", "quux")
        self.refused_by("fault 'x' is not known", "inject", "x")
        process.communicate("\n", timeout=LIMIT)
        self.assertEqual(process.returncode, 7)
        self.assertFalse(os.path.exists(self.socket))

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(LIMIT)
        client.connect(self.socket)
        return client

    def test_hostile_clients(self):
        self.run_with_control()
        long, zero, quiet, piecewise = (self.connect() for _ in range(4))
        with self.assertRaises(OSError):
            long.sendall(b"x" * 5000)
            long.sendall(b"x" * 5000)
            if not long.recv(1):
                raise OSError
        zero.sendall(b"li\0st\n")
        self.assertEqual(zero.recv(1), b"")
        for byte in b"list\ndevices\n":
            piecewise.sendall(bytes([byte]))
        lines = piecewise.makefile("r")
        self.assertEqual(json.loads(lines.readline()), {"result": []})
        self.assertEqual(len(json.loads(lines.readline())["result"]), 2)
        # Who doesn't read is not waited for.
        deaf = self.connect()
        deaf.setblocking(False)
        with self.assertRaises(OSError):
            for _ in range(1000000):
                select.select([], [deaf], [], LIMIT)
                deaf.send(b"help\n" * 100)
        crowd = []
        while len(crowd) < 40:
            crowd.append(self.connect())
            # Answered or disconnected: so the queue never gets too long for us.
            try:
                crowd[-1].sendall(b"list\n")
                crowd[-1].recv(100)
            except OSError:
                pass
        for client in crowd:
            client.close()
        await_true("answers again", lambda: subprocess.run(
            [UVFIO, "ctl", self.socket, "list"], capture_output=True).returncode == 0)
        quiet.close()

    def test_no_file_descriptor_left(self):
        # Who connects then is dropped: he doesn't wait, and nobody is busy with him.
        process = self.run_with_control()
        for _ in range(12):
            client = self.connect()
            client.sendall(b"list\n")
            self.assertTrue(client.recv(100))
        taken = {int(number) for number in os.listdir(f"/proc/{process.pid}/fd")}
        lowest = min(set(range(len(taken) + 1)) - taken)
        limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (lowest, limits[1]))
        self.assertEqual(self.connect().recv(1), b"")
        self.assertEqual(self.connect().recv(1), b"")
        client.sendall(b"list\n")
        self.assertTrue(client.recv(100))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        self.ctl("list")

    def test_a_stale_socket_is_replaced_and_a_live_one_is_not(self):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(self.socket)
        self.run_with_control()
        self.refused(["--device", "ioat", "--control", self.socket, "true"],
                     f"--control: {self.socket}: Address already in use")
        self.ctl("list")

    def test_a_socket_whose_listener_died_is_replaced(self):
        # Someone else has a copy of it, and so it can be connected to.
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.socket)
        child = os.fork()
        if not child:
            listener.listen()
            os._exit(0)
        os.waitpid(child, 0)
        self.connect()
        self.run_with_control()
        self.assertEqual(len(self.ctl("devices")), 2)

    def test_serving(self):
        served = self.path("s")
        process = subprocess.Popen(
            [UVFIO, "serve", "--sandbox", "ioat", "--socket", served, "--control", self.socket,
             "--inject", "read-slow,us=1,count=0"], stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, XDG_RUNTIME_DIR=str(self.directory), ASAN_OPTIONS="detect_leaks=0"))
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertIn("serving", process.stderr.readline())
        self.uvfio("show", served)
        (row,) = self.ctl("list")
        self.assertEqual(row["device"], served)
        self.assertGreater(row["hits"], 0)
        self.ctl("inject", "remove")
        self.assertIn("No such device", self.uvfio("show", served, status=1).stderr)
        self.ctl("clear")
        self.uvfio("show", served)
        self.refused_by("no program runs here", "request")
        self.refused_by("no program runs here", "stats")
        process.terminate()
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertFalse(os.path.exists(self.socket))


class Output(Case):
    PROGRAM = ("python3", "-c", "import os; os.close(os.open('/dev/vfio/vfio', os.O_RDWR))")

    def test_stats(self):
        lines = self.run_program(*self.PROGRAM, options=("--device", "ioat", "--stats"))
        lines = lines.stderr.splitlines()
        self.assertRegex(lines[0], r"^call +count +errors +mean us +p50 us +p99 us +max us$")
        self.assertRegex(lines[1], r"^.{36} +\d+ +\d+( +\d+\.\d){4}$")

    def test_trace(self):
        result = self.run_program(*self.PROGRAM, options=("--device", "ioat", "--verbose"))
        self.assertIn("/dev/vfio/vfio", result.stderr)
        trace = self.path("trace")
        result = self.run_program(*self.PROGRAM, options=("--device", "ioat", "--trace", trace))
        self.assertEqual(result.stderr, "")
        self.assertIn("/dev/vfio/vfio", pathlib.Path(trace).read_text())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
