"""`dpt bench`: how fast the loop is here, stage by stage, and against other runtimes."""
