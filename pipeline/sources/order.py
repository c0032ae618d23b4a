"""One file to get: its address, the hash it must have, and the limits that hold for all ways of getting it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gptcore.artifact import sha256_file
from gptcore.errors import DataError, SourceUnavailableError

MAX_BYTES = 4 << 30
"""No single file is larger: a server that never stops sending must not fill the disk."""
CHUNK_BYTES = 1 << 16
"""An interrupted answer loses at most this much; the rest is resumed."""


@dataclass(frozen=True)
class Order:
    """One file to get: ``part`` is where its bytes go until they are verified."""

    uri: str
    sha256: str
    cache: Path
    max_bytes: int

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.uri.rpartition("/")[2]

    @property
    def part(self) -> Path:
        return self.cache / f"{self.sha256}.part"

    def part_is_right(self) -> bool:
        return self.part.exists() and sha256_file(self.part) == self.sha256

    def refuse_size(self, size: int) -> None:
        if size > self.max_bytes:
            self.part.unlink(missing_ok=True)
            raise DataError(f"{self.uri}: expected at most {self.max_bytes} bytes, found {size} or more; refused")

    def unavailable(self, reason: str, remedy: str) -> SourceUnavailableError:
        return SourceUnavailableError(
            f"{self.uri}: {reason}; {remedy}, or put the file by hand at {self.cache / self.sha256}; "
            "then run the same command again"
        )


def offline() -> bool:
    """Whether ``GPTCORE_OFFLINE`` forbids the network: only what is cached counts."""
    return os.environ.get("GPTCORE_OFFLINE", "").lower() not in ("", "0", "false", "no")


def note(text: str) -> None:
    """Tell the user what takes time; standard output stays free for results."""
    print(f"download: {text}", file=sys.stderr, flush=True)


def require_network(order: Order) -> None:
    if offline():
        raise order.unavailable("not in the cache, and GPTCORE_OFFLINE forbids the network", "unset GPTCORE_OFFLINE")
