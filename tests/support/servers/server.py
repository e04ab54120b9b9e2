"""`python -m tests.support.servers.server KIND FOLDER OWNER`: run one server until the test run ends, in any way.

Prints one line of JSON, the address or the reason why there is none, then waits for SIGTERM or for the end of
process OWNER (by a pidfd, so that a run killed with SIGKILL leaves nothing behind) and stops the server.
"""

import json
import os
import select
import signal
import sys
from pathlib import Path

from tests.support.servers import kafka, postgres, secured, stock
from tests.support.servers.shared import ServerUnavailableError

KINDS = {
    "kafka": kafka.running,
    "postgres": postgres.running,
    "stock": stock.running,
    "secured": secured.running,
}


def main(kind: str, folder: Path, owner: int) -> None:
    """Keep the server of this kind in `folder` while `owner` lives."""
    owner_handle = os.pidfd_open(owner)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    # Only recorded while the server starts, so that a server that is still starting is never abandoned.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with KINDS[kind](folder) as address:
            tell(address=address, error=None)
            select.select([owner_handle, wake_read], [], [])
    except ServerUnavailableError as reason:
        tell(address=None, error=str(reason))


def tell(**answer: str | None) -> None:
    """Answer the process that asked for the server, which then no longer listens."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
