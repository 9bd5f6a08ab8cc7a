"""The bench: what the product costs in calls, statements, seconds and memory, measured against the sandbox."""
