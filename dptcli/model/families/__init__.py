"""The families of models beyond DPT itself, a folder each."""
