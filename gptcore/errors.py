"""The errors a user can cause or meet, each with its exit code.

A message names the file or parameter, what was expected, what was found and what to do; the command line
prints the message alone, without a traceback.  The codes are those of BSD's sysexits.h, so that a shell
script can tell a typing error from a full disk.  Anything that is not one of these is a bug in this
project and keeps its traceback.
"""

from collections.abc import Iterable


class GPTCoreError(Exception):
    """Base of all errors that are reported without a traceback."""

    exit_code = 1


class ParameterError(GPTCoreError):
    """A parameter is unknown, missing, of the wrong type or out of range."""

    exit_code = 64


class DataError(GPTCoreError):
    """A file is missing, damaged, foreign, empty or undecodable."""

    exit_code = 65


class SourceUnavailableError(GPTCoreError):
    """A remote source did not answer, or not with what was asked for."""

    exit_code = 69


class NonFiniteLossError(GPTCoreError):
    """The loss, a gradient or a weight became infinite or not a number."""

    exit_code = 70

    def __init__(self, message: str, batches: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.batches = tuple(batches)
        """Numbers of the batches, counted from the training's first, that led to it; empty where that isn't known."""


class DiskError(GPTCoreError):
    """The disk is full or a path can't be written."""

    exit_code = 74


class BusyError(GPTCoreError):
    """Another process is doing this very work."""

    exit_code = 75
