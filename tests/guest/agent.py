"""The agent in a guest, which runs commands (see init), whichever QEMU the guest is in."""

import base64
import contextlib
import itertools
import queue
import select
import socket
import threading

from failures import COMMAND_TIMEOUT, Failure, Lost


class Command:
    """A command that runs in the guest."""

    def __init__(self, text):
        self.text = text
        self.end = threading.Event()
        self.status = None
        self.output = ""

    @property
    def done(self):
        return self.end.is_set()

    def wait(self, timeout=COMMAND_TIMEOUT):
        """(status, output), when it has ended."""
        if not self.end.wait(timeout):
            raise Lost(f"after {timeout} s in the guest still: {self.text}")
        if self.status is None:
            raise Lost(f"the guest went away during: {self.text}")
        return self.status, self.output


class Agent:
    """
    A guest that moves has a line to each QEMU that it can be in. Commands are given to the one
    that it is in. Answers are read from all, the oldest first: what the guest has said before it
    moved is on the old line, and can be the beginning of an answer whose end is on the new one.
    """

    def __init__(self):
        self.commands = {}
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.readies = queue.Queue()
        self.gone = False
        self.lines = []
        self.line = None
        self.bytes = b""
        self.waker, self.woken = socket.socketpair()
        threading.Thread(target=self._read, daemon=True).start()

    def add(self, line):
        with self.lock:
            self.lines.append(line)
        self.waker.sendall(b"x")

    def use(self, line):
        """The guest is now in the QEMU at the other end of LINE."""
        with self.lock:
            self.line = line
            self.gone = False

    def remove(self, line):
        """As if the QEMU at its end had ended."""
        # Wakes the reading thread, which a close alone does not.
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    def _read(self):
        while True:
            with self.lock:
                lines = list(self.lines)
            poll = select.poll()
            for line in [self.woken, *lines]:
                poll.register(line, select.POLLIN)
            ready = [number for number, _ in poll.poll()]
            if self.woken.fileno() in ready:
                self.woken.recv(64)
            for line in lines:
                if line.fileno() in ready:
                    self._read_line(line)
                    # An older one may have become ready meanwhile.
                    break

    def _read_line(self, line):
        try:
            received = line.recv(1 << 16)
        except OSError:
            received = b""
        self.bytes += received
        while self._take_message():
            pass
        if received:
            return
        with self.lock:
            self.lines.remove(line)
            if line is self.line:
                self.gone = True
                self._lose_commands()
        line.close()

    def _take_message(self):
        """Whether there was a whole one."""
        first, newline, rest = self.bytes.partition(b"\n")
        words = first.split()
        if not newline:
            return False
        if len(words) == 4 and words[0] == b"R":
            size = int(words[3])
            if len(rest) < size:
                return False
            command = self.commands.pop(int(words[1]), None)
            if command:
                command.output = rest[:size].decode(errors="replace")
                command.status = int(words[2])
                command.end.set()
            rest = rest[size:]
        elif words == [b"READY"]:
            self.readies.put(True)
        self.bytes = rest
        return True

    def _lose_commands(self):
        for command in self.commands.values():
            command.end.set()
        self.commands.clear()
        self.readies.put(False)

    def forget_commands(self):
        """The guest starts again."""
        with self.lock:
            self.commands.clear()

    def spawn(self, text):
        """Starts a shell command; its .wait() gives (status, output)."""
        command = Command(text)
        number = next(self.numbers)
        with self.lock:
            if self.gone:
                raise Lost("QEMU has ended")
            self.commands[number] = command
            self.line.sendall(b"%d %s\n" % (number, base64.b64encode(text.encode())))
        return command

    def sh(self, text, timeout=COMMAND_TIMEOUT):
        """Runs a shell command in the guest and returns (status, output)."""
        return self.spawn(text).wait(timeout)

    def run(self, text, timeout=COMMAND_TIMEOUT):
        """Runs a command that must succeed, and returns its output without the last newline."""
        status, output = self.sh(text, timeout)
        if status != 0:
            raise Failure(f"status {status} from: {text}\n{output}")
        return output.rstrip("\n")
