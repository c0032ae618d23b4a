"""This computer: what it computes, what it offers, and what a model will take on it."""
