"""What a model is asked to be good at, how that is scored, and what stands beside it."""
