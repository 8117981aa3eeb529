"""Key-value stores: `mx.kv.create(name)`.

- `local…`, `device…`: the devices of one script (`local.py`).
- `dist_sync`, `dist_async`, `dist_device_sync`, …: many workers and a group of shards (`dist.py`).
"""

from __future__ import annotations

from raymx.errors import KVStoreError, did_you_mean
from raymx.kvstore.local import ON_CPU, ON_DEVICES, KVStore, spread

DISTRIBUTED = ("dist", "dist_sync", "dist_async", "dist_device_sync", "dist_device_async", "dist_sync_device",
               "dist_async_device")  # fmt: skip


def create(name: str = "local") -> KVStore:
    """A store by type: `local`, `local_update_cpu`, `local_allreduce_cpu`, `device`, `local_allreduce_device`, or one
    of the `dist…` types, which joins the launched job that this process is a worker of, or is a job of its own.

    Raises KVStoreError for other names.
    """
    if name in ON_CPU or name in ON_DEVICES:
        return KVStore(name)
    if name in DISTRIBUTED:
        from raymx import runtime
        from raymx.kvstore.dist import DistKVStore
        from raymx.kvstore_server import refuse_roles

        if not runtime.launched():
            refuse_roles()
        return DistKVStore(name)
    known = (*ON_CPU, *ON_DEVICES, *DISTRIBUTED)
    near = did_you_mean(str(name), known)
    raise KVStoreError(f"no kvstore type is called {name!r}{near} (known: {', '.join(known)}).")


__all__ = ["KVStore", "create", "spread"]
