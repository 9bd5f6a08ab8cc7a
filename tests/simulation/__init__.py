"""The deterministic simulation: production code in virtual time, under faults that a seed draws, with its promises watched."""
