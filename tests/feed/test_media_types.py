"""Types by the bytes: what an origin claims is believed only where they say nothing."""

import pytest

from p2prss.feed.media_types import is_stream, settle, sniff

MP3 = b"ID3\x04\x00\x00"
M4A = b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00"
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00"
OPUS = b"OggS\x00\x02" + bytes(22) + b"OpusHead"
MATROSKA = b"\x1a\x45\xdf\xa3\x01\x00\x00\x00\x42\x82\x88matroska"
WEBM = b"\x1a\x45\xdf\xa3\x01\x00\x00\x00\x42\x82\x84webm"
SVG = b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'
CHAPTERS = "application/json+chapters"
AVIF = b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00avif"
SRT = b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\nHello"


@pytest.mark.parametrize(
    ("url", "claims", "head", "expected"),
    [
        ("https://a/1.mp3", ("audio/mpeg", "text/html"), MP3, ("audio/mpeg", "mp3")),
        ("https://a/1.php", ("", "application/octet-stream"), MP3, ("audio/mpeg", "mp3")),
        ("https://a/1.wav", ("audio/wav", "audio/wav"), MP3, ("audio/mpeg", "mp3")),
        ("https://a/1", ("audio/mpeg",), b"\xff\xfb\x90\x64", ("audio/mpeg", "mp3")),
        ("https://a/1", ("audio/mpeg",), b"\xff\xf1\x50\x80", ("audio/aac", "aac")),
        ("https://a/1.mp3", ("audio/mpeg",), M4A, ("audio/mp4", "m4a")),
        ("https://a/1.m4b", ("application/octet-stream",), M4A, ("audio/mp4", "m4b")),
        ("https://a/1.m4a", ("binary/octet-stream",), MP4, ("audio/mp4", "m4a")),
        ("https://a/1.mp3", ("audio/mpeg",), MP4, ("audio/mp4", "m4a")),
        ("https://a/1.mp4", ("audio/x-m4a",), MP4, ("audio/x-m4a", "m4a")),
        ("https://a/1", ("video/mp4",), MP4, ("video/mp4", "mp4")),
        ("https://a/1.opus", (None,), OPUS, ("audio/ogg", "opus")),
        ("https://a/1", ("audio/opus",), OPUS, ("audio/opus", "opus")),
        ("https://a/1.flac", ("text/plain",), b"fLaC\x00", ("audio/flac", "flac")),
        ("https://a/1.mp3", (None,), b"RIFF\x00\x00\x00\x00WAVE", ("audio/wav", "wav")),
        ("https://a/1.mkv", (None,), MATROSKA, ("video/x-matroska", "mkv")),
        ("https://a/1", ("audio/webm",), WEBM, ("audio/webm", "webm")),
        ("https://a/cover.jpg", ("text/plain",), b"\x89PNG\r\n\x1a\n", ("image/png", "png")),
        ("https://a/cover.png", ("image/png",), b"RIFF\x00\x00\x00\x00WEBPVP8 ", ("image/webp", "webp")),
        ("https://a/cover.jpg", ("image/jpeg",), AVIF, ("image/avif", "avif")),
        ("https://a/cover", ("text/plain",), SVG, ("image/svg+xml", "svg")),
        ("https://a/t.txt", ("text/plain",), b"\xef\xbb\xbfWEBVTT\n", ("text/vtt", "vtt")),
        ("https://a/t", ("text/plain",), SRT, ("application/x-subrip", "srt")),
        ("https://a/t.srt", ("application/srt",), SRT, ("application/srt", "srt")),
        ("https://a/c", (CHAPTERS, "text/html"), b'{ "version": 1', (CHAPTERS, "json")),
        ("https://a/c.txt", ("text/plain",), b'{"segments": [', ("application/json", "json")),
        ("https://a/t.html", ("text/html",), b"<p>Hello", ("text/html", "html")),
        ("https://a/1.mp3", ("text/plain",), bytes(40), ("audio/mpeg", "mp3")),
        ("https://a/1.mp3", ("audio/x-unheard-of",), bytes(40), ("audio/mpeg", "mp3")),
        ("https://a/1", ("audio/x-unheard-of",), bytes(40), ("audio/x-unheard-of", "bin")),
        ("https://a/1", (None,), bytes(40), ("application/octet-stream", "bin")),
    ],
)  # fmt: skip
def test_type_and_ending(
    url: str, claims: tuple[str | None, ...], head: bytes, expected: tuple[str, str]
) -> None:
    assert settle(url, *claims, head=head) == expected


@pytest.mark.parametrize(
    ("url", "mime_type"),
    [
        ("https://a/live.m3u8?x=1", None),
        ("https://a/LIVE.M3U8", "audio/mpeg"),
        ("https://a/live", "application/x-mpegURL; charset=utf-8"),
        ("https://a/live.mpd", None),
        ("https://a/live", "application/dash+xml"),
        ("https://a/show.torrent", None),
        ("https://a/show", "application/x-bittorrent"),
        ("https://a/show.ism/manifest", None),
    ],
)
def test_streams_by_claim_and_ending(url: str, mime_type: str | None) -> None:
    assert is_stream(url, mime_type)


@pytest.mark.parametrize(
    ("head", "mime_type"),
    [
        (b"#EXTM3U\n#EXT-X-VERSION:3", "application/vnd.apple.mpegurl"),
        (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "application/dash+xml"),
        (b"d8:announce35:udp://tracker.example:80", "application/x-bittorrent"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html>', "text/html"),
        (b"just text", None),
        (b"[Music] not JSON", None),
    ],
)
def test_streams_and_texts_by_bytes(head: bytes, mime_type: str | None) -> None:
    assert sniff(head) == mime_type
