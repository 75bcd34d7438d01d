# Sends the requests that tests/web.rs expects of each language, and returns the results.
import json
import urllib.error
import urllib.request

import requests
from wit_world import exports


def said(work):
    try:
        return work()
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}: {error}"


def by_urllib(base, refused, untrusted):
    def text(url, timeout=None):
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return response.read().decode()

    def asked(path, data=None):
        request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return {"status": response.status, "json": json.load(response)}

    def missing():
        try:
            return text(base + "/missing")
        except urllib.error.HTTPError as error:
            return {"status": error.code, "text": error.read().decode()}

    def parts():
        seen = []
        with urllib.request.urlopen(base + "/stream") as response:
            while part := response.read1():
                seen.append(part.decode())
                # The server continues after a report of the first part.
                if len(seen) == 1:
                    text(base + "/seen")
        return seen

    body = json.dumps({"item": "lamp", "count": 2}).encode()
    return {
        "get": said(lambda: asked("/get")),
        "post": said(lambda: asked("/post", body)),
        "missing": said(missing),
        "stream": said(parts),
        "refused": said(lambda: text(refused)),
        "untrusted": said(lambda: text(untrusted)),
        "timeout": said(lambda: text(base + "/slow", 0.1)),
        "broken": said(lambda: text(base + "/broken")),
        "closed": said(lambda: text(base + "/closed")),
    }


def by_requests(base, refused, untrusted):
    def asked(response):
        return {"status": response.status_code, "json": response.json()}

    def missing():
        response = requests.get(base + "/missing")
        return {"status": response.status_code, "text": response.text}

    def parts():
        seen = []
        with requests.get(base + "/stream", stream=True) as response:
            for part in response.iter_content(3):
                seen.append(part.decode())
                if len(seen) == 1:
                    requests.get(base + "/seen")
        return seen

    session = requests.Session()
    return {
        "get": said(lambda: asked(session.get(base + "/get"))),
        "post": said(lambda: asked(session.post(base + "/post", json={"item": "lamp", "count": 2}))),
        "missing": said(missing),
        "stream": said(parts),
        "refused": said(lambda: session.get(refused).text),
        "untrusted": said(lambda: session.get(untrusted).text),
        "timeout": said(lambda: session.get(base + "/slow", timeout=0.1).text),
        "broken": said(lambda: session.get(base + "/broken").text),
        "closed": said(lambda: session.get(base + "/closed").text),
    }


class Handler(exports.Handler):
    def run(self, input: str) -> str:
        asked = json.loads(input)
        client = {"urllib": by_urllib, "requests": by_requests}[asked.pop("client")]
        return json.dumps(client(**asked))
