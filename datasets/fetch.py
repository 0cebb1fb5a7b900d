"""Get a public archive, folder or git repository, and read the files in it without unpacking it.

Only whole downloads get their final name. One that broke off goes on where it stopped if the server allows that. Those
that do not, GitHub's archives of a branch among them, send everything again, and a git clone starts over, too; both say
so when they begin.
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

# What zipfile, tarfile and the decompressors raise for a damaged archive (RuntimeError: for an encrypted one).
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError)


def fetch(source: str, folder: Path, name: str) -> Path:
    """The local copy of ``source``: itself if it is one, otherwise what is fetched into ``folder``, once."""
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
    """Fetch ``url`` into the file ``part``, going on where it ends if the server can; UserError if not all came."""
    have = part.stat().st_size if part.is_file() else 0
    hint = "run the same command again"
    # Asking for a range from the first time on tells whether the server can go on later.
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
            length = response.headers["Content-Length"]  # GitHub sends none with an archive it has just made
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
        if have and isinstance(error, urllib.error.HTTPError) and error.code == 416:  # nothing follows what we have
            part.unlink()
            return download(url, part)
        raise UserError(f"{url}: {error}; {hint}") from error


def clone(url: str, part: Path) -> None:
    """Clone the last commit of the repository ``url`` into the folder ``part``, anew if it is there."""
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
    """The files of a folder or an archive: their paths in it in ``names``, as they are stored, and ``read(name)``."""

    def __init__(self, path: Path):
        self.path = path
        with self._damage_named():
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
        # Nothing is ever written under a path taken from here, but no honest archive has such paths either.
        outside = next((name for name in self.names if name.startswith("/") or ".." in re.split(r"[/\\]", name)), None)
        if outside is not None:
            raise UserError(f"{path}: holds {outside}, a path that leads out of it; do not use it")

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            raise UserError(
                f"{self.path}: cannot be read ({error}); if it is a damaged download, delete it and fetch it again"
            ) from error

    def read(self, name: str) -> bytes:
        with self._damage_named():
            return self._read(name)

    def contents(self, folders: Collection[str]) -> Contents:
        """The files of each of ``folders``, which lie below one parent.

        The parent may lie some folders deep; of several, the shallowest that holds most of ``folders`` counts.
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
