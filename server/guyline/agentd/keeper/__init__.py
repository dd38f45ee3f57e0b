"""The keeper: the agent's first process, which spawns every command and outlives everything else of the agent.

Standard library only, one thread, no gRPC: what is not here cannot crash it. All the rest is the worker, which the
keeper starts, restarts, and hands every descriptor and exit to.
"""
