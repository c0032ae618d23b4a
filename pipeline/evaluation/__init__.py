"""How good a language model is on held-out text, and how that is shown."""
