"""Handing in: the folder that the Parameter Golf challenge expects, written and checked."""
