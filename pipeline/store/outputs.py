"""Artifacts that no stage reads: evaluations and exports."""

from pipeline.store.artifact import Artifact


class Evaluation(Artifact):
    KIND = "evaluation"


class Export(Artifact):
    KIND = "export"
