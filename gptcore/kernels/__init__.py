"""The arithmetic of training and prompts that is worth an implementation of its own: attention and the loss."""
