"""HTTP clients of Python over wasi:http.

`fishway build` puts this beside each handler and calls `prepare` before the handler is loaded. The parts of
`http.client` that need a socket are replaced; all that stands on it (`urllib.request`) works as it is, with
redirects, cookies and timeouts. `requests` gets its own way, because its connection pool needs sockets.

The host connects, does TLS and checks certificates. The manifest says which servers are allowed.
"""

import errno
import http
import http.client
import importlib
import importlib.util
import io
import socket

from componentize_py_types import Err, Ok


def _interface(name, short):
    """The module of an interface, which has a short name where the handler itself imports it."""
    try:
        return importlib.import_module(f"wit_world.imports.{name}")
    except ImportError:
        return importlib.import_module(f"wit_world.imports.{short}")


outgoing_handler = _interface("wasi_http_outgoing_handler", "outgoing_handler")
types = _interface("wasi_http_types", "types")
streams = _interface("wasi_io_streams", "streams")

# Bytes that are read or written at a time.
CHUNK_BYTES = 64 * 1024

# Headers of the connection, not of a message: the host sets its own.
OF_CONNECTION = {
    "connection", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}


class SSLError(OSError):
    """TLS with the server has failed. Python has no `ssl` here, so this stands for its `SSLError`."""


class SSLCertVerificationError(SSLError, ValueError):
    """The server's certificate is not one that the host trusts."""


def _timed_out(code):
    return TimeoutError("timed out")


def _terminated(code):
    return http.client.RemoteDisconnected("the server closed the connection before the response was complete")


def _unreachable(code):
    return OSError(errno.EHOSTUNREACH, f"No route to host: {_words(code)}")


def _unknown_name(code):
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")


ERRORS = {
    "DnsTimeout": _unknown_name,
    "DnsError": _unknown_name,
    "DestinationNotFound": _unreachable,
    "DestinationUnavailable": _unreachable,
    "DestinationIpProhibited": _unreachable,
    "DestinationIpUnroutable": _unreachable,
    "ConnectionRefused": lambda code: ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    "ConnectionTerminated": _terminated,
    "HttpResponseIncomplete": _terminated,
    "ConnectionTimeout": _timed_out,
    "ConnectionReadTimeout": _timed_out,
    "ConnectionWriteTimeout": _timed_out,
    "HttpResponseTimeout": _timed_out,
    "TlsCertificateError": lambda code: SSLCertVerificationError(1, "certificate verify failed"),
    "TlsProtocolError": lambda code: SSLError(1, "TLS handshake failed"),
    "TlsAlertReceived": lambda code: SSLError(1, f"TLS alert: {code.value.alert_message}"),
    "HttpRequestDenied": lambda code: PermissionError(
        errno.EACCES, "no [[grants.http]] of the manifest allows this request; the log of the task has the lines to add"
    ),
}

# Errors of opening a connection, before anything is sent.
CONNECTING = (ConnectionRefusedError, PermissionError, SSLError, socket.gaierror)


def _words(code):
    name = type(code).__name__.removeprefix("ErrorCode_")
    return f"{name} {code.value}" if getattr(code, "value", None) is not None else name


def error_of(code):
    """The Python exception for an error of wasi:http."""
    name = type(code).__name__.removeprefix("ErrorCode_")
    make = ERRORS.get(name)
    return make(code) if make else OSError(errno.EIO, _words(code))


def _stream_error(error):
    """The exception for an error of a stream."""
    if isinstance(error.value, streams.StreamError_Closed):
        return http.client.RemoteDisconnected("the connection is closed")
    with error.value.value as cause:
        code = types.http_error_code(cause)
        return error_of(code) if code else OSError(errno.EIO, cause.to_debug_string())


def _method(name):
    known = {
        "GET": types.Method_Get, "HEAD": types.Method_Head, "POST": types.Method_Post, "PUT": types.Method_Put,
        "DELETE": types.Method_Delete, "OPTIONS": types.Method_Options, "PATCH": types.Method_Patch,
        "TRACE": types.Method_Trace, "CONNECT": types.Method_Connect,
    }
    return known[name]() if name in known else types.Method_Other(name)


