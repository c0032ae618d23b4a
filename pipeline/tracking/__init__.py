"""Views of a run for people who compare runs: spooled by the stage, delivered by somebody else, never waited for."""
