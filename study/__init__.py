"""Studies one starts by hand."""
