"""What holds for every test: no example is timed, and continuous integration tries the same each time."""

from __future__ import annotations

import os

from hypothesis import settings

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("usual", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "usual")
