"""`dpt bench`: how fast the loop is here, stage by stage, and against other runtimes."""

NUM_MADE = 8
"""Photographs that are made where none are given."""
