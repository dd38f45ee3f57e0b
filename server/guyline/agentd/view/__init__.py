"""Output as a person or a model wants to see it: bytes in, bytes out, without files, clocks and the wire."""
