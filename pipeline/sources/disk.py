"""``file://PATH``: one file on this machine; a relative path starts at the project."""

import shutil

from gptcore.errors import DataError
from pipeline import project
from pipeline.sources.order import Order


def from_disk(order: Order) -> None:
    path = project.root() / order.uri.removeprefix("file://")
    if not path.is_file():
        raise DataError(f"{order.uri}: expected a file at {path}, found none; put it there or correct the address")
    order.refuse_size(path.stat().st_size)
    shutil.copyfile(path, order.part)
