"""Downloads, from web servers on this machine that behave as badly as real ones."""

import errno
import gzip
import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tinynet.data import cifar10, download, load, mnist
from tinynet.data.download import REMOTES, Remote, fetch

NAME = "a-file.gz"
NOISE = hashlib.shake_256(b"some bytes that nobody can guess").digest(300_000)
CONTENT = b"\x1f\x8b" + NOISE[:99_998] + b"<" + NOISE[99_998:]  # byte 100,000 begins as a web page does
PAGE = b"  <!DOCTYPE html><html><body>Welcome to Hotel Wifi, please log in</body></html>"


class Mirror(ThreadingHTTPServer):
    """Follows `script`, one step a request, then is honest; notes every request's Range and how much it sent."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.script, self.asked, self.sent = files, [], [], []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        mirror = self.server
        mirror.asked.append(self.headers.get("Range"))
        mirror.path, mirror.accepts = self.path, self.headers["Accept-Encoding"]
        step = mirror.script.pop(0) if mirror.script else honest
        step(self, mirror.files.get(self.path.split("/")[-1], b""))

    def answer(self, status, content, *, promise=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(promise or len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.server.sent.append(len(content))  # before it goes, for the test may read it as soon as the last byte came
        self.wfile.write(content)

    def log_message(self, *args):
        pass


def honest(handler, content, most=None):
    start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    rest = content[start:]
    status, headers = (
        (206, {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}) if start else (200, {})
    )
    handler.answer(status, rest[:most], promise=len(rest), **headers)


def cut(most):
    return lambda handler, content: honest(handler, content, most)


def without_range(handler, content, most=None):
    handler.answer(200, content[:most], promise=len(content))


def wrong(handler, content):
    handler.answer(200, bytes(len(content)))


def page(handler, content):
    handler.answer(200, PAGE)


def refuse(status):
    return lambda handler, content: handler.answer(status, PAGE, Content_Type="text/html")


@contextmanager
def serving(*mirrors_files):
    mirrors = [Mirror(files) for files in mirrors_files]
    threads = [threading.Thread(target=mirror.serve_forever, args=(0.01,)) for mirror in mirrors]
    for thread in threads:
        thread.start()
    try:
        yield mirrors
    finally:
        for mirror, thread in zip(mirrors, threads, strict=True):
            mirror.closing.set()
            mirror.shutdown()
            mirror.server_close()
            thread.join()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirrors(monkeypatch):
    with serving({NAME: CONTENT}, {NAME: CONTENT}) as both:
        use(monkeypatch, [mirror.url for mirror in both])
        yield both


def use(monkeypatch, urls, files=None, batches=None, name="mnist"):
    files = {file: (len(content), sha256(content)) for file, content in (files or {NAME: CONTENT}).items()}
    monkeypatch.setitem(REMOTES, name, Remote(tuple(urls), files, batches or {}))


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "fetch.lock"}


GOOD = {NAME: CONTENT}


def test_a_good_file_comes_once(mirrors, tmp_path):
    for _ in range(2):
        assert fetch("mnist", tmp_path / "über") == tmp_path / "über" / "mnist"
        assert content_of(tmp_path / "über" / "mnist") == GOOD
    assert mirrors[0].asked == [None]
    assert mirrors[0].accepts == "identity"
    assert mirrors[1].asked == []


def test_without_a_folder_the_cache_is_taken(mirrors, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "cache"))
    assert fetch("mnist") == tmp_path / "cache" / "mnist"
    assert content_of(tmp_path / "cache" / "mnist") == GOOD


def test_a_broken_download_goes_on_where_it_stopped(mirrors, tmp_path):
    mirrors[0].script = [cut(100_000), cut(50_000)]
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == [None, "bytes=100000-", "bytes=150000-"]
    assert mirrors[0].sent == [100_000, 50_000, len(CONTENT) - 150_000]
    assert mirrors[1].asked == []


def test_a_later_call_goes_on_too_and_at_another_mirror(mirrors, tmp_path):
    mirrors[0].script, mirrors[1].script = [cut(100_000), refuse(503)], [refuse(404)]
    with pytest.raises(ConnectionError, match=r"(?s)HTTP 503 Service Unavailable\n.*HTTP 404 Not Found\n"):
        fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == {NAME + ".part": CONTENT[:100_000]}
    mirrors[0].script = [refuse(503)]
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[1].asked[-1] == "bytes=100000-"
    assert mirrors[1].sent[-1] == len(CONTENT) - 100_000


@pytest.mark.parametrize(
    ("status", "lie"),
    [
        (206, {}),
        (206, {"Content_Range": "bytes 0-300002/300003"}),
        (206, {"Content_Range": "bytes 99999-300002/300003"}),
        (500, {"Content_Range": "bytes 100000-300002/300003"}),
    ],
)
def test_a_part_of_the_wrong_place_is_not_taken(mirrors, tmp_path, status, lie):
    mirrors[0].script = [cut(100_000), lambda handler, content: handler.answer(status, bytes(200_003), **lie)]
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[1].asked == ["bytes=100000-"]


def test_a_server_that_does_not_say_how_much_it_sends_may_break_too(mirrors, tmp_path):
    def short(handler, content):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content[:100_000])

    mirrors[0].script, mirrors[1].script = [short, refuse(404)], [refuse(404)]
    with pytest.raises(ConnectionError):
        fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == {NAME + ".part": CONTENT[:100_000]}
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == [None, "bytes=100000-", "bytes=100000-"]


def test_the_reason_is_never_what_the_caller_was_about(mirrors, tmp_path):
    for mirror in mirrors:
        mirror.script = [cut(0), cut(0)]
    try:
        raise FileNotFoundError(errno.ENOENT, "the caller's own trouble")
    except FileNotFoundError:
        with pytest.raises(ConnectionError, match=r"broke off \(ProtocolError\)") as caught:
            fetch("mnist", tmp_path)
    assert "trouble" not in str(caught.value)


def test_a_server_without_range_sends_all_again(mirrors, tmp_path):
    mirrors[0].script = [cut(100_000), without_range]
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].sent == [100_000, len(CONTENT)]


def test_a_server_without_range_that_always_breaks_is_left_in_the_end(mirrors, tmp_path):
    mirrors[0].script = [lambda handler, content: without_range(handler, content, 70_000)] * 9
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].sent == [70_000, 70_000]
    assert mirrors[1].asked == ["bytes=70000-"]


@pytest.mark.parametrize("part", [b"wrong" * 1000, bytes(len(CONTENT)), bytes(len(CONTENT) + 5), PAGE])
def test_a_wrong_part_is_thrown_away(mirrors, tmp_path, part):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{NAME}.part").write_bytes(part)
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked[-1] is None
    assert mirrors[1].asked == []


def test_a_whole_part_needs_no_request(mirrors, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{NAME}.part").write_bytes(CONTENT)
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == []


@pytest.mark.parametrize("step", [wrong, page, refuse(404), cut(0), lambda handler, content: handler.answer(200, b"")])
def test_the_second_mirror_helps(mirrors, tmp_path, step):
    mirrors[0].script = [step]
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == mirrors[1].asked == [None]


def test_half_a_wrong_file_of_one_mirror_does_not_spoil_the_other(mirrors, tmp_path):
    mirrors[0].script = [lambda handler, content: handler.answer(200, bytes(99_999), promise=len(content)), refuse(500)]
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[1].asked == ["bytes=99999-", None]


def test_a_mirror_that_breaks_and_is_wrong_is_started_anew_once_only(mirrors, tmp_path):
    def wrong_rest(handler, content):
        handler.answer(
            206, bytes(len(content) - 70_000), Content_Range=f"bytes 70000-{len(content) - 1}/{len(content)}"
        )

    mirrors[0].script = [lambda handler, content: without_range(handler, content, 70_000), wrong_rest] * 5
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == [None, "bytes=70000-"] * 2
    assert mirrors[1].asked == [None]


def test_an_endless_file_is_not_read_to_its_end(mirrors, tmp_path):
    def endless(handler, content):
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while not handler.server.closing.is_set():
                handler.wfile.write(b"x" * 65_536)

    mirrors[0].script, mirrors[1].script = [endless], [refuse(404)]
    with pytest.raises(ConnectionError, match="another file came: its checksum is wrong"):
        fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == {}


def test_a_web_page_instead_of_the_file_is_told(mirrors, tmp_path):
    mirrors[0].script = [page]
    mirrors[1].script = [lambda handler, content: handler.answer(200, content, Content_Type="text/html; charset=utf-8")]
    with pytest.raises(
        ConnectionError, match="a web page came instead of the file: does the network ask for a login"
    ) as e:
        fetch("mnist", tmp_path)
    assert str(e.value).count("a web page came") == 2
    assert content_of(tmp_path / "mnist") == {}


def test_a_web_page_does_not_cost_what_has_come(mirrors, tmp_path):
    mirrors[0].script, mirrors[1].script = [cut(100_000), page], [page]
    with pytest.raises(ConnectionError, match="a web page came"):
        fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == {f"{NAME}.part": CONTENT[:100_000]}


def test_a_packed_transfer_is_kept_as_it_is(mirrors, tmp_path):
    mirrors[0].script = [lambda handler, content: handler.answer(200, content, Content_Encoding="x-gzip")]
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[1].asked == []


def test_without_a_network_the_message_is_short_and_says_what_to_do(tmp_path, monkeypatch):
    with serving({}) as gone:
        urls = [gone[0].url, "http://no-such-host.invalid/data/"]
    use(monkeypatch, urls)
    look_up = socket.getaddrinfo

    def no_name_server(host, *args, **options):
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", no_name_server)
    with pytest.raises(ConnectionError) as caught:
        fetch("mnist", tmp_path)
    message = str(caught.value)
    assert f"{urls[1]}{NAME}: Name or service not known\n" in message
    for url in urls:
        assert f"  {url}{NAME}: " in message
    assert f"put {NAME} into {tmp_path / 'mnist'}" in message
    assert "or put them into any folder that --data-dir names." in message
    assert len(message.splitlines()) == 5
    assert max(map(len, message.splitlines())) < 250 + len(str(tmp_path))
    assert not any(word in message for word in ("HTTPConnectionPool", "Traceback", "object at"))


def test_a_silent_server_is_left(mirrors, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.1))
    get, limits = requests.get, []

    def noting(url, **options):
        limits.append(options["timeout"])
        return get(url, **options)

    monkeypatch.setattr(requests, "get", noting)
    mirrors[0].script = [lambda handler, content: handler.server.closing.wait()]
    mirrors[1].script = [cut(1000), lambda handler, content: handler.server.closing.wait()]
    with pytest.raises(ConnectionError) as caught:
        fetch("mnist", tmp_path)
    assert str(caught.value).count("no answer in time") == 2
    assert set(limits) == {(1, 0.1)}


def test_a_proxy_is_used_and_named_when_it_is_gone(mirrors, tmp_path, monkeypatch):
    use(monkeypatch, ["http://mirror.invalid/data/"])
    monkeypatch.setenv("HTTP_PROXY", mirrors[0].url)
    fetch("mnist", tmp_path / "a")
    assert mirrors[0].path == f"http://mirror.invalid/data/{NAME}"
    with serving({}) as gone:
        monkeypatch.setenv("HTTP_PROXY", gone[0].url)
    with pytest.raises(ConnectionError, match=f"{NAME}: proxy: "):
        fetch("mnist", tmp_path / "b")


def test_a_wrong_file_is_fetched_anew_and_stays_until_then(mirrors, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / NAME).write_bytes(b"mine")
    mirrors[0].script, mirrors[1].script = [wrong], [wrong]
    with pytest.raises(ConnectionError, match="its checksum is wrong"):
        fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == {NAME: b"mine"}
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD


def test_what_is_complete_is_not_written_to(mirrors, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / NAME).write_bytes(CONTENT)
    assert fetch("mnist", tmp_path) == tmp_path / "mnist"
    assert os.listdir(tmp_path / "mnist") == [NAME]
    assert mirrors[0].asked == []


def test_a_folder_that_cannot_be_is_named(mirrors, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"fetch: expected to keep mnist in .*TINYNET_CACHE") as caught:
        fetch("mnist", tmp_path / "file")
    assert str(tmp_path / "file" / "mnist") in str(caught.value)
    assert not isinstance(caught.value, ConnectionError)


def test_a_full_disk_is_told_and_what_fitted_is_kept(mirrors, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 150_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(download, "open", lambda path, mode: Full(path, mode.replace("b", "")), raising=False)
    with pytest.raises(OSError, match=f"{os.strerror(errno.ENOSPC)}; make room there") as caught:
        fetch("mnist", tmp_path)
    assert not isinstance(caught.value, ConnectionError)
    assert len(mirrors[0].asked + mirrors[1].asked) == 1
    monkeypatch.undo()
    part = content_of(tmp_path / "mnist")[f"{NAME}.part"]
    assert part == CONTENT[: len(part)]


def test_ctrl_c_keeps_the_part(mirrors, tmp_path, monkeypatch):
    class Bar(download.tqdm):
        def update(self, n=1):
            super().update(n)
            if n and mirrors[0].asked == [None]:
                raise KeyboardInterrupt

    monkeypatch.setattr(download, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        fetch("mnist", tmp_path)
    ((name, part),) = content_of(tmp_path / "mnist").items()
    assert (name, part) == (f"{NAME}.part", CONTENT[: len(part)])
    assert 0 < len(part) < len(CONTENT)
    fetch("mnist", tmp_path)
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == [None, f"bytes={len(part)}-"]


def test_threads_fetch_once(mirrors, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: fetch("mnist", tmp_path), range(4)))
    assert folders == {tmp_path / "mnist"}
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == [None]


def test_processes_fetch_once(mirrors, tmp_path):
    program = f"""if True:
        from tinynet.data.download import REMOTES, Remote, fetch
        REMOTES["mnist"] = Remote(({mirrors[0].url!r},), {{{NAME!r}: ({len(CONTENT)}, {sha256(CONTENT)!r})}})
        fetch("mnist", {str(tmp_path)!r})"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert content_of(tmp_path / "mnist") == GOOD
    assert mirrors[0].asked == [None]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_drawn_on_terminals_if_asked_for(mirrors, tmp_path, monkeypatch):
    for folder, stderr, progress, drawn in (
        ("a", Terminal(), True, True),
        ("b", Terminal(), False, False),
        ("c", io.StringIO(), True, False),
    ):
        monkeypatch.setattr(sys, "stderr", stderr)
        mirrors[0].script = [cut(100_000)]
        fetch("mnist", tmp_path / folder, progress=progress)
        assert (f"{NAME}: 100%" in stderr.getvalue()) == drawn == (stderr.getvalue() != "")


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="fetch: expected one of mnist, fashion-mnist, cifar-10; got 'imagenet'"):
        fetch("imagenet", tmp_path)


