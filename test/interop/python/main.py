"""A client of Waymark made with Python's own tools, with the same scenario as test/interop/go/main.go.

It prints one JSON object a line: an event when the test must restart the node, and last the summary. The test answers an
event with the node's address on a line of stdin.
"""

import argparse
import json
import pathlib
import sys
import time
from collections import Counter

sys.path.insert(0, str(pathlib.Path(__file__).parent / "gen"))

import grpc  # noqa: E402
from client import CALL_TIMEOUT_S, KeepAlive, dial, instance, query, refusal, register, wanted  # noqa: E402
from fold import Fold, key_of  # noqa: E402
from google.protobuf import duration_pb2  # noqa: E402
from stay import stay  # noqa: E402

from waymark.catalog.v1 import watch_pb2  # noqa: E402
from waymark.discovery.v1 import discovery_pb2  # noqa: E402

NAMESPACE = "interop.python"
ENTRIES = 250
PAGE_LIMIT = 40
LEASE_TTL_S = 10
PATIENCE_S = 60


class Run:
    """One pass through the scenario."""

    def __init__(self):
        self.client = self.channel = self.alive = None
        self.lease = ""
        self.mine = {}  # What this program has registered, by instance id.
        self.fold = Fold()
        self.out = {"event": "done", "renewals": 0}

    def all(self, address):
        began = time.monotonic()
        self.connect(address)
        self.refusals()
        self.register()
        self.pages()
        self.watch_and_resume()
        self.restart()
        # A short cursor of the process before is answered with a snapshot, not with an error.
        self.out["foreign_short"] = self.watch(self.foreign, self.is_whole)
        # Longer than the lease: only the renewals can have kept it.
        time.sleep(max(0, LEASE_TTL_S + 1 - (time.monotonic() - began)))
        self.out["lease_outlived"] = True
        self.leave()

    def connect(self, address):
        if self.channel is not None:
            self.retire()
            self.channel.close()
        self.client, self.channel = dial(address)
        info = self.client.ServerInfo(discovery_pb2.ServerInfoRequest(), timeout=CALL_TIMEOUT_S, wait_for_ready=True)
        self.out["node_id"] = info.node_id

    def renew_in_background(self):
        self.alive = KeepAlive(self.client, self.lease, LEASE_TTL_S)
        self.alive.start()

    def retire(self):
        self.alive.stop()
        self.out["renewals"] += self.alive.renewals

    def refusals(self):
        bad = instance("Not.A.Namespace", "web", "i0", "")
        self.out["bad_entry"] = wanted(
            lambda: register(self.client, [bad], ttl_s=LEASE_TTL_S), "INVALID_ARGUMENT", "INVALID_ARGUMENT"
        )
        forged = discovery_pb2.CatalogWatchRequest(namespace=NAMESPACE, cursor="s1.forged")
        self.out["bad_cursor"] = wanted(
            lambda: next(self.client.CatalogWatch(forged)), "INVALID_ARGUMENT", "INVALID_ARGUMENT"
        )

    def register(self):
        # The filler makes a snapshot of several messages.
        batch = [
            instance(NAMESPACE, f"svc-{i % 20:02d}", f"i{i:03d}", "first", filler=f"{i:0300d}") for i in range(ENTRIES)
        ]
        self.mine = {entry.key.instance_id: entry for entry in batch}
        # Retried with the same key, as after a lost answer: the same lease comes back.
        key = f"python-{time.time_ns()}"
        leases = [register(self.client, batch, ttl_s=LEASE_TTL_S, idempotency_key=key) for _ in range(2)]
        self.lease = leases[0]
        self.out.update(registered=len(batch), same_lease=leases[0] == leases[1])
        self.renew_in_background()

    def pages(self):
        items, pages = query(self.client, NAMESPACE, PAGE_LIMIT)
        self.out.update(pages=pages, paged=len(items))
        keys = [key_of(item.key) for item in items]
        assert keys == sorted(set(keys)), "the pages are not in key order, or repeat a key"
        assert {item.key.instance_id for item in items} == set(self.mine)
        assert all(item.node_id == self.out["node_id"] for item in items)
        first = self.client.CatalogQuery(discovery_pb2.CatalogQueryRequest(namespace=NAMESPACE, limit=1))
        other = discovery_pb2.CatalogQueryRequest(
            namespace="interop.other", limit=1, page_token=first.next_page_token
        )
        self.out["bad_token"] = wanted(
            lambda: self.client.CatalogQuery(other), "INVALID_ARGUMENT", "INVALID_ARGUMENT"
        )
        resolved = self.client.Resolve(discovery_pb2.ResolveRequest(namespace=NAMESPACE, name="svc-07"))
        self.out["resolved"] = f"{resolved.entry.key.name} at {resolved.target.host}:{resolved.target.port}"

    def change(self, turn):
        """Makes one UPDATE, one REMOVE and one CREATE; turn keeps the keys of one call apart from those of another."""
        updated, removed = self.mine[f"i{turn:03d}"], self.mine.pop(f"i{100 + turn:03d}")
        updated.metadata["note"] = f"turn {turn}"
        created = instance(NAMESPACE, "late", f"late-{turn}", "new")
        register(self.client, [updated, created], lease_id=self.lease)
        self.mine[created.key.instance_id] = created
        gone = self.client.Unregister(discovery_pb2.UnregisterRequest(keys=[removed.key]))
        assert gone.removed == 1, f"removed {gone.removed} entries instead of 1"

    def watch(self, cursor, is_done, bookmark_s=1, cut=None):
        """Follows the namespace from a cursor ("" for a snapshot) and folds until is_done; then it cancels the stream.

        With cut, the stream must break instead; what the break said is put there.
        """
        request = discovery_pb2.CatalogWatchRequest(
            namespace=NAMESPACE,
            cursor=cursor,
            with_digest=True,
            bookmark_interval=duration_pb2.Duration(seconds=bookmark_s),
        )
        before, began_with_snapshot = Counter(self.fold.told), None
        stream = self.client.CatalogWatch(request, timeout=PATIENCE_S, wait_for_ready=True)
        try:
            for message in stream:
                self.fold.apply(message)
                if began_with_snapshot is None:
                    began_with_snapshot = message.snapshot == watch_pb2.SNAPSHOT_BEGIN
                if is_done(message):
                    break
        except grpc.RpcError as error:
            if cut is None or error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            cut.update(refusal(error))
        finally:
            stream.cancel()
            self.fold.broken()
        names = ("messages", "creates", "updates", "removes", "snapshots", "bookmarks", "digests")
        told = {name: self.fold.told[name] - before[name] for name in names}
        return {"began_with_snapshot": began_with_snapshot, "told": told, "held": len(self.fold.held)}

    def is_equal(self):
        """Whether what the watch gave is what this program has registered, to the content."""
        notes = {d.entry.key.instance_id: d.entry.metadata["note"] for d in self.fold.held.values()}
        return notes == {name: entry.metadata["note"] for name, entry in self.mine.items()}

    def is_whole(self, message):
        """Whether the message says "nothing is missing up to here", with the catalog as this program knows it."""
        return (message.bookmark or message.snapshot == watch_pb2.SNAPSHOT_END) and self.is_equal()

    def watch_and_resume(self):
        turns = []

        def is_done(message):
            if not self.is_whole(message):
                return False
            if turns:
                return True
            turns.append(1)  # At END: now the same stream must bring three changes.
            self.change(1)
            return False

        self.out["first"] = self.watch("", is_done)
        self.change(2)
        self.out["short"] = self.watch(self.fold.short, self.is_whole)

    def restart(self):
        """Watches until the node is gone, and goes on at the address the test gives, from the portable cursor."""
        self.change(3)
        asked = []

        def is_done(message):
            # The difference is told, then a bookmark; from there they are 10 s apart: one that comes after the question is
            # the last word of a node that stops.
            self.out["farewell"] = self.out.get("farewell", False) or (bool(asked) and message.bookmark)
            if not asked and message.bookmark and self.is_equal():
                asked.append(True)
                print(json.dumps({"event": "restart"}), flush=True)
            return False

        self.out["cut"] = {}
        self.watch(self.fold.portable, is_done, bookmark_s=10, cut=self.out["cut"])
        self.foreign = self.fold.short
        self.connect(sys.stdin.readline().strip())
        self.regain()
        self.change(4)
        self.out["portable"] = self.watch(self.fold.portable, self.is_whole)

    def regain(self):
        """Renews the lease at a node that came back, or registers everything again where that node has lost it."""
        renewed = self.client.Renew(discovery_pb2.RenewRequest(lease_ids=[self.lease]), timeout=CALL_TIMEOUT_S)
        self.out["re_registered"] = len(renewed.expired_lease_ids) > 0
        if renewed.expired_lease_ids:
            self.lease = register(self.client, list(self.mine.values()), ttl_s=LEASE_TTL_S)
        self.renew_in_background()

    def leave(self):
        gone = self.client.Unregister(discovery_pb2.UnregisterRequest(lease_id=self.lease), timeout=CALL_TIMEOUT_S)
        self.retire()
        self.mine.clear()
        last = self.watch(self.fold.portable, self.is_whole)
        self.out.update(unregistered=gone.removed, left=last["held"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="host:port of the node's gRPC listener")
    parser.add_argument("--stay", help="stay registered on one of these nodes until SIGTERM, and do nothing else: host:port,…")
    args = parser.parse_args()
    if args.stay:
        return stay(NAMESPACE, args.stay.split(","))
    run = Run()
    run.all(args.address)
    print(json.dumps(run.out), flush=True)


if __name__ == "__main__":
    main()
