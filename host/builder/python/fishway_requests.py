"""`requests` over wasi:http: what its adapter does with a prepared request. Called by `fishway_http.prepare`."""

import http.client
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3._collections import HTTPHeaderDict

from fishway_http import CHUNK_BYTES, Exchange, Socket, SSLError


def _error_of(error, request):
    """The exception of `requests` for a failure of the exchange."""
    kind = requests.exceptions.ConnectionError
    if isinstance(error, SSLError):
        kind = requests.exceptions.SSLError
    elif isinstance(error, TimeoutError):
        kind = requests.exceptions.ReadTimeout
    return kind(error, request=request)


def _body(request):
    """The parts of the body of a request."""
    body = request.body
    if body is None:
        return
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, (bytes, bytearray)):
        yield body
    elif hasattr(body, "read"):
        while part := body.read(CHUNK_BYTES):
            yield part if isinstance(part, bytes) else part.encode()
    else:
        yield from body


def _send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    url = urlsplit(request.url)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = [
        (name, value.decode("latin-1") if isinstance(value, bytes) else value)
        for name, value in request.headers.items()
    ]
    exchange = None
    try:
        authority = url.netloc.rpartition("@")[2]
        exchange = Exchange(url.scheme, authority, request.method, path, headers, connect, read)
        for part in _body(request):
            exchange.sendall(part)
        answered = http.client.HTTPResponse(Socket(exchange), method=request.method)
        answered.begin()
    except OSError as error:
        if exchange:
            exchange.close()
        raise _error_of(error, request) from error
    fields = HTTPHeaderDict()
    for name, value in answered.getheaders():
        fields.add(name, value)
    raw = HTTPResponse(
        body=answered,
        original_response=answered,
        headers=fields,
        status=answered.status,
        reason=answered.reason,
        preload_content=False,
        request_method=request.method,
    )
    response = self.build_response(request, raw)
    if not stream:
        response.content
    return response


def prepare():
    """From now on every session sends its requests this way."""
    HTTPAdapter.send = _send
