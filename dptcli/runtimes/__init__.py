"""The network by another runtime than PyTorch: the graph of `dpt export`, compiled and cached.

All else of a run is the same: what reads, cuts, resizes and writes never asks which runtime ran.
"""
