"""Clips and numbered images: read, held steady, written."""
