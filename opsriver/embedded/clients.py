"""Clients of the embedded AWS: localstack-client's session, deaf to the user's own AWS settings and proxies."""

from __future__ import annotations

import os
from functools import cache
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from localstack_client.session import Session

from opsriver.embedded.emulator import CREDENTIALS, REGION

_making = Lock()
"""Botocore's sessions may not be used by several threads at once; its clients may."""


class LocalSession(Session):  # type: ignore[misc]
    """Makes clients for one endpoint; profiles, configuration files and AWS_ variables are not read."""

    def __init__(self, endpoint: str) -> None:
        place = urlsplit(endpoint)
        super().__init__(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=None,
            region_name=REGION,
            localstack_host=f"{place.hostname}:{place.port}",
        )
        # Not by the base class's table: AWS_ENDPOINT_URL of the user's environment would win there.
        self._endpoint = endpoint
        variables = {
            name: (None, None, default, convert)
            for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
        }
        for name in ("config_file", "credentials_file"):
            variables[name] = (None, None, os.devnull, None)
        self._boto: Any = boto3.Session(botocore_session=botocore.session.Session(session_vars=variables))

    def client(self, service_name: str, **options: Any) -> Any:
        """A boto3 client of the service at the endpoint."""
        fixed = {**self.common_protected_kwargs, "endpoint_url": self._endpoint}
        with _making:
            return self._boto.client(service_name, **{**options, **fixed})


_session = cache(LocalSession)


def make_client(endpoint: str, service: str, **config: Any) -> Any:
    """A boto3 client for an emulator at ``endpoint``; ``config`` goes into botocore's Config."""
    options = {
        "retries": {"mode": "standard", "total_max_attempts": 5},
        "connect_timeout": 5,
        "read_timeout": 60,
        "proxies": {},
        **config,
    }
    return _session(endpoint).client(service, config=Config(**options))
