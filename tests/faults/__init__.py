"""Faults on purpose: what must hold when a process is killed, a bit flips or an input lies."""
