"""Path confinement: open files by untrusted names, within the data root only.

The kernel resolves a name below the root in one call (``openat2``). If it cannot, or for absolute links, names are
resolved here one part at a time on open directories, so that a concurrent change cannot lead out. Links that stay in
the root work, absolute ones, too. Refusals disclose nothing about the outside.

A hard link looks like the file itself and is opened: a user who can link a file into the root can already read it
(``fs.protected_hardlinks``). Mounts in the root belong to the root.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import stat
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from snakemap.core.file_uri import readings
from snakemap.errors import FileMissing, FileNotReady, FileRefused

__all__ = ["DataRoot", "local_path", "local_paths", "restrict_process", "shown"]

logger = logging.getLogger(__name__)

PATH_BYTES_MAX = 4096
LINKS_MAX = 40
"""Maximum symbolic links in one name, as in the kernel."""

PINNED = os.O_PATH | os.O_CLOEXEC
READABLE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08

libc = ctypes.CDLL(None, use_errno=True)


class DataRoot:
    """The directory of files for users. Files are opened relative to it, for reading only.

    Also a context manager; the root is opened with the first file, and stays open until :meth:`close`.

    Args:
        root: absolute path of the directory.
        openat2: whether to use ``openat2``; False: always resolve names here.
    """

    def __init__(self, root: Path, *, openat2: bool = True) -> None:
        self.root = root
        self._openat2: bool | None = None if openat2 else False
        self._fd: int | None = None
        self._spellings: tuple[tuple[str, ...], ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; it is reopened when needed."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def open(self, path: str | os.PathLike[str]) -> int:
        """Open a plain file for reading.

        Args:
            path: relative to the root, or absolute and under it.

        Returns:
            A file descriptor, for the caller to close.

        Raises:
            FileRefused: the name leads out of the root, or the file is no plain file, or may not be read.
            FileMissing: there is no such file in the root.
            FileNotReady: it cannot be opened at the moment.
        """
        name = shown(path)
        with self._pinned(path, name) as fd:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise FileRefused(f"{name} is {_kind(mode)}, not a file")
            return self._reopen(fd, READABLE, name)

    def open_directory(self, path: str | os.PathLike[str]) -> int:
        """Open a directory for :func:`os.scandir`; the root itself is ``"."``.

        Raises:
            FileRefused: the name leads out of the root, is no directory, or may not be read.
            FileMissing: there is no such directory in the root.
        """
        name = shown(path)
        with self._pinned(path, name) as fd:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISDIR(mode):
                raise FileRefused(f"{name} is {_kind(mode)}, not a directory")
            return self._reopen(fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, name)

    def name_of(self, fd: int) -> PurePosixPath:
        """Return the path of an open file in the root, with links resolved, like ``visit/scan-1.h5``.

        Raises:
            FileRefused: it is not in the root (any more).
        """
        self.hold()
        return PurePosixPath(*self._below(str(_actual(fd)), "the file"))

    @contextlib.contextmanager
    def _pinned(self, path: str | os.PathLike[str], name: str) -> Iterator[int]:
        """Yield a descriptor (``O_PATH``) of a name without opening it: a FIFO would block."""
        root = self.hold()
        parts = self._parts(path, name)
        try:
            fd = self._resolve(root, parts, name)
        except (OSError, ValueError) as error:
            raise _refusal(error, name) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def hold(self) -> int:
        """Return a descriptor (``O_PATH``) of the root itself, opened once.

        Raises:
            FileNotReady: it is not there.
        """
        if self._fd is None:
            try:
                self._fd = os.open(self.root, PINNED | os.O_DIRECTORY)
            except OSError as error:
                raise FileNotReady(f"the data root {self.root} cannot be opened: {error.strerror}") from error
            spellings = (os.path.normpath(self.root), _actual(self._fd))
            self._spellings = tuple(_absolute(str(spelling)) for spelling in spellings)
        return self._fd

    def _parts(self, path: str | os.PathLike[str], name: str) -> tuple[str, ...]:
        text = os.fspath(path)
        if "\0" in text or len(text.encode(errors="replace")) > PATH_BYTES_MAX:
            raise FileRefused(f"{name} is not a file name")
        return self._below(text, name) if text.startswith("/") else _plain(PurePosixPath(text).parts, name)

    def _below(self, path: str, name: str) -> tuple[str, ...]:
        parts = _absolute(path)
        for root in self._spellings:
            if parts[: len(root)] == root:
                return _plain(parts[len(root) :], name)
        raise _outside(name)

    def _resolve(self, root: int, parts: Sequence[str], name: str) -> int:
        if not parts:
            return os.open(".", PINNED, dir_fd=root)
        if self._openat2 is None:
            self._openat2 = _openat2_works(root)
        if self._openat2:
            try:
                return _openat2(root, "/".join(parts))
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ELOOP, errno.EAGAIN):
                    raise
        return self._walk(root, deque(parts), name)

    def _walk(self, root: int, parts: deque[str], name: str) -> int:
        """Resolve a name part by part; every directory on the way stays open, so that ``..`` is exact."""
        links = 0
        with contextlib.ExitStack() as opened:
            way = [root]
            while parts:
                part = parts.popleft()
                if part == "..":
                    if len(way) == 1:
                        raise _outside(name)
                    way.pop()
                    continue
                fd = _pin(part, way[-1])
                opened.callback(os.close, fd)
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    way.append(fd)
                    continue
                links += 1
                if links > LINKS_MAX:
                    raise FileRefused(f"{name} has too many links in its path")
                target = os.readlink("", dir_fd=fd)
                if target.startswith("/"):
                    way = [root]
                    target = self._linked(target, name)
                parts.extendleft(reversed(PurePosixPath(target).parts))
            return os.open(".", PINNED, dir_fd=root) if len(way) == 1 else os.dup(way[-1])

    def _linked(self, target: str, name: str) -> str:
        """Return the part of an absolute link below the root, including ``..``, which are resolved later."""
        parts = _absolute(target)
        for root in self._spellings:
            if parts[: len(root)] == root:
                return "/".join(parts[len(root) :])
        raise _outside(name)

    def _reopen(self, fd: int, flags: int, name: str) -> int:
        """Open for reading the object of a descriptor, independent of its name."""
        try:
            return os.open(f"/proc/self/fd/{fd}", flags)
        except OSError as error:
            raise _refusal(error, name) from error


def local_path(uri: str, path_map: Sequence[tuple[str, str]] = ()) -> Path:
    """Return the first of :func:`local_paths`.

    >>> str(local_path("file://localhost/writer/a%20b.h5", [("/writer", "/mnt/visit")]))
    '/mnt/visit/a b.h5'
    """
    return _local(readings(uri)[0], path_map)


def local_paths(uri: str, path_map: Sequence[tuple[str, str]] = ()) -> tuple[Path, ...]:
    """Return the possible paths of a writer's URI on this machine, in the order to try.

    The longest matching prefix of ``path_map`` is replaced; whole parts are compared, so ``/data`` is no prefix of
    ``/database``. A host in the URI is ignored.

    Args:
        uri: ``file://localhost/dls/x.h5``, ``file:///dls/x.h5`` (percent-encoded), or a plain absolute path.
        path_map: pairs of the writer's prefix and the local one.

    Returns:
        One path, or two if decoding makes a difference: the decoded one, then the unchanged one.

    Raises:
        FileRefused: that is no absolute path of a file, or contains ``..``.

    >>> [str(path) for path in local_paths("file:///writer/10%25", [("/writer", "/mnt/visit")])]
    ['/mnt/visit/10%', '/mnt/visit/10%25']
    """
    return tuple(_local(path, path_map) for path in readings(uri))


def _local(path: str, path_map: Sequence[tuple[str, str]]) -> Path:
    name = shown(path)
    if not path.startswith("/") or "\0" in path:
        raise FileRefused(f"{name} is not an absolute path or a file:// URI")
    parts = _plain(_absolute(path), name)
    fitting = [(_absolute(writer), local) for writer, local in path_map]
    fitting = [(writer, local) for writer, local in fitting if parts[: len(writer)] == writer]
    if not fitting:
        return Path(*parts)
    writer, local = max(fitting, key=lambda pair: len(pair[0]))
    return Path(local, *parts[len(writer) :])


def shown(name: object) -> str:
    """Return an untrusted name for a message: one line, printable, of bounded length."""
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else str(name)
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text)[:300])
    return f"{text[:200]}..." if len(text) > 200 else text or "(no name)"


def _actual(fd: int) -> Path:
    """Return the path of a descriptor's file or directory, with links resolved."""
    return Path(f"/proc/self/fd/{fd}").readlink()


