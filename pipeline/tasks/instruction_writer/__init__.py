"""Writes the instruction data set; no stage runs it, for its file is in git."""
