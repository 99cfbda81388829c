"""The same functions as `model/`, cheaper; what only predicts."""
