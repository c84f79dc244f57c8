#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_confined.py UVFIO DENY: what `uvfio run` says where something that it needs is refused. The
messages are those of docs/ci.md."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ORDINARY = 1000
ROOT = pathlib.Path(__file__).resolve().parents[2]
MESSAGES = {
    "pidfd_open": "pidfd_open(2) is refused here",
    "pidfd_getfd": "pidfd_getfd(2) is refused here",
    "process_vm_readv": "process_vm_readv(2) is refused here",
    "process_vm_writev": "process_vm_writev(2) is refused here",
    "ptrace": "ptrace(2) is refused here",
    "unshare": "unshare(2), of a user namespace, is refused here",
    "mount": "mount(2) is refused here",
    "seccomp": "seccomp(2), for user notifications, is refused here",
}


class Confined(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="uvfio-confined-")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        self.uvfio, self.deny = (shutil.copy(p, self.directory) for p in sys.argv[1:3])

    def run_confined(self, user, *refused):
        identity = {}
        if user != os.getuid():
            identity = {"user": user, "group": user, "extra_groups": []}
        return subprocess.run(
            [self.deny, *refused, "--", self.uvfio, "run", "--device", "ioat", "--", "/bin/echo",
             "it runs"], capture_output=True, text=True, timeout=20, cwd="/", **identity)

    def test_nothing_is_refused(self):
        for user in sorted({os.getuid(), os.getuid() or ORDINARY}):
            # A call that nothing here makes.
            self.assertEqual(self.run_confined(user, "acct").stdout, "it runs\n")

    def test_each(self):
        page = (ROOT / "docs/ci.md").read_text()
        for user in sorted({os.getuid(), os.getuid() or ORDINARY}):
            for name, message in MESSAGES.items():
                with self.subTest(user=user, name=name):
                    result = self.run_confined(user, name)
                    self.assertEqual(result.stderr,
                                     f"uvfio run: {message}: Operation not permitted\n")
                    self.assertEqual((result.returncode, result.stdout), (125, ""))
                    self.assertIn(message, page)

    def test_as_in_a_plain_container(self):
        result = self.run_confined(os.getuid() or ORDINARY, "mount", "unshare", "pidfd_getfd")
        self.assertIn(MESSAGES["pidfd_getfd"], result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
