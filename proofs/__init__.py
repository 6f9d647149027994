"""Long proofs by simulation and by measurement: each module is a command that prints a table."""
