"""Using a model: text from it, token by token, and matrices laid out or narrowed for that."""
