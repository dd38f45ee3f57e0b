"""Telling the service manager that started the agent how it stands: sd_notify(3), without a library."""

import contextlib
import os
import socket

_VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """systemd, if it waits to be told (``Type=notify``); otherwise nobody is."""

    def __init__(self) -> None:
        """Takes the address out of the environment: it is for this process, not for the commands."""
        self._address = os.environ.pop(_VARIABLE, "")

    def ready(self) -> None:
        """The agent serves."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The agent ends."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # It may have gone away, or be busy; neither is a reason to stop, or to wait.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to,
        ):
            to.sendto(state.encode(), address)
