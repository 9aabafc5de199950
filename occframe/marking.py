"""Pictures that say of themselves that a network drew parts of them.

Two marks, in the file itself: an XMP packet with IPTC's digital source type "composite with trained algorithmic media",
which other programs look for (IPTC Photo Metadata Standard, property ``Iptc4xmpExt:DigitalSourceType``), and a comment
that people can read. Whoever decodes the pixels and stores them anew loses both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from occframe.errors import OccframeError

#: What a restored picture says of itself.
GLASSES_REMOVED = "Glasses were removed from this face: what they hid is synthesised, not seen."

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

_KEYWORD = b"Comment"
_XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_PNG = b"XML:com.adobe.xmp"
_PNG = b"\x89PNG\r\n\x1a\n"
_APP0, _APP1, _COMMENT, _SCAN = 0xE0, 0xE1, 0xFE, 0xDA


def mark_synthesised(encoded: bytes, comment: str) -> bytes:
    """A PNG or JPEG with both marks, its pixels as they were. comment: one line, at most 1000 characters.

    Raises OccframeError for another format.
    """
    if len(comment) > 1000:
        raise OccframeError(f"a comment of {len(comment)} characters; at most 1000 are written")
    text, xmp = comment.encode("utf-8"), _packet()
    if encoded.startswith(_PNG):
        header = 8 + 25  # signature and IHDR, which comes first
        # tEXt is Latin-1 by its standard; iTXt holds UTF-8: language and translated keyword are empty, no compression.
        chunks = _chunk(b"iTXt", _KEYWORD + b"\0\0\0\0\0" + text) + _chunk(b"iTXt", _XMP_PNG + b"\0\0\0\0\0" + xmp)
        return encoded[:header] + chunks + encoded[header:]
    if encoded.startswith(b"\xff\xd8"):
        at = 2
        if encoded[2:4] == bytes([0xFF, _APP0]):  # JFIF stays the first segment
            at += 2 + int.from_bytes(encoded[4:6], "big")
        return encoded[:at] + _segment(_APP1, _XMP_JPEG + xmp) + _segment(_COMMENT, text) + encoded[at:]
    raise OccframeError("only PNG and JPEG can be marked as synthesised", remedy="write .png or .jpg")


def synthesised_comment(encoded: bytes) -> str | None:
    """The comment of a picture that carries the mark, None for any other. Reads nothing but headers."""
    source = SOURCE_TYPE.encode()
    if encoded.startswith(_PNG):
        texts = [body for kind, body in _chunks(encoded) if kind == b"iTXt"]
        comments = [body.split(b"\0", 5)[-1] for body in texts if body.startswith(_KEYWORD + b"\0")]
        marked = any(body.startswith(_XMP_PNG) and source in body for body in texts)
    else:
        found = list(_segments(encoded))
        comments = [body for marker, body in found if marker == _COMMENT]
        marked = any(marker == _APP1 and body.startswith(_XMP_JPEG) and source in body for marker, body in found)
    return comments[0].decode("utf-8", "replace") if marked and comments else None


def _packet() -> bytes:
    rdf, iptc = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{rdf}"><rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{iptc}">'
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Up to the image data."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != _SCAN:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield jpeg[at + 1], jpeg[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
