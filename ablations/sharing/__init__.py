"""An encoder of a study as others may use it, with a card that says what it is."""
