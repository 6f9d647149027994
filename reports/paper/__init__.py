"""The paper: sentences that follow the statistics, sections around them, a check of the result."""
