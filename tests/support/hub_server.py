"""A small Hugging Face Hub for tests: the real client talks to it over loopback; all its state is on disk.

    with HubServer(folder) as hub:
        subprocess.run(command, env=os.environ | hub.environment())

Files travel inside the commit (regular mode) unless `lfs_threshold` is set: then files of at least that many bytes go
through LFS, which the client uses only with `HF_HUB_DISABLE_XET=1`. There is no Xet and there are no pull requests.
"""

import argparse
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import NamedTuple

from hub_api import Api
from hub_http import Fault, disconnect
from hub_store import Store


__all__ = ["USERS", "Fault", "HubServer", "User"]


class User(NamedTuple):
    name: str
    role: str = "write"


USERS = {"hf_test": User("tester"), "hf_read": User("tester", "read"), "hf_other": User("other")}


class HubServer(ThreadingHTTPServer):
    """Serves the state below `root`; a second server on the same root and port resumes after the first one was killed.

    `faults` is a list of `Fault`, and `log` a list of `Call`. `on_request` is called with the stage of each request
    before it is answered.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root, *, port=0, users=USERS, lfs_threshold=None):
        super().__init__(("127.0.0.1", port), Api)
        self.store, self.users, self.lfs_threshold = Store(root), users, lfs_threshold
        self.faults, self.log, self.on_request = [], [], None
        self.connections, self.fault_lock = set(), threading.Lock()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, token="hf_test"):
        """The environment that points a subprocess to this server; without Xet, as LFS requires."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": token or "",
            "HF_HOME": str(self.store.root / "client"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def calls(self, stage):
        return [call for call in self.log if call.stage == stage]

    def fault(self, stage, method):
        """The first fault that hits a call; all faults count the call."""
        with self.fault_lock:
            return next(iter([fault for fault in self.faults if fault.strikes(stage, method)]), None)

    def start(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self):
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            disconnect(connection)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main():
    """Serve until killed: `python tests/support/hub_server.py --root FOLDER`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--lfs_threshold", type=int)
    arguments = parser.parse_args()
    server = HubServer(arguments.root, port=arguments.port, lfs_threshold=arguments.lfs_threshold)
    print(*(f"{name}={value}" for name, value in server.environment().items()), sep="\n", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