steps = st.one_of(
    st.integers(0, len(CONTENT)).map(cut),
    st.integers(0, len(CONTENT)).map(lambda most: lambda handler, content: without_range(handler, content, most)),
    st.sampled_from([wrong, page, honest, refuse(416), refuse(200)]),
)


@given(first=st.lists(steps, max_size=6), second=st.lists(steps, max_size=6), part=st.booleans())
def test_whatever_servers_do_the_file_is_right_or_missing(tmp_path_factory, first, second, part):
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as monkeypatch, serving(GOOD, GOOD) as mirrors:
        use(monkeypatch, [mirror.url for mirror in mirrors])
        mirrors[0].script, mirrors[1].script = list(first), list(second)
        if part:
            (folder / "mnist").mkdir()
            (folder / "mnist" / f"{NAME}.part").write_bytes(b"rubbish")
        try:
            fetch("mnist", folder)
        except ConnectionError:
            assert NAME not in content_of(folder / "mnist")
        else:
            assert content_of(folder / "mnist") == GOOD
        mirrors[0].script, mirrors[1].script = [], []
        fetch("mnist", folder)
        assert content_of(folder / "mnist") == GOOD


def test_what_came_can_be_read_as_mnist(tmp_path, monkeypatch):
    pictures = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    packed = [
        gzip.compress(struct.pack(">4I", 2051, 2, 28, 28) + pictures.tobytes()),
        gzip.compress(struct.pack(">2I", 2049, 2) + bytes([7, 3])),
    ]
    files = dict(zip(REMOTES["mnist"].files, packed * 2, strict=True))
    with serving(files) as served:
        use(monkeypatch, [served[0].url], files)
        found = mnist("train", fetch("mnist", tmp_path))
        monkeypatch.setenv("TINYNET_CACHE", str(tmp_path))
        train, validation = load("mnist")
    for half in (found, train, validation):
        assert np.array_equal(half.images[:, 0], pictures)
        assert half.labels.tolist() == [7, 3]
    assert len(served[0].asked) == 4


