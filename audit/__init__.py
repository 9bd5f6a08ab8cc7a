"""Jobs, attempts and holds: what is to be done, and the record of what was done."""
