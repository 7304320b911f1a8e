"""Measuring codecs and checkpoints."""
