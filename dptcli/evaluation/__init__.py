"""Measuring models on photographs with known answers."""
