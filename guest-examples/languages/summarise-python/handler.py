"""Adds up the body masses of a table by one of its columns.

{"path": "/data/penguins.csv", "by": "Island"} becomes {"language": "Python", "by": "Island", "rows": 344,
"groups": [{"name": "Biscoe", "count": 167, "sum": 787575, "min": 2850, "max": 6300}, ...]}.
"""

import csv
import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import Failure


class Handler(exports.Handler):
    def run(self, input: str) -> str:
        asked = json.loads(input)
        try:
            return json.dumps(summarise(asked["path"], asked["by"]), separators=(",", ":"))
        except (OSError, KeyError) as error:
            # Another attempt would meet it again.
            message = f"{asked.get('path')}: {error!r}"
            raise Err(Failure(message=message, retryable=False, details=None))


def summarise(path: str, by: str) -> dict:
    rows, groups = 0, {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows += 1
            if (mass := row["Body Mass (g)"]) != "NA":
                groups.setdefault(row[by], []).append(int(mass))
    return {
        "language": "Python",
        "by": by,
        "rows": rows,
        "groups": [
            {"name": name, "count": len(masses), "sum": sum(masses), "min": min(masses), "max": max(masses)}
            for name, masses in sorted(groups.items())
        ],
    }
