"""What lies between the shell and every command: its words, its signals, what is said to it."""
