"""Artifacts read, compared, rehearsed and run: what is in them, whether it is whole, and whether it does what it should."""
