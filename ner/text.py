"""The bytes of a file <-> its text: encodings, gzip, line ends."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ner.errors import InputError
from ner.sentences import FORBIDDEN

Lines = Iterable[str]
CHUNK = 2**20  # characters that are read at a time

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # by their first bytes

# cp1252 leaves five bytes undefined (81 8d 8f 90 9d). They become the C1 control characters of the same number, as in the WHATWG's
# windows-1252, so that every byte string can be read.
C1 = "ner-cp1252"


def _undefined(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler ``C1``, of both ways."""
    if isinstance(error, UnicodeDecodeError):
        return chr(error.object[error.start]), error.start + 1
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in "\x81\x8d\x8f\x90\x9d":
        return error.object[error.start].encode("latin-1"), error.start + 1
    raise error


codecs.register_error(C1, _undefined)


def suffix_of(path: Path) -> str:
    """The suffix in small letters; of a file packed by gzip, the one before ``.gz``."""
    return (path.with_suffix("") if is_gzip(path) else path).suffix.lower()


def is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def packing(file: BinaryIO, path: Path) -> contextlib.AbstractContextManager[Any]:
    """The file to write to, whose bytes reach ``file`` packed where the path's name says so."""
    # The same sentences give the same bytes: neither a name nor a time is kept.
    return gzip.GzipFile("", "wb", fileobj=file, mtime=0) if is_gzip(path) else contextlib.nullcontext(file)


class Text:
    """The text of a file, which is checked as a whole and then read line by line, each time anew: memory holds a piece of it.

    It is not empty and has no byte order mark. If its lines end with carriage returns alone, they become line feeds.
    """

    def __init__(self, path: Path, encoding: str | None):
        """Raises InputError if the file cannot be read or is not text. A pipe is read into memory, because it can be read once only."""
        self.path = path
        self.source: Path | bytes = path
        self.decoded: str | None = None  # where it cannot be read line by line
        try:
            if not path.is_file():
                self.source = path.read_bytes()
            with self._bytes() as file:
                start = file.read(8)
            for magic, name in _PACKED.items():
                if start.startswith(magic):
                    hint = "unpack it and give the file inside" + (", or add .gz to its name" if name == "gzip" else "")
                    raise InputError(f"is a {name} file, not text", hint=hint, path=path)
            self._set_encoding(encoding, start)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            hint = "fetch it again, or give the unpacked file"
            raise InputError(f"is not a whole gzip file ({error})", hint=hint, path=path) from None
        except (OSError, ValueError) as error:
            what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
            raise InputError(what, hint="give an existing file that you may read", path=path) from None

    def __iter__(self) -> Iterator[str]:
        """The lines, each with its line feed, which the last one may lack."""
        with self._open(self.newline) as file:
            yield next(file, "").removeprefix("\ufeff")
            yield from file

    def _bytes(self) -> Any:
        source = self.source if isinstance(self.source, Path) else io.BytesIO(self.source)
        return gzip.open(source) if is_gzip(self.path) else source.open("rb") if isinstance(source, Path) else source

    def _open(self, newline: str | None = "\n") -> io.TextIOBase:
        """newline: what ends a line (of io.TextIOWrapper)."""
        if self.decoded is not None:
            return io.StringIO(self.decoded, newline=newline)
        return io.TextIOWrapper(self._bytes(), self.encoding, self.errors, newline)

    def _set_encoding(self, encoding: str | None, start: bytes) -> None:
        """Find the encoding, and read the whole text once."""
        self.encoding, self.errors = encoding or "utf-8", "strict"
        try:
            self._check()
        except InputError:
            raise
        except UnicodeError:
            if encoding is None:
                self._guess(start)
            else:  # what is read at once may be valid all the same: UTF-16 without a byte order mark
                self.decoded = _decode(self.content(), self.path, encoding)
            self._check()
        except (LookupError, ValueError):  # an unknown codec, one that is not for text, or a name with a NUL in it
            hint = "name one that Python knows, such as utf-8, cp1252 or utf-16"
            raise InputError(f"{encoding!r} is not a text encoding", hint=hint, path=self.path) from None

    def _check(self) -> None:
        """Read the whole text: whether there is any, and a line feed in it."""
        line, empty, fed, bad = 1, True, False, None
        with self._open() as file:
            chunk = file.read(1).removeprefix("\ufeff") + file.read(CHUNK)
            while chunk:
                if bad is None and (found := FORBIDDEN.search(chunk)):  # said at the end: a wrong encoding goes before
                    bad = found.group(), line + chunk.count("\n", 0, found.start())
                feeds = chunk.count("\n")
                line, empty, fed = line + feeds, empty and not chunk.strip(), fed or feeds > 0
                chunk = file.read(CHUNK)
        if empty:
            raise InputError("is empty", hint="give a file with at least one annotated sentence", path=self.path)
        if bad:
            what = "holds a NUL character" if bad[0] == "\0" else "holds an unpaired surrogate"
            hint = "the file may be binary, damaged or in another encoding (see --encoding)"
            raise InputError(what, hint=hint, path=self.path, line=bad[1])
        self.newline = "\n" if fed else None

    def _guess(self, start: bytes) -> None:
        """cp1252, as it is not UTF-8. A file that is mostly valid UTF-8 is refused: it is damaged UTF-8 rather than cp1252."""
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError("is UTF-16 text", hint="save it as UTF-8 or give --encoding utf-16", path=self.path)
        self.errors, damaged, valid = "replace", 0, 0
        with self._open() as file:
            while chunk := file.read(CHUNK):
                damaged += chunk.count("\ufffd")
                valid += len(re.findall(r"[^\x00-\x7f\ufffd]", chunk))
        if valid > damaged:
            data = self.content()
            try:
                data.decode()
            except UnicodeDecodeError as error:
                what = f"byte 0x{data[error.start]:02x} breaks a file that is otherwise UTF-8"
                line = data.count(b"\n", 0, error.start) + 1
                raise InputError(what, hint="repair it or name its --encoding", path=self.path, line=line) from None
        self.encoding, self.errors = "cp1252", C1

    def content(self) -> bytes:
        """The bytes of the file, unpacked."""
        with self._bytes() as file:
            return file.read()


def _decode(data: bytes, path: Path, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte 0x{data[error.start : error.start + 1].hex()} is not valid in {encoding} ({error.reason})"
        line = data.count(b"\n", 0, error.start) + 1
        hint = "name another --encoding, or none to have it detected"
        raise InputError(what, hint=hint, path=path, line=line) from None
    except UnicodeError as error:  # of a codec that tells no place
        raise InputError(f"cannot be read as {encoding} ({error})", hint="name another --encoding", path=path) from None
