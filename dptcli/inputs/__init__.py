"""Finding images, reading lists of them, decoding them, and knowing them by their content."""
