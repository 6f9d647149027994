"""How fast melssl is, each figure beside what the obvious way reaches in the same run."""
