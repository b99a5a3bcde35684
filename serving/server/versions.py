"""Version folders: found, loaded, warmed up, swapped and unloaded while requests run.

As in TF Serving the newest versions of a folder are wanted (`num_versions`, one by
default), a new one serves only once it is loaded and warmed up, and an old one goes
only then, after its last request. What cannot be loaded is reported in its status.

Unlike TF Serving, an older version on disk serves where the newest cannot be loaded; a
folder in which files still change is left alone for another round; and one that failed
is tried again when its files change, rather than five times a minute apart.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from grpc import StatusCode

from serving.server.errors import ServingError
from serving.server.protos import ModelVersionStatus
from serving.server.tensorflow_c import SavedModel

_log = logging.getLogger(__name__)

State = ModelVersionStatus.State


@dataclasses.dataclass(frozen=True)
class VersionState:
    """What the status says of a version.

    Args:
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        code: OK, or what it failed with.
        message: of the failure.
    """

    state: int
    code: StatusCode = StatusCode.OK
    message: str = ""


class ModelVersion:
    """A loaded version and the requests that use it.

    Args:
        number: of the version.
        model: loaded.
    """

    def __init__(self, number: int, model: SavedModel):
        self.number = number
        self.model = model
        self._users = 0
        self._idle = threading.Condition()

    def acquire(self) -> None:
        """A request begins."""
        with self._idle:
            self._users += 1

    def release(self) -> None:
        """A request ends."""
        with self._idle:
            self._users -= 1
            self._idle.notify_all()

    def close(self) -> None:
        """Waits for the last request and frees the session."""
        with self._idle:
            self._idle.wait_for(lambda: self._users == 0)
        self.model.close()


class Versions:
    """The versions of one model.

    Args:
        name: of the model.
        folder: of the versions.
        load: folder of a version → the model, warmed up.
        num_versions: newest ones that serve at once.
        poll_seconds: between two looks into the folder.

    Raises:
        FileNotFoundError: if there is no folder.
        ValueError: if the folder is itself a version.
    """

    def __init__(
        self,
        name: str,
        folder: str | Path,
        load: Callable[[Path], SavedModel],
        num_versions: int = 1,
        poll_seconds: float = 1.0,
    ):
        self.name = name
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"There is no folder of versions '{folder}'.")
        if (self.folder / "saved_model.pb").is_file():
            raise ValueError(
                "The model's folder must hold numbered version folders, not be one. "
                f"Received: '{folder}'"
            )
        self._load = load
        self._num_versions = num_versions
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._states: dict[int, VersionState] = {}
        self._loaded: dict[int, ModelVersion] = {}
        self._failed: dict[int, tuple] = {}  # number → files when it failed
        self._seen: dict[int, tuple] = {}  # number → files in the last round
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Loads what is there and begins to watch the folder."""
        self.poll(settled=True)
        self._thread = threading.Thread(target=self._watch, name="poll", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops watching and unloads everything, after the last request."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for number in list(self._loaded):
            self._unload(number)

    def states(self) -> dict[int, VersionState]:
        """Version → state, of every version ever seen."""
        with self._lock:
            return dict(self._states)

    @property
    def available(self) -> bool:
        """Whether any version serves."""
        return bool(self._loaded)

    def acquire(self, number: int | None) -> ModelVersion:
        """A version to use, the latest for None; the caller must `release` it.

        Raises:
            ServingError: NOT_FOUND.
        """
        with self._lock:
            if self._loaded:
                version = self._loaded.get(
                    max(self._loaded) if number is None else number
                )
                if version is not None:
                    version.acquire()
                    return version
        asked = (
            f"Latest({self.name})"
            if number is None
            else f"Specific({self.name}, {number})"
        )
        raise ServingError(
            StatusCode.NOT_FOUND, f"Servable not found for request: {asked}"
        )

    def poll(self, settled: bool = False) -> None:
        """Looks into the folder once; loads and unloads what that calls for.

        Args:
            settled: take folders as complete whose files have only just been written.
        """
        folders = self._folders()
        files = {number: _files(folder) for number, folder in folders.items()}
        wanted = []
        for number in sorted(folders, reverse=True):
            if len(wanted) == self._num_versions:
                break
            if number in self._loaded or self._try_to_load(
                number, folders[number], files[number], settled
            ):
                wanted.append(number)
        self._seen = files
        for number in set(self._failed) - set(folders):
            del self._failed[number]
        for number in sorted(set(self._loaded) - set(wanted)):
            if wanted or not folders:
                self._unload(number)

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception:  # the next round may be better; requests go on
                _log.exception("Cannot look for versions in '%s'.", self.folder)

    def _folders(self) -> dict[int, Path]:
        return {
            int(path.name): path
            for path in self.folder.iterdir()
            if path.name.isascii() and path.name.isdigit() and path.is_dir()
        }

    def _try_to_load(
        self, number: int, folder: Path, files: tuple, settled: bool
    ) -> bool:
        if self._failed.get(number) == files:
            return False
        changed = max((time_ns for _, _, time_ns in files), default=0) / 1e9
        if not (
            settled
            or changed < time.time() - self._poll_seconds
            or self._seen.get(number) == files
        ):
            self._set(number, VersionState(State.START))
            return False
        self._set(number, VersionState(State.LOADING))
        _log.info("Loading version %d of '%s'.", number, self.name)
        started = time.monotonic()
        try:
            model = self._load(folder)
        except Exception as error:
            if not isinstance(error, ServingError):
                _log.exception("Loading version %d failed.", number)
                error = ServingError(StatusCode.UNKNOWN, repr(error))
            self._failed[number] = files
            message = f"Cannot load version {number} from '{folder}': {error.message}"
            self._set(number, VersionState(State.END, error.code, message))
            serving = sorted(self._loaded) or "none"
            _log.error("%s: %s Still serving: %s", error.code.name, message, serving)
            return False
        with self._lock:
            self._loaded[number] = ModelVersion(number, model)
            self._states[number] = VersionState(State.AVAILABLE)
        _log.info(
            "Version %d serves, after %.1f s.", number, time.monotonic() - started
        )
        return True

    def _unload(self, number: int) -> None:
        with self._lock:
            version = self._loaded.pop(number)
            self._states[number] = VersionState(State.UNLOADING)
        version.close()
        self._set(number, VersionState(State.END))
        _log.info("Version %d is unloaded.", number)

    def _set(self, number: int, state: VersionState) -> None:
        with self._lock:
            self._states[number] = state


def _files(folder: Path) -> tuple:
    """Path, size and time of every file: equal while nobody writes."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue  # moved away in this moment
        found.append((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return tuple(found)
