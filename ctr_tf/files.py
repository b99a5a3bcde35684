"""Files that are whole or not there, whatever ends the process that writes them."""

import os
import shutil
import uuid
from pathlib import Path


def write_text(path: str | Path, text: str) -> None:
    """Writes a file beside its place, makes it durable, and renames it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, "utf-8")
        sync(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: str | Path) -> None:
    """Waits until the disk holds a file, or a folder's files and their names."""
    path = Path(path)
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(new: str | Path, path: str | Path) -> None:
    """Renames a folder to its place; what is there steps aside until it is."""
    new, path = Path(new), Path(path)
    old = replaced(path)
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    remove(old)


def recover(path: str | Path) -> str | None:
    """Puts right what a `replace` left that was killed; says what it did."""
    path = Path(path)
    old = replaced(path)
    if not old.exists():
        return None
    if path.exists():
        remove(old)
        return f"removed '{old}', which had been replaced"
    old.rename(path)
    return f"'{old}' is '{path}' again: its replacement was never finished"


def replaced(path: Path) -> Path:
    """Where the folder lies that is being replaced."""
    return path.with_name(f"{path.name}.replaced")


def remove(path: str | Path) -> None:
    """Deletes a file or folder, if it is there."""
    path = Path(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
