"""The ``guyline`` command."""
