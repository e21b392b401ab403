"""Where things are kept, and the list of what can be fetched."""

import hashlib
from pathlib import Path

import pooch
import pytest

from tinynet.data.folders import REMOTES, cache_folder


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "Zwischen lager"))
    assert cache_folder() == tmp_path / "Zwischen lager"
    assert not cache_folder().exists()
    monkeypatch.setenv("TINYNET_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"


@pytest.mark.parametrize("empty", [True, False])
def test_without_it_the_users_cache_is_taken(monkeypatch, empty):
    monkeypatch.delenv("TINYNET_CACHE", raising=False)
    if empty:
        monkeypatch.setenv("TINYNET_CACHE", "")
    assert cache_folder() == Path(pooch.os_cache("tinynet"))
    assert "tinynet" in cache_folder().parts


def test_the_listed_sizes_and_checksums_are_those_of_the_real_files(shared_data):
    for name in ("mnist", "fashion-mnist"):
        assert len(REMOTES[name].files) == 4
        for file, (size, sha256) in REMOTES[name].files.items():
            content = (shared_data / name / file).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)


def test_every_address_is_a_folder_and_every_checksum_has_its_length():
    for remote in REMOTES.values():
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in remote.mirrors)
        assert len(remote.mirrors) == 2
        assert all(len(sha256) == 64 for _, sha256 in remote.files.values())
        assert all(len(md5) == 32 for md5 in remote.batches.values())
