"""Flows: deliveries through the real view, real sockets to the sandbox, whole states compared."""
