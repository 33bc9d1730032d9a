"""The speed of the link to trading servers."""
