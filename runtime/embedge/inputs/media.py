"""Encoded media: the bytes of a file, within the limit, and what they seem to be when they are something else."""

from __future__ import annotations

from pathlib import Path

from embedge.errors import InvalidInput
from embedge.inputs.wanted import go_on

__all__ = ["bound", "kind", "read", "weigh"]

# What files begin with, by https://en.wikipedia.org/wiki/List_of_file_signatures; each once.
_BEGINS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\x1aE\xdf\xa3": "MKV",  # WebM too
    b"fLaC": "FLAC",
    b"OggS": "OGG",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"\xff\xf3": "MP3",
    b"\xff\xf2": "MP3",
    b"\xff\xfa": "MP3",
    b"\xff\xe3": "MP3",
    b"\xff\xe2": "MP3",
    b"FORM": "AIFF",
    b"RF64": "WAV",
    b"%PDF": "PDF",
    b"PK\x03\x04": "ZIP",
    b"\x1f\x8b": "GZIP",
}
_RIFF = {b"WEBP": "WEBP", b"AVI ": "AVI", b"WAVE": "WAV"}
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"M4A ": "M4A"}
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MARKUP = {b"<svg": "SVG", b"<!doctype html": "HTML", b"<html": "HTML", b"<?xml": "XML"}


def kind(data: bytes) -> str:
    """Return what a file's bytes seem to be, by how they begin: `JPEG`, `MP4`, `HTML`, …, `text`, `nothing known`."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], "RIFF")
    if data[4:8] in _ATOMS:
        return _BRANDS.get(data[8:12], "MP4")
    for begin, name in _BEGINS.items():
        if data.startswith(begin):
            return name
    return _written(data[:1024])


def _written(head: bytes) -> str:
    """Return the kind of what people can read: markup, or text."""
    lower = head.lower()
    for mark, name in _MARKUP.items():
        if mark in lower:
            return name
    printable = sum(byte >= 32 or byte in b"\t\r\n" for byte in head)
    return "text" if head and printable == len(head) and head.isascii() else "nothing known"


def read(source: bytes | Path, limit: int) -> bytes:
    """Return the bytes of an encoded file, or of the file at a path. Raises InvalidInput beyond `limit` bytes."""
    go_on()
    bound(source, limit)
    try:
        data = source if isinstance(source, bytes) else source.read_bytes() if source.is_file() else b""
    except OSError as error:
        raise InvalidInput(f"{source!s} cannot be read: {error.strerror}") from error
    if not data:
        raise InvalidInput("the file is empty" if isinstance(source, bytes) else f"{source} is empty, or no file")
    return data


def bound(source: object, limit: int) -> None:
    """Raise InvalidInput if a file or an array has more than `limit` bytes."""
    size = weigh(source)
    if size > limit:
        raise InvalidInput(f"this has {size:,} bytes, the limit is {limit:,} (max_media_bytes); send less")


def weigh(source: object) -> int:
    """Return the bytes of an encoded file, of the file at a path, or of an array; 0 where there is none."""
    if not isinstance(source, Path):
        return len(source) if isinstance(source, bytes) else int(getattr(source, "nbytes", 0))
    try:
        return source.stat().st_size if source.is_file() else 0
    except (OSError, ValueError):  # a folder that may not be looked into, a name that cannot be one
        return 0