def _pin(part: str, directory: int) -> int:
    """Return a descriptor (``O_PATH``) of an entry of a directory, without following a link."""
    try:
        # O_DIRECTORY triggers mounts on demand
        return os.open(part, PINNED | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=directory)
    except NotADirectoryError:
        return os.open(part, PINNED | os.O_NOFOLLOW, dir_fd=directory)


def _absolute(path: str) -> tuple[str, ...]:
    """Return the parts of an absolute path; two slashes at its beginning count as one."""
    return PurePosixPath(f"/{path.lstrip('/')}").parts


def _plain(parts: Sequence[str], name: str) -> tuple[str, ...]:
    if ".." in parts:
        raise _outside(name)
    return tuple(parts)


def _outside(name: str) -> FileRefused:
    return FileRefused(f"{name} is not in the data root, or links to a place outside it")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _refusal(error: OSError | ValueError, name: str) -> FileRefused | FileNotReady:
    """Translate an error of the kernel about a file in the root."""
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    if number in (errno.ENOENT, errno.ENOTDIR):
        return FileMissing(f"{name} is not there (yet)")
    if number in (errno.EACCES, errno.EPERM):
        return FileRefused(f"{name} is not readable for the account of snakemap")
    if number in (errno.EXDEV, errno.ELOOP, errno.EINVAL, errno.ENAMETOOLONG, errno.ENXIO):
        return _outside(name)
    return FileNotReady(f"{name} cannot be opened at the moment: {os.strerror(number or errno.EIO)}")


