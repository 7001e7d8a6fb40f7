"""Results of a long benchmark's parts, in a file of JSON lines, so that an interrupted one goes on."""

import json
from pathlib import Path

__all__ = ["Kept"]


class Kept:
    """The results that are there, and where new ones go.

    Parameters
    ----------
    path : Path or None
        None: nothing is kept.
    about : anything that JSON can write
        Results of other settings are left alone.
    """

    def __init__(self, path: Path | None, about=None):
        self.path, self.about = path, json.loads(json.dumps(about))
        self.results = []
        if path is not None and path.exists():
            lines = map(json.loads, path.read_text().splitlines())
            self.results = [line["result"] for line in lines if line["about"] == self.about]

    def add(self, result) -> None:
        """Take in what another part gave."""
        self.results.append(result)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"about": self.about, "result": result}) + "\n")
