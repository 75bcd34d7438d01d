"""Calls something of each interface of fishway:task 0.1.

{"parts": [1, 2]} becomes {"phase": "report", "kept": [1, 2], "before": {...}}.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import checkpoints, context, pools, signals, tasks, workflows
from wit_world.imports.types import Error_UnknownTask, Status

DEFINITION = {
    "name": "both",
    "jobs": [
        {"key": "first", "handler": "echo"},
        {"key": "second", "handler": "echo", "dependsOn": ["first"]},
    ],
}


class Handler(exports.Handler):
    def run(self, input: str) -> str:
        asked = json.loads(input)
        info = context.current()
        print(f"phase {info.phase}")
        if info.phase == "report":
            kept = checkpoints.load("parts")
            return json.dumps({"phase": info.phase, "kept": json.loads(kept), "before": asked})
        ids = [tasks.spawn("echo", json.dumps(part), None) for part in asked["parts"]]
        outcomes = tasks.wait_all(ids, None)
        assert all(outcome.status == Status.COMPLETED for outcome in outcomes)
        checkpoints.save("parts", json.dumps([json.loads(outcome.output) for outcome in outcomes]))
        signals.send(info.id, "go", json.dumps("on"))
        tasks.sleep(1)
        go = signals.receive("go", None)
        pools.open("pool", None)
        pools.spawn("pool", "echo", "7", None)
        pool = pools.wait("pool", None)
        made = workflows.run(json.dumps(DEFINITION), None)
        jobs = tasks.wait_all([made.id], None)
        try:
            tasks.get("nobody")
            refused = None
        except Err as error:
            refused = isinstance(error.value, Error_UnknownTask)
        context.next_phase("report", [], None)
        return json.dumps({
            "go": json.loads(go),
            "in_pool": pool.completed,
            "workflow": jobs[0].status == Status.COMPLETED,
            "refused": refused,
        })
