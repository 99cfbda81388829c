"""What `dpt depth` and `dpt segment` share."""
