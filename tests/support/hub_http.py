"""The HTTP side of the local Hub: routes, chunked bodies, faults and the log."""

import json
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import CHUNK, STALE_PARENT, HubError


UNKNOWN_TOKEN = "Invalid credentials in Authorization header"
FAULTS = {
    "401": UNKNOWN_TOKEN,
    "403": "Forbidden",
    "412": STALE_PARENT,
    "429": "Too Many Requests",
    "500": "Internal Server Error",
    "507": "Insufficient Storage",
    "cut": "the connection ends halfway through a body",
    "slow": "the answer waits",
}


class Call(NamedTuple):
    """One request in `HubServer.log`: `body` bytes arrived; `status` is None if the connection was cut."""

    method: str
    path: str
    stage: str
    body: int
    status: int | None


@dataclass
class Fault:
    """A fault in `times` calls of a stage, starting with the `nth` call after the fault was added.

    `kind` is a key of `FAULTS` (as a string or a number) or `disk_full`. A stage is the name of a route below, `when`
    may be a pattern (`lfs_*`). 412 lets another user commit to the branch first. `cut` ends the connection inside the
    request body, or inside the response body if there is no request body or with `part="response"`: then the server
    has done its work. `seconds` is the delay of `slow` and the `Retry-After` of 429.
    """

    kind: str | int
    when: str = "*"
    method: str = "*"
    nth: int = 1
    times: int = 1
    seconds: float = 1
    part: str | None = None
    seen: int = field(default=0, init=False)

    def __post_init__(self):
        self.kind = {"disk_full": "507"}.get(self.kind, str(self.kind))
        if self.kind not in FAULTS:
            raise ValueError(f"unknown kind of fault {self.kind!r}, expected one of {', '.join(FAULTS)}")

    def strikes(self, stage, method):
        """Count a call and return whether it fails."""
        if not (fnmatch(stage, self.when) and fnmatch(method, self.method)):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


ROUTES = []
PARTS = {
    "kind": r"(?P<kind>model|dataset|space)",
    "repo_id": r"(?P<repo_id>[^/]+(?:/[^/]+)?)",
    "slug": r"(?P<slug>[^/]+/[^/]+)",
    "path": r"(?P<path>.+)",
}


def route(methods, *templates):
    """Register a handler, whose name is the stage, for URLs such as `/api/{kind}s/{repo_id}/refs`."""

    def register(handler):
        for template in templates:
            pattern = re.sub(r"{(\w+)}", lambda part: PARTS.get(part[1], f"(?P<{part[1]}>[^/]+)"), template)
            ROUTES.append((methods.split(), re.compile(pattern), handler))
        return handler

    return register


def find_route(method, path):
    for methods, pattern, handler in ROUTES:
        match = pattern.fullmatch(path)
        if match and method in methods:
            return handler, {name: unquote(value) for name, value in match.groupdict().items()}
    return RequestHandler.nowhere, {}


class RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    # Requests and answers

    def dispatch(self):
        url = urlsplit(self.path)
        handler, parameters = find_route(self.command, url.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.stage, self.received = handler.__name__, 0
        self.recorded = self.cut_response = False
        self.body = self.chunks()
        try:
            fault = self.server.fault(self.stage, self.command)
            if self.server.on_request:
                self.server.on_request(self.stage)
            if fault:
                self.suffer(fault, parameters)
            handler(self, **parameters)
        except HubError as error:
            headers = {"X-Error-Message": error.message.encode("ascii", "replace").decode()} | error.headers
            headers |= {"X-Error-Code": error.code} if error.code else {}
            self.answer({"error": error.message} | error.extra, error.status, headers)
        except ConnectionError:
            self.record(None)
            self.hang_up()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = dispatch

    def suffer(self, fault, parameters):
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        elif fault.kind == "cut":
            length = int(self.headers.get("Content-Length") or 0)
            self.cut_response = (fault.part or ("request" if length else "response")) == "response"
            if not self.cut_response:
                for _ in self.chunks(length // 2):
                    pass
                raise ConnectionAbortedError
        else:
            if fault.kind == "412":
                self.commit_of_another(parameters)
            wait = {"Retry-After": str(round(fault.seconds))} if fault.kind == "429" else {}
            raise HubError(int(fault.kind), FAULTS[fault.kind], headers=wait)

    def commit_of_another(self, parameters):
        operation = {"key": "file", "value": {"path": "of-another.txt", "content": "aGVsbG8="}}
        kind, repo_id, branch = (parameters[name] for name in ("kind", "repo_id", "revision"))
        self.server.store.commit(kind, repo_id, branch, [operation], author="other")

    def chunks(self, length=None):
        """The chunks of the request body."""
        left = int(self.headers.get("Content-Length") or 0) if length is None else length
        while left:
            chunk = self.rfile.read(min(left, CHUNK))
            if not chunk:
                raise ConnectionAbortedError
            self.received += len(chunk)
            left -= len(chunk)
            yield chunk

    def json(self):
        return json.loads(b"".join(self.body) or b"{}")

    def answer(self, content, status=200, headers=None):
        data = json.dumps(content).encode()
        self.send(status, {"Content-Type": "application/json"} | (headers or {}), len(data), [data])

    def send(self, status, headers, length, chunks):
        for _ in self.body:  # the client reads only after it has sent everything
            pass
        self.record(None if self.cut_response else status)
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()
        left = length // 2 if self.cut_response else length
        for chunk in chunks if self.command != "HEAD" else []:
            self.wfile.write(chunk[:left])
            left -= len(chunk[:left])
        if self.cut_response:
            self.hang_up()

    def hang_up(self):
        self.close_connection = True
        disconnect(self.connection)

    def record(self, status):
        """Log the request once, before the client receives the response."""
        if not self.recorded:
            self.server.log.append(Call(self.command, self.path, self.stage, self.received, status))
        self.recorded = True

    def log_message(self, *_):
        pass

    def nowhere(self):
        raise HubError(404, f"There is no {self.command} {self.path}")


def disconnect(connection):
    with suppress(OSError):  # the client may already have closed the connection
        connection.shutdown(socket.SHUT_RDWR)
