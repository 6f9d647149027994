"""The leak audit: which files show one picture, which ids hide one patient."""
