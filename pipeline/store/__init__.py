"""What lies on disk between two stages: a typed handle for each kind of artifact.

A handle has one writer and one reader, so producer and consumer can't drift apart: ``Tokens.open(path)`` has verified
every file of the directory and has its facts as attributes.
"""
