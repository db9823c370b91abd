"""R7.4, R9.4: the library's log in Python's logging, and handlers that misbehave."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

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


def _run(code: str, *arguments: str, timeout: float = 120) -> str:
    """What a program prints that must not fail, nor hang."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


class _List(logging.Handler):
    """Keeps the operations that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.operations.append(record.memmgr["operation"])  # type: ignore[attr-defined]


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The operations that reach the root logger, whose level is the test's to set."""
    root, handler = logging.getLogger(), _List()
    level = root.level
    root.addHandler(handler)
    yield handler.operations
    root.removeHandler(handler)
    root.setLevel(level)


def test_level_set_after_the_manager_opened_takes_effect(
    manager: memmgr.Manager, heard: list[str]
) -> None:
    """Also that of a logger above, which is what logging.basicConfig sets."""
    logging.getLogger().setLevel(logging.WARNING)
    manager.zeros(10)
    assert heard == []
    logging.getLogger().setLevel(logging.DEBUG)
    manager.zeros(10)
    assert heard[-2:] == ["alloc", "free"]
    heard.clear()
    logging.disable(logging.DEBUG)
    manager.zeros(10)
    logging.disable(logging.NOTSET)
    assert heard == []
    manager.zeros(10)
    assert heard == ["alloc", "free"]


def test_handler_may_set_the_level(manager: memmgr.Manager, debug_logger: logging.Logger) -> None:
    handler = _Handler(lambda: debug_logger.setLevel(logging.WARNING))
    debug_logger.addHandler(handler)
    debug_logger.setLevel(logging.DEBUG)
    try:
        manager.zeros(10)
        manager.zeros(10)
    finally:
        debug_logger.removeHandler(handler)
        debug_logger.setLevel(logging.NOTSET)
    assert handler.calls == 1


def test_class_of_the_logger_is_the_applications() -> None:
    """A class that logging.setLoggerClass set stays, and levels are followed all the same."""
    code = """
    import logging
    class Mine(logging.Logger):
        pass
    logging.setLoggerClass(Mine)
    import memmgr
    logger = logging.getLogger("memmgr")
    print(type(logger).__name__)
    manager = memmgr.Manager(1, capacity="1 MiB")
    class Print(logging.Handler):
        def emit(self, record):
            print(record.memmgr["operation"])
    logger.addHandler(Print())
    logger.setLevel("DEBUG")
    manager.zeros(10)
    manager.close()
    """
    assert _run(code).split()[:2] == ["Mine", "alloc"]


def test_configuring_logging_waits_for_no_record() -> None:
    """dictConfig sets levels under the lock of `logging`, which who makes a record may need."""
    code = """
    import logging.config, os, threading
    import memmgr
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"null": {"class": "logging.NullHandler"}},
        "loggers": {"memmgr": {"level": "DEBUG", "handlers": ["null"], "propagate": False}},
    }
    logging.config.dictConfig(config)
    manager = memmgr.Manager(1, capacity="1 MiB")
    def work():
        while True:
            manager.alloc(100).free()
    for _ in range(2):
        threading.Thread(target=work, daemon=True).start()
    for _ in range(100):
        logging.config.dictConfig(config)
    print("configured", flush=True)
    os._exit(0)
    """
    assert _run(code) == "configured\n"


def test_no_refusal_goes_unlogged_while_managers_open(
    manager: memmgr.Manager, debug_logger: logging.Logger
) -> None:
    handler = _Handler(lambda: None)
    debug_logger.addHandler(handler)
    stop = threading.Event()

    def open_managers() -> None:
        while not stop.is_set():
            memmgr.Manager(1, capacity="4 KiB").close()
            debug_logger.setLevel(logging.WARNING)

    thread = threading.Thread(target=open_managers)
    thread.start()
    try:
        for _ in range(1000):
            with pytest.raises(memmgr.LimitExceededError):
                manager.alloc(2**50)
    finally:
        stop.set()
        thread.join()
        debug_logger.removeHandler(handler)
        debug_logger.setLevel(logging.NOTSET)
    assert handler.calls == 1000


# What a temporary on the stack of an expression is given back by, while another exception passes.
# A name would keep it alive in the traceback.
def _fail() -> Any:
    raise KeyError("mine")


def _in_numpys_block(dimension: memmgr.Dimension) -> Any:
    with dimension._manager.numpy_allocator():
        return np.ones(1000) + _fail()


def _pinned(dimension: memmgr.Dimension) -> Any:
    arrays = [dimension["table"]]
    dimension.unload("defer")
    return [arrays.pop(), _fail()]


_TEMPORARIES: dict[str, Callable[[memmgr.Dimension], Any]] = {
    "array": lambda dimension: dimension._manager.zeros(10) + _fail(),
    "block": lambda dimension: [dimension._manager.alloc(100), _fail()],
    "memoryview": lambda dimension: [memoryview(dimension._manager.alloc(100)), _fail()],
    "numpy_allocator": _in_numpys_block,
    "view": _pinned,
}


