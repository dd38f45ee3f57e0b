"""Having a process forgotten, whatever becomes of the agent's answer."""

from guyline.client.agent import AsyncAgent
from guyline.client.errors import AgentUnreachable, Outcome, ProcessNotFound

_TRIES = 3
"""How often it is asked for if the answer is lost. Before each but the first the agent has answered again."""


async def remove(agent: AsyncAgent, process_id: str) -> None:
    """Has it forgotten. If the answer is lost it asks again, which harms nothing: what is unknown then is forgotten.

    Raises:
        GuylineError: As ``AsyncAgent.remove`` does.
    """
    tries = _TRIES
    while True:
        tries -= 1
        try:
            await agent.remove(process_id)
        except AgentUnreachable as error:
            if error.outcome is not Outcome.MAY_HAVE_RUN or not tries:
                raise
        except ProcessNotFound:
            if tries == _TRIES - 1:
                raise
            return
        else:
            return
