"""Depth as files: for the eye, for programs, in space, in metres."""
