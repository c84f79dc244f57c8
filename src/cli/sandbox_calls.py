#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""sandbox_calls.py SOURCE-DIRECTORY OUTPUT: makes the list of system calls that `uvfio serve
--sandbox` allows, from the notes "#syscalls: NAME ..." beside the functions that make them."""
import pathlib
import re
import sys

source, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
places = {}
for path in sorted(source.rglob("*.[ch]")):
    # A note may go on over lines, each with the comment's star.
    text = re.sub(r"\n\s*\*(?!/)", " ", path.read_text())
    for names in re.findall(r"#syscalls:((?:\s+[a-z][a-z0-9_]*)+)", text):
        for name in names.split():
            places.setdefault(name, set()).add(str(path.relative_to(source)))
lines = ["/* Made from the #syscalls notes in the sources. */", "#define SANDBOX_CALLS \\"]
for name in sorted(places):
    lines.append(f'\t/* {", ".join(sorted(places[name]))} */ \\')
    lines.append(f'\t"{name}", \\')
output.write_text("\n".join(lines) + "\n\n")
