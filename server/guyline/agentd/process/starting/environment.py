"""The environment of a command."""

from collections.abc import Callable, Mapping

from guyline.daemon.logging import get_logger

CHAT_ID = "CODER_CHAT_ID"
"""Tells helpers of the command (askpass, for one) for which chat it runs."""

log = get_logger("environment")

Hook = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Makes the agent-level environment from the agent's own. May fail, as long as the agent knows too little."""


class Environment:
    """Puts environments together: the agent's own through a hook, then the request's, then the chat's id."""

    def __init__(self, own: Mapping[str, str], *, hook: Hook) -> None:
        self._own = dict(own)
        self._hook = hook

    def for_command(self, requested: Mapping[str, str], chat_id: str | None) -> dict[str, str]:
        """Of the same name the later one counts; the chat's id always does."""
        env = {**self._base(), **requested}
        if chat_id:
            env[CHAT_ID] = chat_id
        return env

    def _base(self) -> Mapping[str, str]:
        try:
            return self._hook(self._own)
        except Exception:  # whatever the hook lacks, a command runs with the agent's own environment
            log.warning("the environment hook failed; using the agent's own environment", exc_info=True)
            return self._own
