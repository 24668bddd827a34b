"""Fixtures that every kind of test may use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsriver import embedded
from opsriver.embedded import Stack
from opsriver.embedded.emulator import choose_port
from tests.support.ministack import free_port


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share the deployed stack run in one process, and so do those of one file with an emulator.

    ``together`` is for what a file's tests share without an emulator: those of the whole file, or those with the same
    value of the parameter it names, run in one process, which computes it once.

    First of all, as pytest-xdist reads the groups in the same hook.
    """
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.embedded)
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("stack"))
        elif item.get_closest_marker("embedded"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
        elif together := item.get_closest_marker("together"):
            values = [str(item.callspec.params[name]) for name in together.args]  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.xdist_group(" ".join([item.nodeid.partition("::")[0], *values])))


@pytest.fixture(autouse=True)
def _no_settings_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may depend on, or reach, what the user has set up for AWS."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "OPSRIVER_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The embedded AWS with the real template deployed and the mapper running."""
    state = tmp_path_factory.mktemp("stack") / "state"
    assert choose_port(None) > 0
    running = embedded.start(state, port=free_port())
    request.config.stash[STACK] = state
    try:
        yield running
    finally:
        embedded.stop(state)


STACK = pytest.StashKey[Path]()
USERS = pytest.StashKey[set[str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which tests use the deployed stack."""
    users = {item.nodeid for item in session.items if "stack" in getattr(item, "fixturenames", ())}
    session.config.stash[USERS] = users


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """End the deployed stack after the last test that uses it: it polls, and other tests would wait for the processor."""
    yield
    users = item.config.stash[USERS]
    if item.nodeid in users:
        users.remove(item.nodeid)
        if not users and STACK in item.config.stash:
            embedded.stop(item.config.stash[STACK])


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Polls until a function gives something true, for as long as a loaded machine may need.

    A look that costs much is worth a longer ``pause``: it takes the time of those it waits for.
    """

    def wait(look: Callable[[], Any], *, seconds: float = 90.0, what: str = "it", pause: float = 0.2) -> Any:
        until = time.monotonic() + seconds
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > until:
                pytest.fail(f"{what} did not come within {seconds:.0f} s")
            time.sleep(pause)

    return wait


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return Path(__file__).resolve().parents[1]
