"""Locks between programs, by the library filelock, which is imported here alone."""

import warnings

with warnings.catch_warnings():
    # a Python with neither fcntl nor msvcrt: filelock says at its import that it has files in place of locks
    warnings.simplefilter("ignore", UserWarning)
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

__all__ = ["BaseFileLock", "FileLock", "SoftFileLock", "Timeout"]
