"""Reading and writing files that may be hostile, large or interrupted; knows nothing of models or scenes."""
