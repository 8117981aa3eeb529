"""MXNet's server processes, for scripts that name them. Here nobody starts servers but a launched job.

MXNet starts a script once for each role, which the variable `DMLC_ROLE` says: worker, server, scheduler. Here
`python -m raymx launch` runs the script in its workers only; what the servers did, the shards do.
"""

from __future__ import annotations

import os
from typing import Any

from raymx.errors import KVStoreError

_HOW = "`python -m raymx launch -n WORKERS -s SERVERS script.py`, or mx.launch, starts workers and shards"


class KVStoreServer:
    """A server of a distributed store, in MXNet."""

    def __init__(self, kvstore: Any):
        self.kvstore = kvstore

    def run(self) -> None:
        """Serve until stopped, in MXNet. Raises KVStoreError, which says what does it here."""
        raise KVStoreError(f"KVStoreServer.run: no process serves by itself here; {_HOW}.")


def refuse_roles() -> None:
    """Raise KVStoreError in a process that a tracker of MXNet has given a role."""
    role = os.environ.get("DMLC_ROLE")
    if role in ("worker", "server", "scheduler"):
        raise KVStoreError(
            f"this process has the role {role!r} of MXNet's tracker (DMLC_ROLE), which nothing here knows of: {_HOW}."
        )


def _init_kvstore_server_module() -> None:
    """Serve if this process has that role, in MXNet. Raises KVStoreError if it has."""
    if os.environ.get("DMLC_ROLE") != "worker":
        refuse_roles()