ARCHIVE = "cifar-10-python.tar.gz"
INNER = "cifar-10-batches-py"
BATCHES = {f"{INNER}/data_batch_{i}": b"batch %d" % i * 100 for i in range(1, 6)} | {
    f"{INNER}/test_batch": b"test" * 99
}


def tar(files, *others):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in others:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return packed.getvalue()


def member(name, kind=tarfile.REGTYPE, target="", size=0):
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, target, size
    return found


@contextmanager
def cifar(monkeypatch, packed):
    wanted = {name.split("/")[1]: hashlib.md5(content).hexdigest() for name, content in BATCHES.items()}
    with serving({ARCHIVE: packed}) as served:
        use(monkeypatch, [served[0].url], {ARCHIVE: packed}, wanted, name="cifar-10")
        yield served[0]


def batches_in(folder):
    return {f"{INNER}/{name}": content for name, content in content_of(folder / "cifar-10" / INNER).items()}


def test_only_the_batches_are_taken_out_of_the_archive(tmp_path, monkeypatch):
    outside = str(tmp_path / "evil")
    packed = tar(
        BATCHES | {f"{INNER}/readme.html": PAGE, "../evil": b"x", outside: b"x", f"{INNER}/../evil": b"x"},
        member(f"{INNER}/link", tarfile.SYMTYPE, "/etc"),
        member(f"{INNER}/link/evil", size=1),
        member(f"{INNER}/device", tarfile.CHRTYPE),
    )
    with cifar(monkeypatch, packed) as mirror:
        assert fetch("cifar-10", tmp_path) == tmp_path / "cifar-10"
        assert batches_in(tmp_path) == BATCHES
        assert sorted(os.listdir(tmp_path)) == ["cifar-10"]
        assert set(os.listdir(tmp_path / "cifar-10")) - {"fetch.lock"} == {ARCHIVE, INNER}
        fetch("cifar-10", tmp_path)
        (tmp_path / "cifar-10" / ARCHIVE).unlink()
        fetch("cifar-10", tmp_path)  # the batches are right: no need of the archive
    assert mirror.asked == [None]


