"""Detect truncated or damaged image files by their structure, without decoding them.

Decoders fill the missing part of a truncated file with gray. PNG: chunks with checksums (ISO/IEC 15948), up to IEND.
JPEG: marker segments, then scans, up to the marker EOI (ITU-T T.81, annex B). BMP: a header with the offset and the
number of the pixels. Other formats are left to their decoder.
"""

import zlib


def missing(data: bytes) -> str | None:
    """Describe the defect of the PNG, JPEG or BMP file ``data``; None if it is complete or has another format."""
    for magic, check in _CHECKS.items():
        if data.startswith(magic):
            return check(data)
    return None


def _png(data: bytes) -> str | None:
    position, end = 8, len(data)
    while position + 12 <= end:
        length = int.from_bytes(data[position : position + 4], "big")
        body = memoryview(data)[position + 4 : position + 8 + length]  # the type and the content
        position += 12 + length
        if position > end:
            break
        if zlib.crc32(body) != int.from_bytes(data[position - 4 : position], "big"):
            return f"damaged: wrong checksum of chunk {bytes(body[:4])!r}"
        if body[:4] == b"IEND":
            return None
    return "truncated: the end of the PNG is missing"


def _jpeg(data: bytes) -> str | None:
    position = 2
    # Segments before the image may contain a thumbnail with its own end marker.
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xDA:  # start of scan: in compressed pixels 0xFF is always followed by 0
            return None if data.find(b"\xff\xd9", position) >= 0 else "truncated: the end of the JPEG is missing"
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return "truncated: the pixels of the JPEG are missing"


def _bmp(data: bytes) -> str | None:
    if len(data) < 30:
        return "truncated: the header of the BMP is incomplete"

    def number(start: int, size: int = 4) -> int:
        return int.from_bytes(data[start : start + size], "little", signed=size == 4)

    offset, header, compression = number(10), number(14), number(30)
    if header == 12:  # OS/2 header: 16-bit sides, no compression
        width, height, bits, compression = number(18, 2), number(20, 2), number(24, 2), 0
    else:
        width, height, bits = number(18), abs(number(22)), number(28, 2)
    run_lengths = compression in (1, 2)
    content = number(34) if run_lengths else (width * bits + 31) // 32 * 4 * height
    return "truncated: pixels of the BMP are missing" if offset + content > len(data) else None


_CHECKS = {b"\x89PNG\r\n\x1a\n": _png, b"\xff\xd8": _jpeg, b"BM": _bmp}
