"""Data-loading processes that die or fail, and cases that cannot be read, as messages.

nnU-Net's loaders end with "one or more background workers are no longer alive", and wait for ever
where a process was killed while it held a lock that they share: so the processes themselves are
looked at here, and nothing that they share. Each process writes down which case it reads. Which of
these cases is damaged is found by reading them once more.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.errors import DataError, UserError

_SECONDS_BETWEEN_LOOKS = 0.2
_LONGEST_NAME = 1024
_WORKERS_DIED = "background workers are no longer alive"  # in nnU-Net's own message
_GO_ON = "then run the same command again: it goes on from the last checkpoint"


class Readers:
    """Which process reads which case of a dataset.

    Written into one file a process: it takes a few microseconds, and can be read when the process
    is dead.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nnmedseg-loading-")
        self.dataset: Any = None

    def watch(self, dataset: Any) -> WatchedDataset:
        """Return the dataset, noting what is read from now on."""
        self.dataset = dataset
        return WatchedDataset(dataset, self._folder.name)

    def cases(self) -> dict[int, str]:
        """Return the case that each process has read last, by process id."""
        files = Path(self._folder.name).iterdir()
        return {int(file.name): file.read_bytes().decode().rstrip("\0") for file in files}

    def damaged(self, cases: Sequence[str]) -> DataError | None:
        """Return the error of the first case that cannot be read, or None if all can."""
        for case in cases:
            try:
                data, labels, previous, properties = self.dataset.load_case(case)
                for array in (data, labels, previous):
                    if array is not None:
                        array[:]
                for locations in properties["class_locations"].values():
                    locations[: len(locations)]
            except Exception as error:  # whatever the library that reads it raises
                return self._explained(case, error)
        return None

    def _explained(self, case: str, error: Exception) -> DataError:
        if isinstance(error, DataError):
            return DataError(f"case {case}: {error.what}", where=error.where, mend=error.mend)
        return DataError(
            f"the preprocessed case {case} cannot be read: {type(error).__name__}: {error}",
            where=self.dataset.source_folder,
            mend=f"delete its files there and run nnmedseg_plan_and_preprocess again, {_GO_ON}",
        )


