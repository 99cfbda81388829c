"""What a run leaves: names, files, pictures, what they say of themselves, and back to numbers."""
