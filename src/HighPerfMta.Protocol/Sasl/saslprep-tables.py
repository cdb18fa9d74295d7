#!/usr/bin/env python3
"""Writes saslprep.bin: what RFC 4013 needs of Unicode 3.2, which Python keeps for stringprep.

Zlib over little-endian 32-bit numbers: count, then (first code point, flags) where the flags change; count, then (code point, offset, length) of the full
compatibility decompositions; count, then the code points they are made of; count, then (first, second, composite). Flags: 1 mapped to nothing (B.1),
2 mapped to SPACE (C.1.2), 4 prohibited, 8 RandALCat (D.1), 16 LCat (D.2), 32 unassigned (A.1), and the canonical combining class from bit 8 on.
"""
import pathlib
import stringprep
import struct
import zlib
from unicodedata import ucd_3_2_0 as ucd

HANGUL = range(0xAC00, 0xD7A4)
PROHIBITED = (stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4, stringprep.in_table_c5,
              stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9)


def flags(c):
    value = ucd.combining(c) << 8
    value |= 2 if stringprep.in_table_c12(c) else 1 if stringprep.in_table_b1(c) else 0
    value |= 4 if any(table(c) for table in PROHIBITED) else 0
    value |= 8 if stringprep.in_table_d1(c) else 16 if stringprep.in_table_d2(c) else 0
    return value | (32 if stringprep.in_table_a1(c) else 0)


runs, decompositions, pool, compositions = [], [], [], []
last = None
for point in range(0x110000):
    c = chr(point)
    now = flags(c)
    if now != last:
        runs += [point, now]
        last = now
    if point in HANGUL or 0xD800 <= point < 0xE000:
        continue
    full = ucd.normalize("NFKD", c)
    if full != c:
        decompositions += [point, len(pool), len(full)]
        pool += map(ord, full)
    parts = ucd.decomposition(c).split()
    if len(parts) == 2 and not parts[0].startswith("<") and ucd.normalize("NFC", c) == c:
        compositions.append((int(parts[0], 16), int(parts[1], 16), point))

compositions.sort()
numbers = [len(runs) // 2, *runs, len(decompositions) // 3, *decompositions, len(pool), *pool, len(compositions), *(n for entry in compositions for n in entry)]
packed = zlib.compress(struct.pack(f"<{len(numbers)}i", *numbers), 9)
pathlib.Path(__file__).with_name("saslprep.bin").write_bytes(packed)
