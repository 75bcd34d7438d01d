"""Greets: {"name": "Ada"} becomes {"greeting": "Hello, Ada!"}."""

import json

from wit_world import exports


class Handler(exports.Handler):
    def run(self, input: str) -> str:
        name = (json.loads(input) or {}).get("name", "world")
        print(f"greeting {name}")
        return json.dumps({"greeting": f"Hello, {name}!"})
