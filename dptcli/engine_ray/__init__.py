"""A Ray cluster in place of the loop: the same stages in many processes, the same results.

    reading tasks (CPU)      actors, one model each (GPU or CPUs)      writing tasks (CPU)
    decode, preprocess  ->   bucket by shape -> network           ->   crop, resize back, write

Ray Data streams images from stage to stage, holds a stage back where the next one is behind, and
does again what a lost worker had under way: results are written whole or not at all, so doing one
twice is harmless. Each process runs Pipeline's own methods.
"""

from dptcli.running.machine import brief_waits

# A cluster's processes have the environment of `ray start` and come here first, by the name of what
# they are to run; its module imports torch.
brief_waits()
