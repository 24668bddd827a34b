"""Files of an archive where they lie: a bucket of S3, or a local folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

import pyarrow.fs as pafs
from botocore.exceptions import ClientError

from consumers.archive.layout import Entry

DELETED_AT_ONCE = 1000
_PARTIAL = ".partial-"


class Store(Protocol):
    """What compaction does to files. Keys are separated by ``/``.

    ``filesystem`` and ``root`` are how pyarrow reads the same files. OSError, ClientError and
    BotoCoreError pass through; FileNotFoundError is what a missing key raises.
    """

    filesystem: pafs.FileSystem
    root: str

    def folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right below ``prefix``, in order."""

    def entries(self, prefix: str) -> list[Entry]:
        """Files right in the folder ``prefix``."""

    def get(self, key: str) -> bytes:
        """Content of a file."""

    def put_file(self, key: str, source: Path) -> None:
        """Store a local file, whole or not at all."""

    def put(self, key: str, content: bytes) -> None:
        """Store content, whole or not at all."""

    def create(self, key: str, content: bytes) -> bool:
        """Store content unless the key is there already; False where it is."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; those that are gone already are no error."""


class BucketStore:
    """A bucket. ``s3`` is a boto3 client."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket
        self.filesystem = filesystem(s3)
        self.root = bucket

    def folders(self, prefix: str) -> Iterator[str]:
        """See Store."""
        full = f"{prefix}/"
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=full, Delimiter="/"):
            for found in page.get("CommonPrefixes", []):
                yield found["Prefix"][len(full) : -1]

    def entries(self, prefix: str) -> list[Entry]:
        """See Store."""
        full = f"{prefix}/"
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=full, Delimiter="/")
        return [
            Entry(item["Key"][len(full) :], item["Size"], int(item["LastModified"].timestamp() * 1000))
            for page in pages
            for item in page.get("Contents", [])
            if item["Key"] != full
        ]

    def get(self, key: str) -> bytes:
        """See Store."""
        try:
            return bytes(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise FileNotFoundError(f"s3://{self._bucket}/{key} is not there") from None
            raise

    def put_file(self, key: str, source: Path) -> None:
        """See Store."""
        with source.open("rb") as body:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)

    def put(self, key: str, content: bytes) -> None:
        """See Store."""
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content)

    def create(self, key: str, content: bytes) -> bool:
        """See Store."""
        try:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=content, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                return False
            raise
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """See Store. Raises OSError naming a key that S3 would not delete."""
        names = list(keys)
        for begin in range(0, len(names), DELETED_AT_ONCE):
            objects = [{"Key": name} for name in names[begin : begin + DELETED_AT_ONCE]]
            answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
            for refused in answer.get("Errors", []):
                raise OSError(f"s3://{self._bucket}/{refused['Key']} cannot be deleted: {refused.get('Message')}")


class FolderStore:
    """A local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.filesystem = pafs.LocalFileSystem()
        self.root = str(root)

    def folders(self, prefix: str) -> Iterator[str]:
        """See Store."""
        folder = self._root / prefix
        return iter(sorted(one.name for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else [])

    def entries(self, prefix: str) -> list[Entry]:
        """See Store."""
        folder = self._root / prefix
        found = []
        for one in folder.iterdir() if folder.is_dir() else ():
            if one.is_file() and not one.name.startswith(_PARTIAL):
                status = one.stat()
                found.append(Entry(one.name, status.st_size, int(status.st_mtime * 1000)))
        return found

    def get(self, key: str) -> bytes:
        """See Store."""
        return (self._root / key).read_bytes()

    def put_file(self, key: str, source: Path) -> None:
        """See Store."""
        self._write(key, source, replace=True)

    def put(self, key: str, content: bytes) -> None:
        """See Store."""
        self._write(key, content, replace=True)

    def create(self, key: str, content: bytes) -> bool:
        """See Store."""
        try:
            self._write(key, content, replace=False)
        except FileExistsError:
            return False
        return True

    def _write(self, key: str, content: bytes | Path, *, replace: bool) -> None:
        """Write beside the target first: a reader sees the file whole or not at all."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=target.parent, prefix=_PARTIAL, delete=False) as file:
            try:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    with content.open("rb") as source:
                        while part := source.read(1 << 20):
                            file.write(part)
                file.flush()
                os.fsync(file.fileno())
                if replace:
                    Path(file.name).replace(target)
                else:
                    os.link(file.name, target)
            finally:
                Path(file.name).unlink(missing_ok=True)

    def delete(self, keys: Iterable[str]) -> None:
        """See Store."""
        for key in keys:
            (self._root / key).unlink(missing_ok=True)


def filesystem(client: Any) -> pafs.S3FileSystem:
    """A pyarrow filesystem for the place and the credentials of a boto3 S3 client, the local emulator's too."""
    credentials = client._request_signer._credentials.get_frozen_credentials()
    scheme, _, host = client.meta.endpoint_url.partition("://")
    return pafs.S3FileSystem(
        access_key=credentials.access_key, secret_key=credentials.secret_key, session_token=credentials.token,
        region=client.meta.region_name, endpoint_override=host, scheme=scheme, connect_timeout=3, request_timeout=30,
    )  # fmt: skip
