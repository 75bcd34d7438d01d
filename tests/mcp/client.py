"""A client of the official SDK, led by whoever writes to its standard input.

Each line is an object: {"call": NAME, "arguments": {...}} calls a tool, {"list": true} lists them. Each gives
a line in answer. The SDK itself holds each answer against the schema that the tool has told.
"""

import asyncio
import json
import sys
from datetime import timedelta

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def answer(session, asked):
    if "list" in asked:
        tools = (await session.list_tools()).tools
        return [tool.model_dump(mode="json", exclude_none=True) for tool in tools]
    told = []

    async def tell(progress, total, message):
        told.append([progress, total, message])

    result = await session.call_tool(
        asked["call"],
        asked.get("arguments", {}),
        read_timeout_seconds=timedelta(seconds=60),
        progress_callback=tell,
    )
    return {
        "failed": result.isError,
        "text": result.content[0].text,
        "structured": result.structuredContent,
        "progress": told,
    }


async def main():
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], cwd=".")
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write) as session:
            hello = await session.initialize()
            print(json.dumps({"name": hello.serverInfo.name, "said": hello.instructions}), flush=True)
            loop = asyncio.get_running_loop()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                try:
                    said = await answer(session, json.loads(line))
                except Exception as error:
                    said = {"error": f"{type(error).__name__}: {error}"}
                print(json.dumps(said), flush=True)


asyncio.run(main())
