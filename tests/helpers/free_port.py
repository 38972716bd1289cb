"""A port for a server that cannot choose one itself."""

import socket


def free_port(address: str) -> int:
    """A port of this machine's `address` that nothing listens at now."""
    with socket.socket() as server:
        server.bind((address, 0))
        return server.getsockname()[1]
