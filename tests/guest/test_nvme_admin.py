"""Every command that nvme-cli offers for a simple disk.

What is optional must work when the controller says that it has it, and else be refused as unknown.
"""

import contextlib
import json
import os

from disk import Disk
from guest import MIB, OWN, Nvme, Skip, check, guest, random_disk, serving

# Bits of Identify Controller's OACS and ONCS.
OACS_FORMAT = 1 << 1
ONCS_COMPARE, ONCS_WRITE_UNCORRECTABLE, ONCS_DATASET_MANAGEMENT, ONCS_WRITE_ZEROES = (
    1 << 0,
    1 << 1,
    1 << 2,
    1 << 3,
)
ONCS_VERIFY, ONCS_COPY = 1 << 7, 1 << 8


class Cli:
    """nvme-cli in the guest, on one disk."""

    def __init__(self, disk):
        self.disk = disk
        self.guest = disk.guest
        self.controller = f"/dev/{disk.controller}"
        self.namespace = disk.path
        self.id_ctrl = self.json(f"id-ctrl {self.controller}")

    def json(self, arguments):
        output = self.guest.run(f"nvme {arguments} -o json")
        try:
            return json.loads(output)
        except ValueError:
            check(False, f"no JSON from nvme {arguments}: {output}")

    def run(self, arguments):
        return self.guest.run(f"nvme {arguments}")

    def refused(self, arguments, reason):
        """The command must end with this error, in nvme-cli's words."""
        status, output = self.guest.sh(f"nvme {arguments}")
        check(status != 0, f"nvme {arguments} succeeded:\n{output}")
        check(
            reason.lower() in output.lower(),
            f"nvme {arguments} failed not with '{reason}': {output}",
        )

    def optional(self, bits, bit, arguments):
        """Whether the controller says that it has the command; when not, that it refuses it."""
        if self.id_ctrl[bits] & bit:
            return True
        if OWN:
            raise Skip("QEMU's own controller may know it, but does not say so")
        self.refused(arguments, "Invalid Command Opcode")
        return False

    def bytes(self, offset, size):
        return self.disk.sha256(offset, size)

    def hash_of(self, text):
        return self.guest.run(f"({text}) | sha256sum").split()[0]


@contextlib.contextmanager
def guest_with_disk():
    device = Nvme(random_disk(16 * MIB), serial="admin-commands")
    with serving(device), guest(device, cpus=2) as running:
        yield Cli(Disk(running, device))


def identify_controller(cli):
    answer = cli.id_ctrl
    check(answer["sn"].strip() == "admin-commands", f"sn is {answer['sn']}")
    check(answer["mn"].strip(), "mn is empty")
    check(answer["nn"] >= 1, f"nn is {answer['nn']}")
    check(
        (answer["sqes"], answer["cqes"]) == (0x66, 0x44),
        f"sqes, cqes: {answer['sqes']}, {answer['cqes']}",
    )
    check(answer["ver"] >= 0x10200, f"ver is {answer['ver']:#x}")
    check(answer["subnqn"].startswith("nqn."), f"subnqn is {answer['subnqn']}")


def identify_namespace(cli):
    answer = cli.json(f"id-ns {cli.namespace}")
    shift = answer["lbafs"][answer["flbas"] & 15]["ds"]
    size = os.path.getsize(cli.disk.device.file)
    check(
        answer["nsze"] << shift == size,
        f"nsze is {answer['nsze']}, ds {shift}, the file has {size}",
    )
    check(answer["ncap"] == answer["nsze"], f"ncap is {answer['ncap']}")
    cli.refused(f"id-ns {cli.controller} -n 0xfffffff0", "Invalid Namespace")


def list_namespaces(cli):
    answer = cli.json(f"list-ns {cli.controller}")
    numbers = [namespace["nsid"] for namespace in answer["nsid_list"]]
    check(numbers == [1], f"namespaces: {numbers}")
    check(cli.namespace in cli.run("list"), "nvme list has no such disk")


def smart_log_counts(cli):
    before = cli.json(f"smart-log {cli.controller}")
    cli.guest.run(f"dd if={cli.namespace} of=/dev/null bs=64k count=80 iflag=direct")
    cli.guest.run(f"dd if=/dev/zero of={cli.namespace} bs=64k count=80 oflag=direct")
    after = cli.json(f"smart-log {cli.controller}")
    for counter, least in {
        "data_units_read": 10,
        "data_units_written": 10,
        "host_read_commands": 20,
        "host_write_commands": 20,
    }.items():
        grown = after[counter] - before[counter]
        check(grown >= least, f"{counter} has grown by {grown}")
    check(250 < after["temperature"] < 400, f"temperature is {after['temperature']} K")


def error_log(cli):
    entries = cli.json(f"error-log {cli.controller} -e 1")["errors"]
    check(len(entries) == 1, f"entries: {entries}")


def firmware_log(cli):
    (log,) = cli.json(f"fw-log {cli.controller}").values()
    afi = log["Active Firmware Slot (afi)"] if "Active Firmware Slot (afi)" in log else log["afi"]
    check(1 <= (int(afi) & 7) <= 7, f"afi is {afi}")


def get_features(cli):
    for feature in (0x01, 0x02, 0x04, 0x07, 0x08, 0x09, 0x0A, 0x0B):
        cli.run(f"get-feature {cli.controller} -f {feature:#x}")
    cli.run(f"get-feature {cli.controller} -n 1 -f 5")
    cli.refused(f"get-feature {cli.controller} -f 0x3f", "Invalid Field")


def feature(cli, number):
    """The current value."""
    output = cli.run(f"get-feature {cli.controller} -f {number:#x}")
    return int(output.rsplit(":", 1)[1], 16)


