"""Has handlers in five other languages add up a table, and puts their results together.

{"path": "/data/penguins.csv"} becomes {"language": "Python", "batch": "...", "opened": ..., "started": ...,
"ended": ..., "parts": [...]}.
"""

import json
import time
import uuid

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import steps, tasks
from wit_world.imports.types import Failure, Status

PARTS = {
    "Island": "summarise-c",
    "Sex": "summarise-go",
    "Species": "summarise-js",
    "Stage": "summarise-rust",
    "studyName": "summarise-ts",
}


class Handler(exports.Handler):
    def run(self, input: str) -> str:
        path = json.loads(input)["path"]
        opened = step("open", now_ms)
        # The same after a wait, though all of this may have been run again for that.
        batch, started = str(uuid.uuid4()), now_ms()
        common = {"path": path, "batch": batch, "at": started, "opened": opened}
        ids = [
            tasks.spawn(handler, json.dumps({**common, "by": by}), None).id
            for by, handler in PARTS.items()
        ]
        outcomes = tasks.wait_all(ids, None)
        for outcome in outcomes:
            if outcome.status != Status.COMPLETED:
                message = f"{outcome.handler} did not complete"
                raise Err(Failure(message=message, retryable=False, details=None))
        return json.dumps({
            "language": "Python",
            "batch": batch,
            "opened": opened,
            "started": started,
            "ended": now_ms(),
            "parts": [json.loads(outcome.output) for outcome in outcomes],
        })


def step(name, work):
    """A part of the handler that runs once: a replay or a later attempt reads the recorded value."""
    value = steps.begin(name)
    if value is None:
        value = json.dumps(work())
        steps.complete(name, value)
    return json.loads(value)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
