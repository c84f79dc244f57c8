"""A virtual machine that moves from one QEMU to another, each under a `uvfio run` of its own."""

import contextlib
import json
import subprocess

from failures import COMMAND_TIMEOUT, check, wait_until
from guest import MIB, UVFIO, Guest, Served, Work, start
from relay import Relay

# The source waits for as much to be left as it can send in so many milliseconds.
DOWNTIME_LIMIT = 50
# Bytes in a second at which a machine's memory isn't sent before a test has done what it does.
SLOW = 4 * MIB
MEMORY = 256

# What a guest's kernel says of devices that don't do as they should.
COMPLAINTS = ("timeout", "I/O error", "AER", "resetting controller", "critical", "elf-test", "BUG:")


class Place:
    """
    Where a machine can be: a QEMU whose devices its own supervisor offers. DEVICES are Offered,
    OTHERS are QEMU's own, and what is SERVED is in processes of their own, in which those find it.
    With an AGENT it waits for the machine to come.
    """

    def __init__(self, devices, others=(), served=(), agent=None, **options):
        self.devices = devices
        self.served = []
        self.control = Work.file("control")
        words = [UVFIO, "run", "--control", self.control]
        for device in devices:
            words += ["--device", device.spec()]
        options = {"memory": MEMORY, "under": [*words, "--"] if devices else (), **options}
        options["devices"] = [*devices, *others]
        try:
            for device in served:
                self.served.append(Served([device]))
            self.guest = Guest(agent=agent, **options) if agent else start(**options)
        except BaseException:
            self.kill_served()
            raise

    def inject(self, device, fault):
        """Into DEVICE, in the process that it is in."""
        for served in self.served:
            if device.device in served.devices:
                self._ctl([served.control, "inject", fault])
                return
        self._ctl([self.control, "inject", f"{fault},device={device.host}"])

    def clear(self):
        for control in [self.control, *[served.control for served in self.served]]:
            self._ctl([control, "clear"])

    def calls(self):
        """How often QEMU has made which call on VFIO."""
        rows = json.loads(self._ctl([self.control, "stats", "--json"]))
        return {row["call"]: row["count"] for row in rows}

    @staticmethod
    def _ctl(words):
        return subprocess.run(
            [UVFIO, "ctl", *words],
            check=True,
            timeout=COMMAND_TIMEOUT,
            stdout=subprocess.PIPE,
        ).stdout

    def quit(self):
        """In order, when the machine isn't there any more."""
        self.guest.quit()
        for served in self.served:
            served.stop()

    def kill_served(self):
        for served in self.served:
            served.kill()

    def kill(self):
        self.guest.kill()
        self.kill_served()

    @property
    def qmp(self):
        return self.guest.qmp

    @property
    def status(self):
        """Of the migration from here."""
        return self.qmp("query-migrate").get("status", "none")


class Machine:
    """
    PLACE(incoming) makes a Place's devices and options, by the arguments that Place has.
    """

    def __init__(self, place, **capabilities):
        self.make = place
        self.capabilities = [
            {"capability": name.replace("_", "-"), "state": state}
            for name, state in capabilities.items()
        ]
        self.places = []
        self.place = self.add()
        # What is said from now on is about what moves.
        self.run("dmesg -c >/dev/null")

    def add(self, make=None):
        agent = self.places and self.place.guest.agent or None
        place = Place(agent=agent, **(make or self.make)(bool(agent)))
        self.places.append(place)
        return place

    @property
    def guest(self):
        return self.place.guest

    def run(self, text):
        return self.guest.run(text)

    def begin(self, to, bandwidth=0, limit=DOWNTIME_LIMIT, busy=None):
        """
        Starts to move, at so many bytes in a second (0: all that go). With LIMIT 0 it doesn't come
        to its end before complete(): a device always has something to say then. With BUSY it goes
        by a Relay, which is or isn't busy.
        """
        socket = Work.file("migration")
        # Whatever was said to the guest has reached it.
        self.run("true")
        self.place.qmp("migrate-set-capabilities", capabilities=self.capabilities)
        self.place.qmp(
            "migrate-set-parameters",
            **{"downtime-limit": limit, "max-bandwidth": bandwidth},
        )
        to.qmp("migrate-set-capabilities", capabilities=self.capabilities)
        to.qmp("migrate-incoming", uri=f"unix:{socket}")
        if busy is not None:
            self.relay = Relay(socket, busy)
            socket = self.relay.path
        self.place.guest.events = []
        self.place.qmp("migrate", uri=f"unix:{socket}")

    def wait_for_pass(self, count):
        """Until all memory was sent, and COUNT - 1 times what changed meanwhile."""
        wait_until(
            lambda: self.place.qmp("query-migrate").get("ram", {}).get("dirty-sync-count", 0)
            > count,
            f"pass {count} over the memory",
        )

    def complete(self):
        """What was begun may come to its end."""
        self.place.qmp(
            "migrate-set-parameters", **{"downtime-limit": DOWNTIME_LIMIT, "max-bandwidth": 0}
        )

    def wait_for(self, *statuses):
        """Until the migration is in one of these."""
        known = {"completed", "failed", "cancelled", *statuses}
        status = wait_until(
            lambda: (now := self.place.status) in known and now,
            f"the migration to be {' or '.join(statuses)}",
        )
        check(status in statuses, f"the migration is {status}: {self.failure()}")

    def failure(self):
        return self.place.qmp("query-migrate").get("error-desc", "no reason")

    def arrive(self, to):
        """What was begun has completed: the machine is at TO, and runs. Gives QEMU's figures."""
        self.wait_for("completed")
        figures = self.place.qmp("query-migrate")
        self.guest.agent.use(to.guest.line)
        wait_until(lambda: to.qmp("query-status")["status"] == "running", "the destination to run")
        self.place, self.source = to, self.place
        self.run("true")
        return figures

    def leave(self):
        """The source, which has nothing any more, ends."""
        self.source.quit()

    def move(self, to=None):
        to = to or self.add()
        self.begin(to)
        figures = self.arrive(to)
        self.leave()
        return figures

    def go_back(self):
        """
        The destination, to which it has moved, is gone. So the source goes on where it was.
        """
        self.place.kill()
        self.place = self.source
        self.guest.agent.use(self.guest.line)
        self.guest.qmp("cont")
        self.run("true")

    def check_log(self):
        for line in self.run("dmesg").splitlines():
            check(not any(word in line for word in COMPLAINTS), line)

    def end(self):
        for place in self.places:
            place.kill()


@contextlib.contextmanager
def machine(place, **capabilities):
    moving = Machine(place, **capabilities)
    try:
        yield moving
        moving.guest.power_off()
    except BaseException:
        moving.guest.keep_kernel_log()
        raise
    finally:
        moving.end()
