"""What `dpt depth` and `dpt segment` share: a run is a request, what it writes, where it runs.

The command reads a Request and an Engine from its options, makes RunOutputs, and calls `run`, which
does photographs itself and hands clips to `run_clip`.
"""
