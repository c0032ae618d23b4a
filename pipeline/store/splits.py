"""The parts of every set of data: choices are made on val, results are reported on test."""

SPLITS = ("train", "val", "test")
