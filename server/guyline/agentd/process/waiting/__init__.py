"""Waiting for the first of several things: an exit, a line of output, a port, a file."""
