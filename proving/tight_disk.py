"""PostgreSQL on a file system of its own that can be filled to the last byte."""

import os
import shutil
import subprocess
from pathlib import Path

from impact_in.local_stack.database import Database

_SIZE = "320m"


class CannotMount(Exception):
    """Needs the right to mount a tmpfs; the message says what mount said."""


class TightDisk(Database):
    """`mounted(directory)` first, `unmounted()` last."""

    @classmethod
    def mounted(cls, directory: Path) -> "TightDisk":
        """Raises CannotMount."""
        directory.mkdir(parents=True)
        mount = shutil.which("mount")
        if mount is None:
            raise CannotMount("there is no mount")
        done = subprocess.run(  # noqa: S603 - the system's mount, and words of ours
            [mount, "-t", "tmpfs", "-o", f"size={_SIZE},mode=755", "tmpfs", str(directory)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CannotMount(done.stderr.strip())
        return cls(directory, durable=True)

    def unmounted(self) -> None:
        umount = shutil.which("umount")
        if umount is not None:
            subprocess.run([umount, "--lazy", str(self.data_dir)], check=False)  # noqa: S603 - as above

    @property
    def _ballast(self) -> Path:
        return self.data_dir / "ballast"

    def fill(self) -> int:
        """The bytes that were still free, all of them taken now."""
        taken = 0
        with self._ballast.open("wb") as file:
            while True:
                room = os.statvfs(self.data_dir)
                free = room.f_bavail * room.f_frsize
                if free < room.f_frsize:
                    return taken
                try:
                    os.posix_fallocate(file.fileno(), taken, free)
                except OSError:  # the server took some of it meanwhile: look again
                    continue
                taken += free

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)
