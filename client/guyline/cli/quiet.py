"""How gRPC behaves inside this command, said before it is imported."""

import os
from collections.abc import Mapping

_SETTINGS = {
    "GRPC_VERBOSITY": "NONE",  # it prints troubles with connections on standard error, which are not the user's
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # nothing here forks and calls on
}


def quieten_grpc() -> None:
    """Puts the settings into the environment, where gRPC looks for them; the user's own come first."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def environment_to_pass_on() -> Mapping[str, str]:
    """The environment without these settings: an agent passes its own on to every command that it starts."""
    return {name: value for name, value in os.environ.items() if _SETTINGS.get(name) != value}
