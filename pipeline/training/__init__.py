"""A training under a stage: its loop, its saved states, its curve, its progress."""
