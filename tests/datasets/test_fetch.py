"""Fetching public archives and repositories: interrupted downloads, damaged and malicious archives, clones."""

import contextlib
import io
import shutil
import subprocess
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datasets.fetch import Source, clone, download, fetch
from utils.errors import UserError

FILES = {f"{folder}/{name}": f"{folder}, {name}".encode() * 99 for folder in ("a/ir", "a/vi") for name in "123"}


def pack(path, files, top=""):
    """Write an archive of ``files``, {path: content}, below the folder ``top``."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{top}a/", "")
            for name, data in files.items():
                archive.writestr(top + name, data)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(top + name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def unpack(folder, files=FILES):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def everything(source):
    return {name: source.read(name) for name in source.names}


# Fetching


@contextlib.contextmanager
def served(data, ranges, break_at=None, sized=True):
    """Serve ``data``, without ``ranges`` always from its start; the first answer breaks off at ``break_at`` bytes.

    Unless ``sized``, it comes in chunks, and no length is given.
    """
    requests = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked = self.headers["Range"]
            requests.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if ranges else 0
            self.close_connection = True
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if ranges else 200)
            size = ("Content-Length", str(len(data) - start)) if sized else ("Transfer-Encoding", "chunked")
            self.send_header(*size)
            self.end_headers()
            broken = break_at is not None and len(requests) == 1
            sent = data[start : break_at if broken else None]
            if sized:
                self.wfile.write(sent)
            else:
                self.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n" + (b"" if broken else b"0\r\n\r\n"))

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/archive/main.zip", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


DATA = bytes(range(256)) * 20


@pytest.mark.parametrize("sized", (True, False))
@pytest.mark.parametrize("ranges", (True, False))
def test_a_download_that_broke_off(tmp_path, capsys, ranges, sized):
    hint = "to go on$" if ranges else "; it starts over, since the server cannot go on$"
    with served(DATA, ranges, break_at=1000, sized=sized) as (url, requests):
        with pytest.raises(UserError, match=f"^{url}: .*; run the same command again ?{hint}") as error:
            fetch(url, tmp_path / "downloads", "S")
        assert "\n" not in str(error.value) and ("1000 of 5120 bytes" in str(error.value) or not sized)
        (part,) = (tmp_path / "downloads").iterdir()
        have = part.stat().st_size
        assert part.suffix == ".part" and part.read_bytes() == DATA[:have] and (have == 1000 or not sized)
        path = fetch(url, tmp_path / "downloads", "S")
        assert requests == ["bytes=0-", f"bytes={have}-"]
        assert fetch(url, tmp_path / "downloads", "S") == path and len(requests) == 2  # it is there
    assert list((tmp_path / "downloads").iterdir()) == [path]
    assert path.name.startswith("S-") and path.suffix == ".zip" and path.read_bytes() == DATA
    note = f"{url}: the server cannot go on with a download that breaks off; it starts over\n"
    assert capsys.readouterr().out == ("" if ranges else 2 * note)


def test_two_urls_are_two_files(tmp_path):
    files = [pack(tmp_path / name, FILES) for name in ("a.zip", "b.tar.gz")]
    paths = {fetch(file.as_uri(), tmp_path / "downloads", "S") for file in files}
    assert {path.read_bytes() for path in paths} == {file.read_bytes() for file in files}
    assert all(everything(Source(path)) == FILES for path in paths)


def test_a_part_that_nothing_follows_is_fetched_anew(tmp_path):
    part = tmp_path / "x.part"
    part.write_bytes(b"12345")
    with served(b"abcde", ranges=True) as (url, requests):
        download(url, part)
    assert part.read_bytes() == b"abcde" and requests == ["bytes=5-", "bytes=0-"]


def test_a_server_that_does_not_answer(tmp_path):
    with served(b"", ranges=False) as (url, _):
        pass
    with pytest.raises(UserError, match=f"{url}: .*refused.*; run the same command again$"):
        fetch(url, tmp_path, "S")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_git_repository(tmp_path):
    work, url = unpack(tmp_path / "work"), (tmp_path / "S.git").as_uri()
    with pytest.raises(UserError, match=f"^{url}: .*S.git.*; run the same command again; it starts over$") as error:
        fetch(url, tmp_path / "downloads", "S")
    assert "\n" not in str(error.value)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", str(work), *arguments], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(tmp_path / "S.git")], check=True)
    path = fetch(url, tmp_path / "downloads", "S")
    assert FILES.items() <= everything(Source(path)).items()
    half = unpack(tmp_path / "half.part", {"rest": b"of an interrupted clone"})
    clone(url, half)
    assert (half / "a").exists() and not (half / "rest").exists()


@pytest.mark.parametrize(
    "source, message",
    (("nowhere", "nowhere: no such file or folder, and not a URL"), ("https://e.com/x.rar", "x.rar: neither an arch")),
)
def test_sources_of_no_kind(tmp_path, source, message):
    with pytest.raises(UserError, match=message):
        fetch(source, tmp_path / "downloads", "S")
    assert not (tmp_path / "downloads").exists()


# Reading


def test_what_is_here_is_read_where_it_is(tmp_path):
    folder = unpack(tmp_path / "folder")
    assert fetch(str(folder), tmp_path / "downloads", "S") == folder
    assert everything(Source(folder)) == FILES
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        assert everything(Source(pack(tmp_path / name, FILES))) == FILES
    with pytest.raises(UserError, match="test_fetch.py: neither a folder nor an archive"):
        Source(type(folder)(__file__))


@pytest.mark.parametrize("top", ("", "S-main/", "downloads/sets/S-main/"))
def test_folders_are_found_some_folders_deep(tmp_path, top):
    decoys = {f"{top}old/{name}": data for name, data in FILES.items()} | {f"{top}xa/ir/4": b"", "ir/5": b""}
    source = Source(pack(tmp_path / "a.zip", decoys | {top + name: data for name, data in FILES.items()}))
    expected = {folder: {name: f"{top}{folder}/{name}" for name in "123"} for folder in ("a/ir", "a/vi")}
    assert source.contents(["a/ir", "a/vi"]) == expected


def test_folders_that_are_not_there_are_named(tmp_path):
    source = Source(pack(tmp_path / "a.zip", FILES))
    for folders, missing in ((["a/ir", "a/label"], "a/label"), (["b", "c"], "b, c")):
        with pytest.raises(UserError, match=f"a.zip: no files in {missing}; this is not the whole data set"):
            source.contents(folders)


@pytest.mark.parametrize("name", ("a.zip", "a.tar", "a.tar.gz"))
def test_a_truncated_archive(tmp_path, name):
    archive = pack(tmp_path / name, {"a/1": bytes(999), "a/2": bytes(99999)})
    archive.write_bytes(archive.read_bytes()[: 50000 if name == "a.tar" else -30])
    with pytest.raises(UserError, match=f"{name}: cannot be read .*delete it and fetch it again"):
        everything(Source(archive))


def test_an_archive_damaged_in_the_middle(tmp_path):
    archive = pack(tmp_path / "a.zip", FILES)
    data = bytearray(archive.read_bytes())
    data[data.index(b"a/vi/1") + 10] ^= 255
    archive.write_bytes(data)
    with pytest.raises(UserError, match="a.zip: cannot be read .*delete it and fetch it again"):
        everything(Source(archive))


@pytest.mark.parametrize("name", ("a.zip", "a.tar.gz"))
@pytest.mark.parametrize("path", ("S/../../evil.png", "/evil.png", "S/a/ir/..\\evil.png"))
def test_paths_that_lead_out_of_an_archive(tmp_path, name, path):
    with pytest.raises(UserError, match="evil.png, a path that leads out of it; do not use it"):
        Source(pack(tmp_path / name, FILES | {path: b"evil"}))


def test_links_in_an_archive_are_not_followed(tmp_path):
    archive = pack(tmp_path / "a.tar", FILES)
    with tarfile.open(archive, "a") as file:
        member = tarfile.TarInfo("a/ir/4")
        member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "a.tar")
        file.addfile(member)
    assert everything(Source(archive)) == FILES
