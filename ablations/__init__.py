"""The harness: factors x folds x draws x seeds become trials, stages and a table."""
