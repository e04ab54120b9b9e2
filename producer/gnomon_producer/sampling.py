"""Sampling at the source: a keyed hash decides, so that the same request or cluster is in or out everywhere."""

import hashlib


class Sampler:
    """Takes a share `rate` of all keys. It has a separate salt, so the sample is independent of any scorer's."""

    def __init__(self, rate: float, salt: str) -> None:
        self.rate = rate
        self._below = round(rate * 2**64)
        self._salt = hashlib.blake2b(salt.encode(), digest_size=32).digest()

    def takes(self, key: str) -> bool:
        """Return whether the key is in the sample."""
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest, "big") < self._below
