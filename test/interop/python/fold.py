"""What a reader of CatalogWatch holds: the rules of docs/guides/watch.md in one class."""

import hashlib
from collections import Counter

from waymark.catalog.v1 import delta_pb2, watch_pb2

Delta = delta_pb2.DiscoveryDelta


class DigestError(Exception):
    """This reader is not where the server thinks it is."""


def key_of(key):
    return (key.namespace, key.name, key.kind, key.instance_id, key.cluster_id)


class Fold:
    def __init__(self):
        self.held = {}  # Key to the newest delta of it.
        self.listed = None  # Keys told since BEGIN; None outside a snapshot.
        self.replaces = ()  # Namespaces a scoped snapshot speaks for; empty means all.
        self.short = ""
        self.portable = ""
        self.told = Counter()

    def apply(self, message):
        """Folds one message; raises DigestError when count or digest differ."""
        self.told["messages"] += 1
        if message.snapshot == watch_pb2.SNAPSHOT_BEGIN:
            self.listed, self.replaces = set(), tuple(message.replaces)
            self.told["snapshots"] += 1
        for delta in message.deltas:
            self._change(delta)
        is_end = message.snapshot == watch_pb2.SNAPSHOT_END
        if is_end:
            self._drop_unlisted()
        if self.listed is not None:
            return  # Inside a snapshot nothing is known to be whole: no cursor, no digest.
        self.short = message.cursor or self.short
        self.portable = message.portable_cursor or self.portable
        if message.bookmark:
            self.told["bookmarks"] += 1
        if message.bookmark or is_end:
            self._check(message)

    def _change(self, delta):
        if delta.action in (Delta.ACTION_CREATE, Delta.ACTION_UPDATE):
            self.told["creates" if delta.action == Delta.ACTION_CREATE else "updates"] += 1
            key = key_of(delta.entry.key)
            self.held[key] = delta
            if self.listed is not None:
                self.listed.add(key)
        elif delta.action == Delta.ACTION_REMOVE:
            self.told["removes"] += 1
            self.held.pop(key_of(delta.removed), None)

    def _drop_unlisted(self):
        """Ends a snapshot: what it speaks for and did not list is not there."""
        for key, delta in list(self.held.items()):
            is_covered = not self.replaces or delta.namespace in self.replaces
            if is_covered and key not in self.listed:
                del self.held[key]
        self.broken()

    def broken(self):
        """Called when a stream ends: a snapshot it was in the middle of is void."""
        self.listed, self.replaces = None, ()

    def digest(self):
        """Sum of the first 8 bytes of SHA-256(delta_id) over what is held, modulo 2^64."""
        sums = (int.from_bytes(hashlib.sha256(d.delta_id.encode()).digest()[:8], "big") for d in self.held.values())
        return sum(sums) % 2**64

    def _check(self, message):
        self.told["digests"] += 1
        if message.count != len(self.held) or message.digest != self.digest():
            raise DigestError(
                f"hold {len(self.held)} with digest {self.digest()}, the server says {message.count} with digest {message.digest}"
            )