def set_features(cli):
    for value in (350, 340):
        cli.run(f"set-feature {cli.controller} -f 4 -V {value}")
        check(feature(cli, 4) == value, f"the temperature threshold is {feature(cli, 4)}")
    if cli.id_ctrl["vwc"] & 1:
        for value in (0, 1):
            cli.run(f"set-feature {cli.controller} -f 6 -V {value}")
            check(feature(cli, 6) == value, "the volatile write cache does not follow")
    cli.refused(f"set-feature {cli.controller} -f 0x3f -V 1", "Invalid Field")


def unknown_commands_are_refused(cli):
    cli.refused(f"admin-passthru {cli.controller} --opcode=0x7f", "Invalid Command Opcode")
    cli.refused(
        f"io-passthru {cli.namespace} --opcode=0x7f --namespace-id=1", "Invalid Command Opcode"
    )


def out_of_range_is_refused(cli):
    sectors = os.path.getsize(cli.disk.device.file) // 512
    for first in (sectors, sectors - 7, (1 << 64) - 4):
        cli.refused(f"read {cli.namespace} -s {first} -c 7 -z 4096 -d /tmp/out", "LBA Out of Range")


def compare(cli):
    cli.disk.write(0, "yes | head -c 4096")
    cli.guest.run(
        "yes | head -c 4096 >/tmp/same; (head -c 4095 /tmp/same; printf x) >/tmp/different"
    )
    arguments = f"compare {cli.namespace} -s 0 -c 7 -z 4096 -d /tmp/"
    if cli.optional("oncs", ONCS_COMPARE, arguments + "same"):
        cli.run(arguments + "same")
        cli.refused(arguments + "different", "Compare Failure")


def write_zeroes(cli):
    cli.disk.write(0, "yes | head -c 65536")
    arguments = f"write-zeroes {cli.namespace} -s 8 -c 7"
    if cli.optional("oncs", ONCS_WRITE_ZEROES, arguments):
        cli.run(arguments)
        expected = cli.hash_of("yes | head -c 4096; head -c 4096 /dev/zero; yes | head -c 57344")
        check(
            cli.bytes(0, 65536) == expected, "not the 4096 bytes at 4096, and only them, are zero"
        )


def dataset_management(cli):
    cli.disk.write(0, "yes | head -c 65536")
    arguments = f"dsm {cli.namespace} -d -s 8,32 -b 8,16"
    if cli.optional("oncs", ONCS_DATASET_MANAGEMENT, arguments):
        cli.run(arguments)
        left = cli.hash_of("yes | head -c 8192")
        check(cli.bytes(8192, 8192) == left, "what was not deallocated has changed")


def write_uncorrectable(cli):
    arguments = f"write-uncor {cli.namespace} -s 64 -c 7"
    if cli.optional("oncs", ONCS_WRITE_UNCORRECTABLE, arguments):
        cli.run(arguments)
        read = f"read {cli.namespace} -s 64 -c 7 -z 4096 -d /tmp/out"
        cli.refused(read, "Unrecovered Read Error")
        cli.disk.write(64 * 512, "yes | head -c 4096")
        cli.run(read)


def verify(cli):
    arguments = f"verify {cli.namespace} -s 0 -c 7"
    if cli.optional("oncs", ONCS_VERIFY, arguments):
        cli.run(arguments)


def copy(cli):
    cli.disk.write(0, "yes | head -c 65536; head -c 65536 /dev/zero")
    arguments = f"copy {cli.namespace} -d 128 -s 0,16 -b 7,15"
    if cli.optional("oncs", ONCS_COPY, arguments):
        cli.run(arguments)
        expected = cli.hash_of("yes | head -c 12288; head -c 4096 /dev/zero")
        check(cli.bytes(65536, 16384) == expected, "the copy is another one")


def flush(cli):
    cli.run(f"flush {cli.namespace}")


def reset(cli):
    for _ in range(3):
        cli.run(f"reset {cli.controller}")
        cli.disk.verify("--rw=randwrite --bs=4k --iodepth=16 --size=1m")


def format_erases(cli):
    cli.disk.write(0, "yes | head -c 65536")
    arguments = f"format {cli.namespace} --ses=1 --force"
    if cli.optional("oacs", OACS_FORMAT, arguments):
        before = cli.bytes(0, 65536)
        cli.run(arguments)
        cli.disk.find()
        check(cli.bytes(0, 65536) != before, "the user's data is still there")
        cli.disk.verify("--rw=randwrite --bs=4k --iodepth=16 --size=1m")


def format_changes_the_block_size(cli):
    if not cli.id_ctrl["oacs"] & OACS_FORMAT:
        raise Skip("the controller cannot format")
    formats = cli.json(f"id-ns {cli.namespace}")["lbafs"]
    plain = {entry["ds"]: number for number, entry in enumerate(formats) if entry["ms"] == 0}
    if 9 not in plain or 12 not in plain:
        raise Skip("the namespace has one block size")
    for shift in (12, 9):
        cli.run(f"format {cli.namespace} --lbaf={plain[shift]} --force")
        cli.disk.find()
        size = cli.guest.run(f"blockdev --getss {cli.namespace}")
        check(int(size) == 1 << shift, f"the block size is {size}")
        cli.disk.verify("--rw=randwrite --bs=4k --iodepth=16 --size=1m")


GROUPS = [
    (
        guest_with_disk,
        [
            identify_controller,
            identify_namespace,
            list_namespaces,
            smart_log_counts,
            error_log,
            firmware_log,
            get_features,
            set_features,
            unknown_commands_are_refused,
            out_of_range_is_refused,
            compare,
            write_zeroes,
            dataset_management,
            write_uncorrectable,
            verify,
            copy,
            flush,
            reset,
            format_erases,
            format_changes_the_block_size,
        ],
    ),
]