def test_threads_unpack_once(tmp_path, monkeypatch):
    unpack, unpacked = download._unpack, []
    monkeypatch.setattr(download, "_unpack", lambda *args: unpacked.append(args) or unpack(*args))
    with cifar(monkeypatch, tar(BATCHES)) as mirror, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: fetch("cifar-10", tmp_path), range(4))) == {tmp_path / "cifar-10"}
    assert batches_in(tmp_path) == BATCHES
    assert len(unpacked) == len(mirror.asked) == 1


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_link_in_the_place_of_a_batch_is_not_followed(tmp_path, monkeypatch, kind):
    files = {name: content for name, content in BATCHES.items() if not name.endswith("test_batch")}
    packed = tar({"test": BATCHES[f"{INNER}/test_batch"]} | files, member(f"{INNER}/test_batch", kind, "test"))
    with cifar(monkeypatch, packed), pytest.raises(ValueError, match=r"got none or others for \['test_batch'\]"):
        fetch("cifar-10", tmp_path)
    assert not (tmp_path / "cifar-10" / INNER).exists()


def test_a_large_file_in_the_archive_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", 5000)
    packed = tar(BATCHES, member("large", size=5001))
    with cifar(monkeypatch, packed), pytest.raises(ValueError, match="files of at most 5,000 bytes, got 5,001"):
        fetch("cifar-10", tmp_path)
    assert not (tmp_path / "cifar-10" / INNER).exists()


