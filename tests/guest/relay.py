"""A unix socket whose bytes are passed on to another one, until they shall not be."""

import contextlib
import select
import socket
import threading

from guest import Work


class Relay:
    """
    One connection to PATH, passed on to TARGET, with all that comes back. BUSY: nobody is let in.
    """

    def __init__(self, target, busy=False):
        self.target = target
        self.path = Work.file("relay")
        self.held = False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(0)
        self.ends = []
        if busy:
            # The queue has room for one: who comes next waits.
            self.ends.append(socket.socket(socket.AF_UNIX))
            self.ends[0].connect(self.path)
        else:
            threading.Thread(target=self._relay, daemon=True).start()

    def hold(self):
        """Takes nothing more, so that who sends has to wait."""
        self.held = True

    def _relay(self):
        with contextlib.suppress(OSError):
            near, _ = self.listener.accept()
            far = socket.socket(socket.AF_UNIX)
            self.ends += [near, far]
            far.connect(self.target)
            while True:
                # What comes is looked for so often, that a hold is heard.
                for end in select.select([far] if self.held else [near, far], [], [], 0.05)[0]:
                    received = end.recv(1 << 18)
                    if not received:
                        return self.close()
                    (far if end is near else near).sendall(received)
        return self.close()

    def close(self):
        for end in [self.listener, *self.ends]:
            # Wakes who waits for it.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
