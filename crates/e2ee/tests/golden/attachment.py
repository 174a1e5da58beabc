"""Computes attachment.txt anew from the description of the format, with another implementation of the cipher. Needs `cryptography`."""
import hashlib, math
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY, CHUNK = bytes(range(32)), 65536

def padme(size):
    if size < 2:
        return size
    exponent = math.floor(math.log2(size))
    kept = (math.floor(math.log2(exponent)) if exponent else 0) + 1
    mask = (1 << max(exponent - kept, 0)) - 1
    return (size + mask) & ~mask

for size in (0, 1, 65535, 65536, 65537, 200000):
    file = bytes(at % 251 for at in range(size))
    padded = file + bytes(padme(size) - size)
    chunks = [padded[at:at + CHUNK] for at in range(0, len(padded), CHUNK)] or [b""]
    blob = b""
    for at, chunk in enumerate(chunks):
        nonce = bytes(7) + at.to_bytes(4, "big") + bytes([at == len(chunks) - 1])
        blob += AESGCM(KEY).encrypt(nonce, chunk, b"")
    print(size, len(blob), hashlib.sha256(blob).hexdigest(), blob[-16:].hex())
