"""A temporary directory that does not stay, even where its process is killed: the next of its kind takes it away."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_directory(prefix: str) -> Iterator[Path]:
    """A new directory of this name in the system's temporary one. It is locked as long as it is ours, so that those of
    processes that ended without removing theirs are told from it; they are removed first."""
    _remove_left_behind(prefix)
    directory, lock = _claim_new(prefix)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _claim_new(prefix: str) -> tuple[Path, int]:
    while True:
        directory = Path(tempfile.mkdtemp(prefix=prefix))
        # Another one that starts may have seen it before it was locked, and removed it.
        lock = _claim(directory)
        if lock is not None and directory.exists():
            return directory, lock
        if lock is not None:
            os.close(lock)


def _remove_left_behind(prefix: str) -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if _is_ours(directory) and (lock := _claim(directory)) is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def _is_ours(directory: Path) -> bool:
    try:
        return directory.is_dir() and not directory.is_symlink() and directory.lstat().st_uid == os.getuid()
    except OSError:
        return False


def _claim(directory: Path) -> int | None:
    """A descriptor with the lock; None where somebody has it, or it is gone. No child of ours inherits it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
        else:
            return descriptor
    return None