def test_a_stop_while_unpacking_leaves_no_half_folder(tmp_path, monkeypatch):
    with cifar(monkeypatch, tar(BATCHES)) as mirror:
        with monkeypatch.context() as stopped:
            copy, copied = download.shutil.copyfileobj, []

            def stop(source, out):
                copy(source, out)
                copied.append(out)
                if len(copied) == 3:
                    raise KeyboardInterrupt

            stopped.setattr(download.shutil, "copyfileobj", stop)
            with pytest.raises(KeyboardInterrupt):
                fetch("cifar-10", tmp_path)
        with pytest.raises(FileNotFoundError):
            cifar10("validation", tmp_path / "cifar-10")
        assert not (tmp_path / "cifar-10" / INNER).exists()
        fetch("cifar-10", tmp_path)
    assert batches_in(tmp_path) == BATCHES
    assert not (tmp_path / "cifar-10" / (INNER + ".part")).exists()
    assert mirror.asked == [None]


def test_damaged_batches_are_put_right_and_other_files_stay(tmp_path, monkeypatch):
    with cifar(monkeypatch, tar(BATCHES)) as mirror:
        folder = fetch("cifar-10", tmp_path)
        (folder / INNER / "data_batch_2").write_bytes(b"damaged")
        (folder / INNER / "data_batch_3").unlink()
        (folder / INNER / "notes").write_bytes(b"mine")
        fetch("cifar-10", tmp_path)
    assert batches_in(tmp_path) == BATCHES | {f"{INNER}/notes": b"mine"}
    assert mirror.asked == [None]
