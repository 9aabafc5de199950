"""What tells that a file changed."""

from __future__ import annotations

import os

import fsspec

from occframe.data.stamps import content_stamp, stamp


def test_a_local_file_is_its_content(tmp_path):
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    os.utime(copy, ns=(1, 1))
    assert content_stamp(str(first)) == content_stamp(str(copy))
    assert content_stamp(f"file://{first}") == content_stamp(str(first))
    copy.write_bytes(b"WEIGHTS")
    assert content_stamp(str(first)) != content_stamp(str(copy))


def test_a_remote_file_is_not_read():
    fs = fsspec.filesystem("memory")
    fs.pipe("/stamps/weights", b"weights")
    assert content_stamp("memory://stamps/weights") == stamp(fs.info("/stamps/weights"))


def test_what_is_not_there_says_so_and_a_folder_is_no_fault(tmp_path):
    assert content_stamp(str(tmp_path / "none")) == "not there"
    assert content_stamp("no-such-protocol://x") == "not there"
    assert content_stamp(str(tmp_path)) == stamp(fsspec.filesystem("file").info(str(tmp_path)))
