"""Files on this machine and in clouds, whole: read all of one, or replace it so that a reader never sees half of it.

A path is local, or a URL that fsspec knows (`s3://`, `hdfs://`, `az://`, `abfs://`, `gs://`, `memory://`, …). What goes
wrong in the ordinary way (no such file, no permission) is raised as Python's own OSError, whatever else a remote store
answers as MXNetError.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO, cast

from raymx.errors import MXNetError, ParameterError

# scheme → the extra of raymx that brings its package
EXTRAS = {
    "s3": "s3", "s3a": "s3", "az": "azure", "abfs": "azure", "abfss": "azure", "gs": "gcs", "gcs": "gcs",
    "hdfs": "hdfs",
}  # fmt: skip
_BUCKETS = {"s3", "s3a", "az", "abfs", "abfss", "gs", "gcs", "memory"}  # what follows the slashes is the bucket
_RENAMES = {"hdfs"}  # no object store: a file grows in sight of its readers, but moves in one step
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SLIPPED = re.compile(rf"({'|'.join(sorted(_BUCKETS | _RENAMES))})///(?=[^/])")


def normalize(path) -> str:
    """`path` as text. A slip of the pen is taken as it was meant: `hdfs///a` is `hdfs:///a`, `s3///b/c` is `s3://b/c`;
    `file:///a` is the local path `/a`."""
    path = os.fspath(path)
    if slipped := _SLIPPED.match(path):
        scheme = slipped[1]
        return f"{scheme}:/{'/' if scheme in _BUCKETS else '//'}{path[slipped.end() :]}"
    return path.removeprefix("file://")


def is_url(path) -> bool:
    """Whether `path` lies outside this machine's file system."""
    return _URL.match(normalize(path)) is not None


def read_bytes(path) -> bytes:
    """Everything in the file; raises FileNotFoundError and its kin, or MXNetError for a remote store's trouble."""
    path = normalize(path)
    with _told(path, "read"):
        if is_url(path):
            fs, inside = _filesystem(path)
            return fs.cat_file(inside)
        with open(path, "rb") as file:
            return file.read()


def open_stream(path, mode: str) -> BinaryIO:
    """The file, opened to read (`rb`) or to write anew (`wb`) piece by piece; the caller closes it."""
    path = normalize(path)
    with _told(path, "read" if mode == "rb" else "write"):
        if is_url(path):
            fs, inside = _filesystem(path)
            return fs.open(inside, mode)
        return cast(BinaryIO, open(path, mode))


@contextlib.contextmanager
def open_read(path) -> Iterator[BinaryIO]:
    """The file, opened for reading bytes and seeking; for a with block."""
    with open_stream(path, "rb") as file:
        yield file


def write_bytes(path, data: bytes) -> None:
    """Make `data` the file's content, all or nothing: whatever happens, the file is as it was or as it shall be.

    A local file is written beside its target, brought to the disk and renamed; an object is stored in one request.
    Raises as `read_bytes`.
    """
    path = normalize(path)
    with _told(path, "write"):
        if is_url(path):
            _write_remote(path, data)
        else:
            _write_local(os.path.realpath(path), data)


def exists(path) -> bool:
    """Whether there is such a file or folder."""
    path = normalize(path)
    if not is_url(path):
        return os.path.exists(path)
    with _told(path, "find"):
        fs, inside = _filesystem(path)
        fs.invalidate_cache()
        return fs.exists(inside)


# ---- local ----


def _write_local(path: str, data: bytes) -> None:
    if _is_special(path):
        with open(path, "wb") as file:
            file.write(data)
        return
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _is_special(path: str) -> bool:
    """A pipe or a device, such as /dev/null, which must not be replaced by a file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _sync_folder(folder: str) -> None:
    """Make the rename itself last over a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- remote ----


def _write_remote(url: str, data: bytes) -> None:
    fs, path = _filesystem(url)
    if _scheme(url) not in _RENAMES:
        fs.pipe_file(path, data)
        return
    temporary = f"{path}.{secrets.token_hex(6)}.tmp"
    try:
        fs.pipe_file(temporary, data)
        fs.mv(temporary, path)
    except BaseException:
        with contextlib.suppress(Exception):
            fs.rm(temporary)
        raise


def _scheme(url: str) -> str:
    match = _URL.match(url)
    return match[1].lower() if match else ""


def _filesystem(url: str):
    """The fsspec file system of `url`, and the path in it."""
    import fsspec

    scheme = _scheme(url)
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MXNetError(f"{url}: {_how_to_get(scheme, str(error))}.") from error
    except ValueError as error:
        if scheme in EXTRAS and "Protocol not known" in str(error):  # its package would have made it known
            raise MXNetError(f"{url}: {_how_to_get(scheme, str(error))}.") from error
        raise ParameterError(f"{url}: no file system for {scheme}:// ({error}).") from error


def _how_to_get(scheme: str, error: str) -> str:
    if scheme in EXTRAS:
        return f"a package for {scheme}:// is missing; run: pip install 'raymx[{EXTRAS[scheme]}]'"
    return f"a package for {scheme}:// is missing ({error})"


_OS_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)


@contextlib.contextmanager
def _told(path: str, verb: str) -> Iterator[None]:
    """Errors of local files leave as they are, those of remote ones as the like OSError or MXNetError with the URL."""
    try:
        yield
    except MXNetError:
        raise
    except Exception as error:
        if not is_url(path):
            raise
        kind = next((k for k in _OS_ERRORS if isinstance(error, k)), MXNetError)
        text = (str(error).splitlines() or ["no more is known"])[0]  # the Java machine's would fill the screen
        raise kind(f"cannot {verb} {path}: {type(error).__name__}: {text}.") from error
