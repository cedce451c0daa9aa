"""A disk that fills up, under the files of a journal."""

from __future__ import annotations

import errno
import os
from io import FileIO
from typing import Any


class SmallDisk(FileIO):
    """Takes what there is ``room`` for, in bytes of all files together, and refuses the rest."""

    room = 1 << 30

    def write(self, data: Any) -> int:
        taken = bytes(data)[: SmallDisk.room]
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        SmallDisk.room -= len(taken)
        return super().write(taken)