class WatchedDataset:
    """A dataset of nnU-Net's that notes which case this process reads."""

    def __init__(self, dataset: Any, folder: str):
        self._dataset = dataset
        self._folder = folder
        self._process = -1
        self._file = -1

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_dataset":  # not there yet when it is unpickled
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __getitem__(self, identifier: str) -> Any:
        return self.load_case(identifier)

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_process": -1, "_file": -1}

    def load_case(self, identifier: str) -> Any:
        """Return what the dataset returns."""
        with contextlib.suppress(OSError):  # a note that cannot be written ends no training
            self._note(identifier)
        return self._dataset.load_case(identifier)

    def _note(self, identifier: str) -> None:
        if self._process != os.getpid():
            path = os.path.join(self._folder, str(os.getpid()))  # noqa: PTH118 - quicker
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            self._process = os.getpid()
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, identifier.encode()[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0"))

    def __del__(self) -> None:
        if self._process == os.getpid():
            os.close(self._file)


class WatchedLoader:
    """Draws the batches of one of nnU-Net's loaders; its processes do not die unnoticed."""

    def __init__(self, loader: Any, readers: Readers):
        self._loader = loader
        self._readers = readers
        self._problem: BaseException | None = None

    def takes(self, failed: threading.ExceptHookArgs) -> bool:
        """Tell whether a failed thread has collected these batches; its error is kept."""
        is_ours = failed.thread is getattr(self._loader, "results_loop_thread", self)
        if is_ours:
            self._problem = failed.exc_value
        return is_ours

    def __iter__(self) -> WatchedLoader:
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next batch.

        Raises:
            DataError: A case cannot be read.
            UserError: A data-loading process was killed or has failed.
        """
        if isinstance(self._loader, NonDetMultiThreadedAugmenter):
            return self._next_from_processes()
        with loading_explained([self._readers]):
            return next(self._loader)

    def _next_from_processes(self) -> dict[str, Any]:
        while True:
            batches = self._loader.results_loop_queue
            try:
                batch = batches.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                self._look_after_processes()
            else:
                batches.task_done()
                return batch

    def _look_after_processes(self) -> None:
        processes = list(self._loader._processes)
        codes = [process.exitcode for process in processes]
        if codes == [None] * len(codes) and self._loader.results_loop_thread.is_alive():
            return
        cases = self._readers.cases()
        read = [cases.get(process.pid, "none yet") for process in processes]
        self._kill_processes()
        for number, code in enumerate(codes):
            if code is not None and code < 0:
                raise _killed(number, len(codes), -code, read[number])
        raise self._readers.damaged(sorted({*cases.values()})) or _failed(read, self._problem)

    def _kill_processes(self) -> None:
        """End the processes without the locks that they share, and may have died with."""
        loader = self._loader
        for process in loader._processes:
            process.kill()
        for process in loader._processes:
            process.join()
        stop = loader.abort_event.set
        loader._processes, loader.initialized = [], False
        # Ends the thread that collects batches; where the lock died too, it waits unnoticed.
        threading.Thread(target=stop, daemon=True).start()

    def _finish(self) -> None:
        """End the processes, as nnU-Net's loaders do under this name."""
        if hasattr(self._loader, "_finish"):
            self._loader._finish()


@contextmanager
def loading_explained(readers: Sequence[Readers]) -> Iterator[None]:
    """Say which case could not be read, where that is why loading has failed.

    Raises:
        DataError: A case cannot be read.
        UserError: A data-loading process was killed or has failed.
    """
    try:
        yield
    except Exception as error:
        cases: list[str] = []
        for reader in readers:
            of_this = sorted({*reader.cases().values()})
            damaged = reader.damaged(of_this) if reader.dataset is not None else None
            if damaged is not None:
                raise damaged from error
            cases += of_this
        if _WORKERS_DIED in str(error):
            raise _failed(cases) from error
        raise


def _killed(number: int, count: int, code: int, case: str) -> UserError:
    name = signal.Signals(code).name
    reasons = {
        "SIGKILL": "most likely the system ran out of memory (its log, dmesg, would say so): use "
        "fewer --workers, or end what else takes memory",
        "SIGBUS": "shared memory (/dev/shm) is full, or a file of the case was truncated while it "
        "was read: use fewer --workers, or give the container more shared memory",
    }
    mend = reasons.get(name, "look at this case; nnmedseg_verify checks the files it was made of")
    return UserError(
        f"data-loading process {number + 1} of {count} was ended by {name}; it had case {case}",
        where="data loading",
        mend=f"{mend}; {_GO_ON}",
    )


def _failed(cases: Sequence[str], problem: BaseException | None = None) -> UserError:
    reason = "what it printed stands above"
    if problem is not None and _WORKERS_DIED not in str(problem):
        reason = f"{type(problem).__name__}: {problem}"
    return UserError(
        f"a data-loading process has failed ({reason}); each had one of the cases "
        f"{', '.join(cases)}",
        where="data loading",
        mend=f"if it was killed, use fewer --workers; {_GO_ON}",
    )


class WatchedLoadingTrainer(nnUNetTrainer):
    """nnU-Net's trainer with loaders whose faults are messages."""

    _readers: tuple[Readers, Readers]

    def get_dataloaders(self) -> tuple[WatchedLoader, WatchedLoader]:
        """Return the loaders of training and validation.

        Raises:
            DataError: A case cannot be read.
            UserError: A data-loading process was killed or has failed.
        """
        self._readers = (Readers(), Readers())
        with loading_explained(self._readers):
            training, validation = super().get_dataloaders()
        return (
            WatchedLoader(training, self._readers[0]),
            WatchedLoader(validation, self._readers[1]),
        )

    def get_tr_and_val_datasets(self) -> tuple[WatchedDataset, WatchedDataset]:
        """Return the cases of training and validation, which note who reads what."""
        training, validation = super().get_tr_and_val_datasets()
        return self._readers[0].watch(training), self._readers[1].watch(validation)

    def run_training(self) -> None:
        """Train; a thread that collects batches prints nothing when it fails: we say it."""
        before = threading.excepthook

        def say_others(failed: threading.ExceptHookArgs) -> None:
            loaders = (self.dataloader_train, self.dataloader_val)
            if not any(isinstance(each, WatchedLoader) and each.takes(failed) for each in loaders):
                before(failed)

        threading.excepthook = say_others
        try:
            super().run_training()
        except BaseException:
            # At once: a signal to the whole group has reached the loading processes too, and they
            # end by themselves if that takes long, which their thread would report.
            self._end_loading()
            raise
        finally:
            threading.excepthook = before

    def on_train_end(self) -> None:
        """End the training and the data-loading processes."""
        super().on_train_end()
        self._end_loading()

    def _end_loading(self) -> None:
        for loader in (self.dataloader_train, self.dataloader_val):
            if isinstance(loader, WatchedLoader):
                loader._finish()
