"""The detector configuration as a file on this machine."""

from __future__ import annotations

from pathlib import Path

from opsriver.errors import Problem
from stream_processors.detectors.config import ConfigurationError, DetectorConfig, parse


def load(path: Path | None) -> DetectorConfig:
    """Configuration from a TOML file; the defaults without one."""
    if path is None:
        return DetectorConfig()
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise Problem(f"detector configuration {path} cannot be read: {error.strerror}; check the path") from None
    except ConfigurationError as error:
        raise Problem(str(error)) from None
