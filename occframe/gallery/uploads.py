"""Uploads to S3 that a kill cut short: no object, listed nowhere, and yet kept (and charged for) by the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from occframe.gallery.publishing import is_s3
from occframe.storage import filesystem


@dataclass(frozen=True)
class Upload:
    """name: what the file would have been called in the folder."""

    name: str
    began: datetime
    bucket: str
    key: str
    upload_id: str

    def abort(self, fs: Any) -> None:
        fs.call_s3("abort_multipart_upload", Bucket=self.bucket, Key=self.key, UploadId=self.upload_id)


def find_uploads(url: str) -> Iterator[Upload]:
    """Those of files directly in ``url``; none on a store that is not S3."""
    fs, root = filesystem(url)
    if not is_s3(fs):
        return
    bucket, folder, _ = fs.split_path(root)
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    more: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **more)
        for found in answer.get("Uploads", []):
            name = found["Key"].removeprefix(prefix)
            if "/" not in name:
                yield Upload(name, found["Initiated"], bucket, found["Key"], found["UploadId"])
        if not answer.get("IsTruncated"):
            return
        more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
