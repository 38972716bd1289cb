"""A TCP port that leads to another one, and can be cut and mended."""

import contextlib
import socket
import threading


class Cable:
    """Leads to `address`, "host:port". While it is cut, nothing listens on its own port.

    Args:
        own: host address of its own port.

    Attributes:
        address: of its own port.
    """

    def __init__(self, address: str, own: str = "127.0.0.1"):
        host, port = address.split(":")
        self._own = own
        self._target, self._port = (host, int(port)), 0
        self._open: list[socket.socket] = []
        self.mend()
        self.address = f"{own}:{self._port}"

    def mend(self) -> None:
        self._server = socket.create_server((self._own, self._port))  # with SO_REUSEADDR
        self._port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._server], daemon=True).start()

    def cut(self) -> None:
        """Refuses connections from now on, and ends those that exist."""
        for each in (self._server, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._open += [near, far]
            threading.Thread(target=self._lead, args=[near, far], daemon=True).start()

    def _lead(self, near: socket.socket, far: socket.socket) -> None:
        """Copies in both directions, and closes the two sockets when both have come to their end."""
        back = threading.Thread(target=_copy, args=[far, near], daemon=True)
        back.start()
        _copy(near, far)
        back.join()
        for each in (near, far):
            each.close()
            with contextlib.suppress(ValueError):  # cut
                self._open.remove(each)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
