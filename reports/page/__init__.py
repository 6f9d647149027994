"""A study as one HTML page that opens from disk: figures to hover over, tables to sort."""
