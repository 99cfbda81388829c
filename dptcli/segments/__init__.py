"""Classes as files: masks, pictures, legends, regions for labelling tools."""