@pytest.mark.parametrize("name", _TEMPORARIES)
def test_exception_that_passes_survives_a_record(
    loaded: memmgr.Dimension, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Of a block or a view that goes because of it; the record is made."""
    caplog.set_level(logging.DEBUG, "memmgr")
    with pytest.raises(KeyError, match="mine") as caught:
        _TEMPORARIES[name](loaded)
    assert caught.value.__context__ is None
    last: Any = caplog.records[-1]
    assert last.memmgr["operation"] == ("retire" if name == "view" else "free")


class _Stop(BaseException):
    """Neither an Exception nor one that a test runner knows."""


@contextlib.contextmanager
def _raising(logger: logging.Logger, operation: str, error: BaseException) -> Iterator[None]:
    """A handler that raises once, at a record of that operation."""
    waiting = [error]

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if waiting and record.memmgr["operation"] == operation:  # type: ignore[attr-defined]
                raise waiting.pop()

    handler = Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert waiting == []


@pytest.mark.parametrize("error", [KeyboardInterrupt("now"), SystemExit(3), _Stop()])
@pytest.mark.parametrize("operation", ["load", "alloc", "free", "retire", "pressure", "unload"])
def test_exception_that_is_no_exception_arrives_at_the_caller(
    files: Files, debug_logger: logging.Logger, operation: str, error: BaseException
) -> None:
    """It is the very one, and nothing is lost that the call acquired."""
    path, arrays = files.npy(np.arange(3)), []
    with memmgr.Manager(1, capacity="1 MiB", pool_limit="1 MiB") as manager:
        with _raising(debug_logger, operation, error), pytest.raises(type(error)) as caught:
            dimension = manager.load(0, path)
            arrays.append(dimension["data"])
            dimension.unload("defer")
            arrays.clear()
            manager.zeros(10)
            manager.alloc(10).free()
            with contextlib.suppress(memmgr.LimitExceededError):
                manager.alloc(2**40)
            for _ in range(10):
                pass  # where the interpreter raises what a dealloc could not
        assert caught.value is error
        arrays.clear()
        assert manager.pool_stats().blocks == 0
        assert manager.stats().views == 0


def test_exception_of_a_handler_leaves_no_manager_open(debug_logger: logging.Logger) -> None:
    handler = _List()
    debug_logger.addHandler(handler)
    try:
        with _raising(debug_logger, "open", _Stop()), pytest.raises(_Stop):
            memmgr.Manager(1, capacity="1 MiB")
    finally:
        debug_logger.removeHandler(handler)
    assert handler.operations == ["open", "close"]


def test_exception_in_a_dealloc_of_another_thread_arrives_there(
    manager: memmgr.Manager, debug_logger: logging.Logger
) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            manager.zeros(10)
            for _ in range(1000):
                pass
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    with _raising(debug_logger, "free", _Stop()):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [type(error) for error in raised] == [_Stop]


def test_exception_of_a_handler_is_reported_as_logging_does(
    manager: memmgr.Manager, debug_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with _raising(debug_logger, "alloc", RuntimeError("handler")):
        assert manager.zeros(10).sum() == 0
    written = capsys.readouterr().err
    assert "--- Logging error ---" in written
    assert "RuntimeError: handler" in written


@pytest.mark.parametrize("seconds", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_everything_at_once(tmp_path: Any, seconds: int) -> None:
    """Eight threads load, free and are refused at DEBUG, while others configure logging, open
    managers and fork. Nobody waits for anybody for ever."""
    code = """
    import logging.config, os, sys, threading, time
    import numpy as np
    import memmgr
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"null": {"class": "logging.NullHandler"}},
        "loggers": {"memmgr": {"level": "DEBUG", "handlers": ["null"], "propagate": False}},
    }
    quiet = {**config, "loggers": {"memmgr": {**config["loggers"]["memmgr"], "level": "ERROR"}}}
    logging.config.dictConfig(config)
    path, end = sys.argv[1] + "/a.npy", time.monotonic() + float(sys.argv[2])
    np.save(path, np.arange(1000))
    manager = memmgr.Manager(8, capacity="1 MiB", pool_limit="1 MiB")
    counts = dict.fromkeys(["work", "configure", "open", "fork"], 0)
    failures = []

    def repeat(name, action):
        try:
            while time.monotonic() < end:
                action()
                counts[name] += 1
        except BaseException as error:
            failures.append(error)

    def work(index):
        assert manager.load(index, path)["data"].sum() == 499500
        manager.zeros(100)
        manager.alloc(100).free()
        try:
            manager.zeros(2**40)
        except memmgr.LimitExceededError:
            pass
        manager[index].unload()

    def configure():
        logging.config.dictConfig(config)
        logging.config.dictConfig(quiet)

    def fork():
        child = os.fork()
        if child == 0:
            manager.zeros(10)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        time.sleep(0.01)

    actions = [("work", lambda index=index: work(index)) for index in range(8)]
    actions.append(("configure", configure))
    actions.append(("open", lambda: memmgr.Manager(2, capacity="64 KiB").close()))
    threads = [threading.Thread(target=repeat, args=action) for action in actions]
    for thread in threads:
        thread.start()
    if hasattr(os, "fork"):
        repeat("fork", fork)
    else:
        del counts["fork"]
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert all(counts.values()), counts
    """
    assert _run(code, str(tmp_path), str(seconds), timeout=seconds + 120) == ""
