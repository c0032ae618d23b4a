"""The faults that are done to the project, a module a kind."""
