"""Fetch a public archive, folder or git repository, and read its files without unpacking it.

Only complete downloads get their final name. An interrupted download resumes where it stopped if the server supports
that. Otherwise (for GitHub's archives of a branch, for example) it starts over, as a git clone does; a message says so
at the start.
"""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.files.writing import check_writable

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
Contents = dict[str, dict[str, str]]  # {folder: {file name: name in the Source}}

# Exceptions of zipfile, tarfile and the decompressors for a damaged archive (RuntimeError for an encrypted one).
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError)


def fetch(source: str, folder: Path, name: str) -> Path:
    """Return ``source`` if it is a local path; otherwise fetch it into ``folder``, once, and return that path."""
    if Path(source).exists():
        return Path(source)
    if "://" not in source and not source.endswith(".git"):
        raise UserError(f"{source}: no such file or folder, and not a URL")
    kind = next((kind for kind in (".git", *ARCHIVES) if urllib.parse.urlparse(source).path.endswith(kind)), None)
    if kind is None:
        raise UserError(f"{source}: neither an archive ({', '.join(ARCHIVES)}) nor a git repository (.git)")
    check_writable(folder)
    path = folder / f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}{kind}"
    if not path.exists():
        part = path.with_name(path.name + ".part")
        (clone if kind == ".git" else download)(source, part)
        part.rename(path)
    return path


def download(url: str, part: Path) -> None:
    """Download ``url`` to the file ``part``, and resume it if possible; raises UserError if it is incomplete."""
    have = part.stat().st_size if part.is_file() else 0
    hint = "run the same command again"
    # A range is requested even the first time, to learn whether the server can resume a download.
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            if response.status == http.HTTPStatus.PARTIAL_CONTENT:
                hint += " to go on"
            else:
                have = 0
                hint += "; it starts over, since the server cannot go on"
                if response.status == http.HTTPStatus.OK:  # a file:// URL has no status
                    print(f"{url}: the server cannot go on with a download that breaks off; it starts over", flush=True)
            length = response.headers["Content-Length"]  # GitHub sends none with a freshly built archive
            total = None if length is None else have + int(length)
            with (
                part.open("ab" if have else "wb") as file,
                tqdm(desc=url, initial=have, total=total, unit="B", unit_scale=True, disable=None) as bar,
            ):
                while block := response.read(1 << 20):
                    bar.update(file.write(block))
        size = part.stat().st_size
        if total is not None and size != total:
            raise OSError(f"ended after {size} of {total} bytes")
    except (OSError, http.client.HTTPException) as error:
        if have and isinstance(error, urllib.error.HTTPError) and error.code == 416:  # the range is empty
            part.unlink()
            return download(url, part)
        reason = error.reason if type(error) is urllib.error.URLError else error  # its text wraps the reason in <>
        raise UserError(f"{url}: {reason}; {hint}") from error


def clone(url: str, part: Path) -> None:
    """Clone the last commit of the repository ``url`` into the folder ``part``, which is replaced if it exists."""
    if part.exists():
        shutil.rmtree(part)
    print(f"{url}: git cannot go on with a clone that breaks off; it starts over", flush=True)
    command = ["git", "clone", "--quiet", "--depth", "1", "--", url, str(part)]
    try:
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})
    except FileNotFoundError as error:
        raise UserError(f"{url}: git is not installed; install it, or give an archive as --source") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise UserError(f"{url}: {reason}; run the same command again; it starts over") from error


class Source:
    """The files of a folder or an archive: ``names``, their relative paths in storage order, and ``read(name)``."""

    def __init__(self, path: Path):
        self.path = path
        with self._name_damage():
            if path.is_dir():
                files = (file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file())
                self.names = [file.as_posix() for file in files]
                self._read = lambda name: (path / name).read_bytes()
            elif path.name.endswith(".zip"):
                archive = zipfile.ZipFile(path)
                self.names = [name for name in archive.namelist() if not name.endswith("/")]
                self._read = archive.read
            elif path.name.endswith(ARCHIVES):
                archive = tarfile.open(path)
                members = {member.name: member for member in archive.getmembers() if member.isfile()}
                self.names, self._read = list(members), lambda name: archive.extractfile(members[name]).read()
            else:
                raise UserError(f"{path}: neither a folder nor an archive ({', '.join(ARCHIVES)})")
        # No file is written under a path from an archive, but no legitimate archive contains such paths either.
        outside = next((name for name in self.names if name.startswith("/") or ".." in re.split(r"[/\\]", name)), None)
        if outside is not None:
            raise UserError(f"{path}: holds {outside}, a path that leads out of it; do not use it")

    @contextlib.contextmanager
    def _name_damage(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            raise UserError(
                f"{self.path}: cannot be read ({error}); if it is a damaged download, delete it and fetch it again"
            ) from error

    def read(self, name: str) -> bytes:
        with self._name_damage():
            return self._read(name)

    def contents(self, folders: Collection[str]) -> Contents:
        """List the files of each of ``folders``, which have a common parent.

        The parent may be nested; of several candidates, the shallowest of those with the most ``folders`` is used.
        """
        files: Contents = defaultdict(dict)
        for name in self.names:
            folder, _, file = name.rpartition("/")
            files[folder][file] = name
        tops = {folder.removesuffix(end) for folder in files for end in folders if f"/{folder}".endswith(f"/{end}")}
        missing = {top: [end for end in folders if top + end not in files] for top in tops} or {"": list(folders)}
        top = min(missing, key=lambda top: (len(missing[top]), top.count("/"), top))
        if missing[top]:
            raise UserError(f"{self.path}: no files in {', '.join(missing[top])}; this is not the whole data set")
        return {end: files[top + end] for end in folders}
