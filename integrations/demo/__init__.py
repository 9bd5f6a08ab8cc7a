"""The demonstration: the whole product against the sandbox, on one machine, playing one story."""