class Exchange:
    """One request and its response. Takes the place of the socket of `http.client`."""

    def __init__(self, scheme, authority, method, path, headers, connect=None, read=None):
        """Times are in seconds; `headers` are pairs of text."""
        fields = types.Fields()
        try:
            for name, value in headers:
                if name.lower() not in OF_CONNECTION:
                    fields.append(name.lower(), value.encode("latin-1"))
            request = types.OutgoingRequest(fields)
            request.set_method(_method(method))
            request.set_scheme(types.Scheme_Https() if scheme == "https" else types.Scheme_Http())
            request.set_authority(authority)
            request.set_path_with_query(path)
        except Err as error:
            raise ValueError(f"{method} {path} cannot be a request: {error.value}") from None
        options = types.RequestOptions()
        if connect is not None:
            options.set_connect_timeout(int(connect * 1e9))
        if read is not None:
            options.set_first_byte_timeout(int(read * 1e9))
            options.set_between_bytes_timeout(int(read * 1e9))
        self.body = request.body()
        self.output = self.body.write()
        self.response = self.input = self.incoming = self.failure = None
        try:
            self.future = outgoing_handler.handle(request, options)
        except Err as error:
            self.future = None
            self.close()
            raise error_of(error.value) from None

    def sendall(self, data):
        """Write a part of the body."""
        data = memoryview(data).cast("B")
        try:
            while data:
                room = self.output.check_write()
                if room == 0:
                    with self.output.subscribe() as ready:
                        ready.block()
                    continue
                count = min(room, len(data), CHUNK_BYTES)
                self.output.write(bytes(data[:count]))
                data = data[count:]
        except Err as error:
            # The response has more detail, if there is one.
            _stream_error(error)
            self.wait()
            if self.failure:
                raise self.failure from None

    def finish(self):
        """End the body of the request."""
        if self.output is not None:
            self.output.__exit__(None, None, None)
            self.output = None
            body, self.body = self.body, None
            try:
                types.OutgoingBody.finish(body, None)
            except Err:
                # The body does not have the declared length; the response has the error.
                pass

    def wait(self):
        """Wait for the head of the response, or for an error."""
        self.finish()
        if self.future is None:
            return
        while (answer := self.future.get()) is None:
            with self.future.subscribe() as ready:
                ready.block()
        self.future.__exit__(None, None, None)
        self.future = None
        if isinstance(answer.value, Ok):
            self.response = answer.value.value
            self.incoming = self.response.consume()
            self.input = self.incoming.stream()
        else:
            self.failure = error_of(answer.value.value)

    def head(self):
        """Status and headers of the response, as pairs."""
        self.wait()
        if self.failure:
            raise self.failure
        with self.response.headers() as fields:
            pairs = [(name, value.decode("latin-1")) for name, value in fields.entries()]
        # The body comes without its transfer coding.
        return self.response.status(), [pair for pair in pairs if pair[0].lower() not in OF_CONNECTION]

    def read(self, count):
        """Some bytes of the response's body; none at its end."""
        if self.input is None:
            return b""
        try:
            return self.input.blocking_read(min(count, CHUNK_BYTES))
        except Err as error:
            if isinstance(error.value, streams.StreamError_Closed):
                return b""
            raise _stream_error(error) from None

    def close(self):
        """Abort it."""
        for name in ("output", "body", "input", "incoming", "response", "future"):
            resource = getattr(self, name, None)
            if resource is not None:
                setattr(self, name, None)
                resource.__exit__(None, None, None)


class _Body(io.RawIOBase):
    """The stream that `http.client` reads: a head in HTTP/1.1 format, and the body as it arrives."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.rest = None

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.rest is None:
            status, pairs = self.exchange.head()
            reason = http.client.responses.get(status, "")
            lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in pairs), "", ""]
            self.rest = "\r\n".join(lines).encode("latin-1")
        data = self.rest[: len(buffer)] or self.exchange.read(len(buffer))
        self.rest = self.rest[len(data) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self):
        self.exchange.close()
        super().close()


class Socket:
    """The socket of a connection. A response outlives its connection, so closing this does not end a read."""

    def __init__(self, exchange=None):
        self.exchange, self.taken = exchange, False

    def makefile(self, mode):
        self.taken = True
        return io.BufferedReader(_Body(self.exchange), CHUNK_BYTES)

    def settimeout(self, seconds):
        pass

    def close(self):
        if self.exchange and not self.taken:
            self.exchange.close()


class _OverWasi:
    """The methods of a connection that would use a socket."""

    scheme = "http"

    def connect(self):
        self.sock = Socket()

    def set_tunnel(self, host, port=None, headers=None):
        raise OSError("the host of Fishway connects: proxies are its own setting")

    def _send_output(self, message_body=None, encode_chunked=False):
        first, *lines = [line.decode("latin-1") for line in self._buffer]
        self._buffer.clear()
        method, path, _ = first.split(" ", 2)
        pairs = [line.replace("\r\n\t", " ").partition(":") for line in lines]
        pairs = [(name, value.strip()) for name, _, value in pairs]
        seconds = self.timeout
        if seconds is socket._GLOBAL_DEFAULT_TIMEOUT:
            seconds = socket.getdefaulttimeout()
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = host if self.port == self.default_port else f"{host}:{self.port}"
        exchange = Exchange(self.scheme, authority, method, path, pairs, seconds, seconds)
        self.sock = Socket(exchange)
        length = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs)
        if message_body is not None:
            self.send(message_body)
        elif length:
            # `send` brings the body later.
            return
        exchange.wait()
        if isinstance(exchange.failure, CONNECTING):
            raise exchange.failure

    def send(self, data):
        exchange = self.sock and self.sock.exchange
        if not exchange:
            raise http.client.NotConnected()
        if hasattr(data, "read"):
            parts = self._read_readable(data)
        else:
            try:
                parts = (memoryview(data),)
            except TypeError:
                parts = iter(data)
        for part in parts:
            exchange.sendall(part)


def prepare():
    """Make `http.client` use wasi:http, and `requests` if the handler contains it."""
    plain = http.client.HTTPConnection
    for name, value in vars(_OverWasi).items():
        if not name.startswith("__"):
            setattr(plain, name, value)

    class HTTPSConnection(plain):
        default_port = http.client.HTTPS_PORT
        scheme = "https"

        def __init__(self, host, port=None, *, context=None, **options):
            super().__init__(host, port, **options)

    http.client.HTTPSConnection = HTTPSConnection
    http.client._create_https_context = lambda version: None
    if "HTTPSConnection" not in http.client.__all__:
        http.client.__all__.append("HTTPSConnection")
    if importlib.util.find_spec("requests"):
        import fishway_requests

        fishway_requests.prepare()