def _openat2(root: int, name: str) -> int:
    how = struct.pack("QQQ", PINNED, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    return _syscall(OPENAT2, root, os.fsencode(name), how, ctypes.c_size_t(len(how)))


def _openat2_works(root: int) -> bool:
    """Return whether ``openat2`` works, cached: old kernels lack it, and old containers forbid it."""
    try:
        os.close(_openat2(root, "."))
    except OSError:
        return False
    return True


LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_VERSION, LANDLOCK_PATH_BENEATH = 1, 1
PR_SET_NO_NEW_PRIVS = 38
READ_FILE, READ_DIRECTORY = 1 << 2, 1 << 3
RIGHTS = (13, 14, 15, 15, 16)
"""Number of file rights in each version of Landlock, from 1 on; 16 from version 5 on."""


def restrict_process(readable: Iterable[Path]) -> bool:
    """Confine this process with Landlock, permanently: it can read below given paths, and little else.

    It can write no file, run no program, open no connection, and signal no other process, as far as the kernel's
    version of Landlock supports. Open descriptors stay open.

    Args:
        readable: readable directories and files; missing ones are ignored.

    Returns:
        Whether the kernel does it; if not, nothing changed.
    """
    try:
        version = _syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(LANDLOCK_VERSION))
        files = (1 << RIGHTS[min(version, len(RIGHTS)) - 1]) - 1
        attributes = [files, *([0b11] if version >= 4 else []), *([0b11] if version >= 6 else [])]
        packed = struct.pack(f"{len(attributes)}Q", *attributes)
        ruleset = _syscall(LANDLOCK_CREATE_RULESET, packed, ctypes.c_size_t(len(packed)), ctypes.c_uint32(0))
        try:
            for path in readable:
                _allow(ruleset, path)
            _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            _syscall(LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
        finally:
            os.close(ruleset)
    except OSError as error:
        logger.info("this kernel does not confine processes (Landlock): %s", error)
        return False
    return True


def _allow(ruleset: int, path: Path) -> None:
    try:
        fd = os.open(path, PINNED)
    except OSError:
        return
    try:
        rights = READ_FILE | READ_DIRECTORY if stat.S_ISDIR(os.fstat(fd).st_mode) else READ_FILE
        rule = struct.pack("=Qi", rights, fd)
        _syscall(LANDLOCK_ADD_RULE, ruleset, ctypes.c_int(LANDLOCK_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _syscall(number: int, *arguments: object) -> int:
    return _check(libc.syscall(ctypes.c_long(number), *arguments))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
