"""The account of a run: what was made of what, where it goes on, and its report."""
