"""What `speed.py` measures: each part returns a table, and figures by the names of its goals."""

Found = tuple[list[str], dict[str, float]]
