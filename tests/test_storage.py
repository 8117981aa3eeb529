"""Local files are replaced whole or not at all; URLs go through fsspec; what is missing is named."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import uuid

import fsspec
import pytest

from raymx import storage
from raymx.errors import MXNetError, ParameterError


@pytest.fixture
def folder():
    """A folder in fsspec's file system in memory that no other test sees."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a/b.bin", "a/b.bin"),
        ("hdfs:///users/myname/mydata.bin", "hdfs:///users/myname/mydata.bin"),
        ("hdfs///users/myname/mydata.bin", "hdfs:///users/myname/mydata.bin"),
        ("s3///mybucket/mydata.bin", "s3://mybucket/mydata.bin"),
        ("memory///a/b", "memory://a/b"),
        ("file:///tmp/x", "/tmp/x"),
        ("data///x", "data///x"),
        ("hdfs//x", "hdfs//x"),
    ],
)
def test_normalize(written, meant):
    assert storage.normalize(written) == meant
    assert storage.is_url(written) == ("://" in meant)


# ---- local ----


def test_local_round_trip(tmp_path):
    path = tmp_path / "x.bin"
    assert not storage.exists(path)
    storage.write_bytes(path, b"one")
    storage.write_bytes(str(path), b"two")
    assert storage.exists(path) and storage.read_bytes(f"file://{path}") == b"two"
    with storage.open_read(path) as file:
        file.seek(1)
        assert file.read() == b"wo"
    assert os.listdir(tmp_path) == ["x.bin"]


def test_a_bare_name_is_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage.write_bytes("x.bin", b"one")
    assert storage.read_bytes("x.bin") == b"one"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "x.bin"
    storage.write_bytes(path, b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left on device"):
        storage.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.bin"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "x.bin"
    contents = [bytes([i]) * 200_000 for i in range(4)]
    storage.write_bytes(path, contents[0])
    writer = threading.Thread(target=lambda: [storage.write_bytes(path, c) for c in contents * 5])
    writer.start()
    while writer.is_alive():
        assert storage.read_bytes(path) in contents
    writer.join()


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.bin"
    storage.write_bytes(path, b"old")
    code = "import os, sys; from raymx import storage; os.fsync = lambda fd: os._exit(9)"
    command = [sys.executable, "-c", f"{code}; storage.write_bytes(sys.argv[1], b'new')", path]
    assert subprocess.run(command, check=False).returncode == 9
    assert path.read_bytes() == b"old"


def test_the_file_and_then_its_folder_are_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    storage.write_bytes(tmp_path / "x.bin", b"one")
    assert synced == [False, True]


def test_new_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        storage.write_bytes(tmp_path / "x.bin", b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.bin").stat().st_mode) == 0o640


def test_links_and_devices_stay_what_they_are(tmp_path):
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "x.bin")
    storage.write_bytes(link, b"one")
    assert link.is_symlink() and (tmp_path / "x.bin").read_bytes() == b"one"
    storage.write_bytes("/dev/null", b"one")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_local_errors_are_pythons_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        storage.read_bytes(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        storage.write_bytes(tmp_path / "nowhere" / "x.bin", b"")
    with pytest.raises(IsADirectoryError):
        storage.write_bytes(tmp_path, b"")


# ---- URLs ----


def test_remote_round_trip(folder):
    url = f"{folder}/deep/x.bin"
    assert not storage.exists(url)
    storage.write_bytes(url, b"one")
    storage.write_bytes(url, b"two")
    assert storage.exists(url) and storage.read_bytes(url) == b"two"
    assert storage.read_bytes(url.replace("://", "///")) == b"two"
    with storage.open_read(url) as file:
        assert file.read(2) == b"tw"


def test_an_object_is_one_request(folder, monkeypatch):
    calls = []
    fs = fsspec.filesystem("memory")
    monkeypatch.setattr(type(fs), "pipe_file", lambda self, path, value: calls.append((path, value)))
    storage.write_bytes(f"{folder}/x.bin", b"one")
    assert calls == [(folder.removeprefix("memory:/") + "/x.bin", b"one")]


@pytest.mark.parametrize("broken", ["pipe_file", "mv", None])
def test_where_files_grow_in_sight_they_are_renamed(folder, monkeypatch, broken):
    monkeypatch.setattr(storage, "_RENAMES", {"memory"})
    url = f"{folder}/x.bin"
    storage.write_bytes(url, b"old")
    fs = fsspec.filesystem("memory")
    if broken:
        monkeypatch.setattr(type(fs), broken, lambda *args, **kwargs: 1 / 0)
        with pytest.raises(MXNetError, match=f"cannot write {url}: ZeroDivisionError: division by zero."):
            storage.write_bytes(url, b"new")
    else:
        storage.write_bytes(url, b"new")
    assert storage.read_bytes(url) == (b"old" if broken else b"new")
    assert [path.split("/")[-1] for path in fs.find(folder)] == ["x.bin"]


def test_a_missing_object_is_a_missing_file(folder):
    with pytest.raises(FileNotFoundError, match=f"cannot read {folder}/x.bin: FileNotFoundError"):
        storage.read_bytes(f"{folder}/x.bin")
    with pytest.raises(FileNotFoundError, match=f"cannot read {folder}/x.bin"), storage.open_read(f"{folder}/x.bin"):
        pass


MISSING = """
import sys
for package in ("s3fs", "adlfs", "gcsfs", "pyarrow"):
    sys.modules[package] = None
from raymx import storage
for scheme in storage.EXTRAS:
    for call in (storage.read_bytes, storage.exists, lambda url: storage.write_bytes(url, b"")):
        try:
            call(scheme + "://bucket/x.bin")
        except storage.MXNetError as error:
            print(error)
"""


def test_a_missing_package_names_the_extra():
    lines = subprocess.check_output([sys.executable, "-c", MISSING], text=True).splitlines()
    expected = [
        f"{scheme}://bucket/x.bin: a package for {scheme}:// is missing; run: pip install 'raymx[{extra}]'."
        for scheme, extra in storage.EXTRAS.items()
    ]
    assert lines == [line for line in expected for _ in range(3)]


def test_an_unknown_scheme():
    with pytest.raises(ParameterError, match=r"carrier://pigeon/x: no file system for carrier:// \(Protocol not known"):
        storage.read_bytes("carrier://pigeon/x")


def test_local_files_do_not_load_fsspec(tmp_path):
    code = "import sys; from raymx import storage as s; s.write_bytes(sys.argv[1], b''); print('fsspec' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code, tmp_path / "x"], text=True) == "False\n"
