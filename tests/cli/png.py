"""PNG files by the specification, so that the tests need no image library."""

import pathlib
import zlib

import numpy as np


def write_png(path, samples, bits=8, palette=None, transparent=None, interlaced=False):
    """Writes samples (h, w) or (h, w, channels) as PNG of 1 to 16 bits; with a palette, samples are its indices."""
    samples = np.asarray(samples)
    samples = samples[:, :, None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    colour = 3 if palette is not None else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first column, first row, steps
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for left, top, across, down in passes:
        part = samples[top::down, left::across]
        for row in part if part.size else []:
            if bits == 16:
                line = row.astype(">u2").tobytes()
            else:
                spread = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits:]
                line = np.packbits(spread.reshape(-1)).tobytes()
            raw += b"\0" + line

    def chunk(name, data):
        body = name + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, int(interlaced)])
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if palette is not None:
        data += chunk(b"PLTE", np.asarray(palette, np.uint8).tobytes())
    if transparent is not None:
        data += chunk(b"tRNS", bytes(transparent))
    pathlib.Path(path).write_bytes(data + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def read_png(path):
    """Samples (h, w, channels) and bits of a PNG that libpng wrote: 8 or 16 bits, not interlaced."""
    data, at, packed = pathlib.Path(path).read_bytes()[8:], 0, b""
    while at < len(data):
        length, name = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        body = data[at + 8:at + 8 + length]
        if name == b"IHDR":
            width, height, bits, colour = *(int.from_bytes(body[i:i + 4], "big") for i in (0, 4)), *body[8:10]
        packed += body if name == b"IDAT" else b""
        at += 12 + length
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    step, raw = channels * bits // 8, zlib.decompress(packed)
    rows, above = [], np.zeros(width * step, np.int64)
    for i in range(height):
        line = np.frombuffer(raw[i * (width * step + 1):(i + 1) * (width * step + 1)], np.uint8).astype(np.int64)
        above = unfilter(line[0], line[1:], above, step)
        rows.append(above)
    samples = np.array(rows, np.uint8).reshape(height, -1)
    samples = samples.view(">u2") if bits == 16 else samples
    return samples.reshape(height, width, channels).astype(np.int64), bits


def unfilter(kind, line, above, step):
    """One row of a PNG, as the specification defines the five filters."""
    row = np.zeros_like(line)
    for k in range(len(line)):
        a, b, c = (row[k - step] if k >= step else 0), above[k], (above[k - step] if k >= step else 0)
        p = a + b - c
        nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        row[k] = (line[k] + [0, a, b, (a + b) // 2, nearest][kind]) % 256
    return row
