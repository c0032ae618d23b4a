"""Tuning a part of a model: low-rank matrices beside frozen ones, or the last blocks, and `peft`'s files of it."""
