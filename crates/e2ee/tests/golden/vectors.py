"""Computes the golden values of this folder anew, from the formats and not from the crate. Needs only Python 3."""
import hashlib, hmac

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
L = 2**252 + 27742317777372353535851937790883648493

def add(a, b):
    x1, y1, z1, t1 = a; x2, y2, z2, t2 = b
    A, B = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    C, E = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = B - A, E - C, E + C, B + A
    return e * f % P, g * h % P, f * g % P, e * h % P

def mul(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1: q = add(q, p)
        p = add(p, p); s >>= 1
    return q

GY = 4 * pow(5, P - 2, P) % P
_x2 = (GY * GY - 1) * pow(D * GY * GY + 1, P - 2, P) % P
_x = pow(_x2, (P + 3) // 8, P)
if (_x * _x - _x2) % P: _x = _x * pow(2, (P - 1) // 4, P) % P
GX = P - _x if _x & 1 else _x
G = (GX, GY, 1, GX * GY % P)

def pack(p):
    zi = pow(p[2], P - 2, P)
    return ((p[1] * zi % P) | ((p[0] * zi % P) & 1) << 255).to_bytes(32, "little")

def expand(seed):
    h = hashlib.sha512(seed).digest()
    a = int.from_bytes(h[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    return a, h[32:]

def public(seed): return pack(mul(expand(seed)[0], G))

def sign(seed, message):
    a, prefix = expand(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    R, A = pack(mul(r, G)), public(seed)
    k = int.from_bytes(hashlib.sha512(R + A + message).digest(), "little") % L
    return R + ((r + k * a) % L).to_bytes(32, "little")

def account_seed(root):
    prk = hmac.new(bytes(64), root, hashlib.sha512).digest()
    return hmac.new(prk, b"parlour account key v1\x01", hashlib.sha512).digest()[:32]

def head(major, n):
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 24: return bytes([major << 5 | n])
        if n < 256**size: return bytes([major << 5 | info]) + n.to_bytes(size, "big")

def byte_string(b): return head(2, len(b)) + b
def text(t): return head(3, len(t.encode())) + t.encode()
def cbor_map(*values): return head(5, len(values)) + b"".join(head(0, i) + v for i, v in enumerate(values))

def certificate(root, device, label, created_ms):
    seed = account_seed(root)
    body = cbor_map(byte_string(public(seed)), byte_string(public(device)), text(label), head(0, created_ms))
    return cbor_map(byte_string(body), byte_string(sign(seed, b"parlour device certificate v1\0" + body)))

def half(key):
    h = hashlib.sha512(b"parlour safety number v1\0" + key).digest()
    for _ in range(5199): h = hashlib.sha512(h + key).digest()
    return [f"{int.from_bytes(h[i:i + 5], 'big') % 100000:05}" for i in range(0, 30, 5)]

def safety(a, b): return " ".join(half(min(a, b)) + half(max(a, b)))

if __name__ == "__main__":
    root1, root2, device = bytes([1] * 32), bytes([2] * 32), bytes([2] * 32)
    print(certificate(root1, device, "laptop", 1_700_000_000_000).hex())
    print(safety(public(account_seed(root1)), public(account_seed(root2))))
