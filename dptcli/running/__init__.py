"""The network on batches, tiles and jobs of a run, on this machine."""
