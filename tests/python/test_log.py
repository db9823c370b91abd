"""R7.4, R9.4: the library's log in Python's logging, and handlers that misbehave."""

from __future__ import annotations

import logging
import subprocess
import sys

import memmgr
import numpy as np
import pytest

from .conftest import MIB, Files


def test_r9_4_allocations_and_deallocations_are_logged(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """R9.4: at debug level, with the numbers as an attribute."""
    caplog.set_level(logging.DEBUG, "memmgr")
    path = files.npy(np.zeros(3))
    with memmgr.Manager(2, capacity="1 MiB") as manager:
        dimension = manager.load("D02", path)
        dimension.unload()
        dimension.deallocate()
    records = [record.memmgr for record in caplog.records]  # type: ignore[attr-defined]
    operations = [record["operation"] for record in records]
    for operation in ("open", "load", "unload", "deallocate", "close"):
        assert operation in operations
    load = records[operations.index("load")]
    assert load["dimension"] == 1
    assert (load["allocated"], load["bytes"] > 0) == (2 * MIB, True)
    assert all(record.levelno == logging.DEBUG for record in caplog.records)
    assert any("D02" in record.getMessage() for record in caplog.records)


def test_reading_is_not_logged(loaded: memmgr.Dimension, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "memmgr")
    loaded["table"]
    loaded.view()
    assert not caplog.records


def test_r7_4_pressure_warns_before_a_refusal(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """R7.4."""
    caplog.set_level(logging.WARNING, "memmgr")
    path, other = files.raw(b"1", "1"), files.raw(b"2", "2")
    with memmgr.Manager(1, capacity="1 MiB", limit="1 MiB") as manager:
        dimension = manager.load(0, path)
        held = dimension.view()
        caplog.clear()
        with pytest.raises(memmgr.LimitExceededError):
            dimension.reload(other)
        assert held.tobytes() == b"1"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_level_of_the_logger_is_obeyed(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "memmgr")
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        manager.load(0, files.npy(np.zeros(3)))
    assert not [record for record in caplog.records if record.levelno < logging.INFO]


class _Handler(logging.Handler):
    def __init__(self, action: object) -> None:
        super().__init__()
        self.action = action
        self.calls = 0

    def handle(self, _record: logging.LogRecord) -> bool:
        self.calls += 1
        self.action()  # type: ignore[operator]
        return True


@pytest.fixture
def debug_logger() -> logging.Logger:
    return logging.getLogger("memmgr")


def test_handler_that_raises_does_no_harm(
    files: Files, debug_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def action() -> None:
        raise RuntimeError("handler")

    handler = _Handler(action)
    monkeypatch.setattr(debug_logger, "handlers", [handler])
    monkeypatch.setattr(debug_logger, "level", logging.DEBUG)
    debug_logger.manager._clear_cache()  # type: ignore[attr-defined]
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        assert manager.load(0, files.npy(np.arange(3)))["data"].sum() == 3
    assert handler.calls >= 3
    debug_logger.manager._clear_cache()  # type: ignore[attr-defined]


def test_handler_that_uses_the_library_does_no_harm(
    files: Files, debug_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that it causes itself are dropped, errors of its own calls stay its own."""
    path = files.npy(np.arange(3))

    def action() -> None:
        with memmgr.Manager(2, capacity="1 MiB") as inner:
            assert inner.load(0, path)["data"].sum() == 3
            with pytest.raises(memmgr.NotLoadedError):
                inner[1].unload()

    handler = _Handler(action)
    monkeypatch.setattr(debug_logger, "handlers", [handler])
    monkeypatch.setattr(debug_logger, "level", logging.DEBUG)
    debug_logger.manager._clear_cache()  # type: ignore[attr-defined]
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        manager.load(0, path)
        with pytest.raises(memmgr.FileAccessError) as caught:
            manager[0].reload(files.folder / "none")
    assert caught.value.dimension == "D01"
    assert 0 < handler.calls < 20
    debug_logger.manager._clear_cache()  # type: ignore[attr-defined]


def test_exception_of_one_record_is_not_raised_in_the_handler_of_another(files: Files) -> None:
    """The second record's handler calls the library, which owes the exception to the first call."""
    seen: list[BaseException | None] = []
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        dimension = manager.load(0, files.raw(b"1", "1"))

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.memmgr["operation"] == "reload":  # type: ignore[attr-defined]
                    raise KeyboardInterrupt
                try:
                    manager.stats()
                except BaseException as error:  # noqa: BLE001 - it is to be none
                    seen.append(error)
                else:
                    seen.append(None)

        logger = logging.getLogger("memmgr")
        handler = Handler()
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            with pytest.raises(KeyboardInterrupt):
                dimension.reload(files.raw(b"2", "2"))
        finally:
            logger.setLevel(logging.NOTSET)
            logger.removeHandler(handler)
        assert seen == [None]
        assert dimension.view().tobytes() == b"2"


def test_interpreter_ends_in_silence(files: Files) -> None:
    """With arrays, a thread and an open manager alive, and the log at its most talkative."""
    path = files.npy(np.arange(1000))
    code = f"""
import logging, threading, time
logging.getLogger("memmgr").setLevel(logging.DEBUG)
import memmgr
manager = memmgr.Manager(1, capacity="1 MiB")
dimension = manager.load(0, {str(path)!r})
writable = memmgr.Manager(1, capacity="1 MiB")
try:
    with writable.load(0, {str(path)!r}, mode="c").write() as w:
        written = w["data"]
except memmgr.ViewsHeldError:
    pass
array = dimension["data"]
kept = [dimension["data"] for _ in range(10)]
kept.append(kept)
def read():
    while True:
        dimension["data"].sum()
threading.Thread(target=read, daemon=True).start()
time.sleep(0.1)
"""
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
