#!/usr/bin/env python3
"""Computes the values of vectors.rs from the descriptions in the documentation alone."""
import base64
import math

MASK = (1 << 64) - 1


def siphash128(key: bytes, data: bytes) -> bytes:
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, by):
        return ((x << by) | (x >> (64 - by))) & MASK

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    whole = len(data) // 8 * 8
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:].ljust(7, b"\0") + bytes([len(data) & 255]), "little"))
    for word in words:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(4)
    low = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(4)
    high = v[0] ^ v[1] ^ v[2] ^ v[3]
    return low.to_bytes(8, "little") + high.to_bytes(8, "little")


def keyed(key: bytes, *parts: bytes) -> bytes:
    return siphash128(key, b"".join(len(part).to_bytes(8, "little") + part for part in parts))


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def mix(bits: int) -> int:
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    return bits ^ (bits >> 31)


SIGN = bytes(range(16))
SHARE = bytes.fromhex("f0e0d0c0b0a090807060504030201000")

for length in range(64):  # siphash.txt
    print("siphash", length, siphash128(SIGN, bytes(range(length))).hex())

for session in (0, 1, 2**127 + 12345):
    identity = session.to_bytes(16, "little")
    bucket = int.from_bytes(keyed(SHARE, b"bucket", b"cart", b"2026-11-21", identity), "little") % 10_000
    body = bucket.to_bytes(2, "big") + b"\x01"
    mark = body + keyed(SIGN, b"mark", b"cart", b"2026-11-21", body)
    print("session", base64url(identity), "bucket", bucket, "mark", base64url(mark))

print("sticky literal", base64url(keyed(SIGN, b"sticky", b"app", b"a")))
print("sticky resolved", base64url(keyed(SIGN, b"sticky", b"app", b"a", bytes([10, 0, 0, 1]), (8000).to_bytes(2, "big"))))

seeds = {name: int.from_bytes(keyed(SHARE, b"server", b"app", name.encode())[:8], "little") for name in "abcdef"}
homes = []
for last in range(16):
    key = int.from_bytes(keyed(SHARE, b"affinity", b"source", bytes([192, 0, 2, last]))[:8], "little")
    homes.append(max(seeds, key=lambda name: mix(key ^ seeds[name])))
print("rendezvous", "".join(homes))


def maglev_table(weights: dict[str, int], entries: int = 65_537) -> list[str]:
    """Eisenbud et al. 2016, section 3.4, with the weights of src/pick/maglev.rs."""
    steps = {name: int.from_bytes(keyed(SHARE, b"maglev", b"app", name.encode()), "little") for name in weights}
    names = sorted(weights, key=steps.get)
    nexts = {name: (steps[name] & MASK) % entries for name in names}
    skips = {name: (steps[name] >> 64) % (entries - 1) + 1 for name in names}
    heaviest = max(weights.values())
    gathered = {name: heaviest - weights[name] for name in names}
    table: list[str | None] = [None] * entries
    left = entries
    while left:
        for name in names:
            gathered[name] += weights[name]
            if gathered[name] < heaviest or not left:
                continue
            gathered[name] -= heaviest
            while table[nexts[name]] is not None:
                nexts[name] = (nexts[name] + skips[name]) % entries
            table[nexts[name]] = name
            left -= 1
    return table


for weights in ({name: 1 for name in "abcdef"}, {"a": 1, "b": 2, "c": 256, "d": 7}):
    table = maglev_table(weights)
    counts = " ".join(f"{name}{table.count(name)}" for name in sorted(weights))
    print("maglev", "".join(table[:24]), counts, siphash128(SIGN, "".join(table).encode()).hex())

table = maglev_table({name: 1 for name in "abcdef"})
homes = []
for last in range(16):
    key = int.from_bytes(keyed(SHARE, b"affinity", b"source", bytes([192, 0, 2, last]))[:8], "little")
    homes.append(table[key % len(table)])
print("maglev homes", "".join(homes))

# Without a and b: the next entries of the keys that named them.
homes = []
for last in range(16):
    key = int.from_bytes(keyed(SHARE, b"affinity", b"source", bytes([192, 0, 2, last]))[:8], "little")
    while table[key % len(table)] in "ab":
        key = mix((key + 0x9E3779B97F4A7C15) & MASK)
    homes.append(table[key % len(table)])
print("maglev homes without a and b", "".join(homes))

weights = {"a": 1, "b": 2, "c": 4, "d": 4, "e": 9, "f": 30}
homes = []
for last in range(32):
    key = int.from_bytes(keyed(SHARE, b"affinity", b"source", bytes([192, 0, 2, last]))[:8], "little")
    cost = {name: -math.log2((mix(key ^ seeds[name]) + 1) / 2**64) / weights[name] for name in weights}
    homes.append(min(weights, key=cost.get))
print("rendezvous by weight", "".join(homes))
