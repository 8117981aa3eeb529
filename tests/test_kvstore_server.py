"""What scripts that know MXNet's roles are told."""

from __future__ import annotations

import pytest

import raymx as mx
from raymx import kvstore_server
from raymx.errors import KVStoreError


def test_nobody_serves_by_hand():
    with pytest.raises(KVStoreError, match=r"KVStoreServer\.run: no process serves by itself here; `python -m raymx "):
        kvstore_server.KVStoreServer(mx.kv.create("local")).run()


@pytest.mark.parametrize("role", ["worker", "server", "scheduler"])
def test_a_process_of_mxnet_s_tracker_is_no_lone_worker(monkeypatch, role):
    monkeypatch.setenv("DMLC_ROLE", role)
    with pytest.raises(KVStoreError, match=rf"the role '{role}' of MXNet's tracker \(DMLC_ROLE\), .* mx\.launch"):
        mx.kv.create("dist_sync")


def test_importing_is_not_serving(monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "worker")
    kvstore_server._init_kvstore_server_module()
    monkeypatch.setenv("DMLC_ROLE", "server")
    with pytest.raises(KVStoreError, match="the role 'server'"):
        kvstore_server._init_kvstore_server_module()
