"""A program that stays registered and follows a namespace while nodes are drained: it uses the nodes that it knows, in turn."""

import json
import signal
import sys
import threading

import grpc
from client import KeepAlive, dial, instance
from fold import Fold
from google.protobuf import duration_pb2

from waymark.discovery.v1 import discovery_pb2

TTL_S = 3
TIMEOUT_S = 2
PAUSE_S = 0.2
ENTRIES = 5
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def stay_registered(nodes, entries, stopped, seen):
    """Keeps the entries registered until stopped is set.

    When their lease has ended on a node, it registers them on this node again, or on the next one if this one is draining
    or does not answer.
    """
    at = 0
    while not stopped.is_set():
        request = discovery_pb2.RegisterRequest(entries=entries, ttl=duration_pb2.Duration(seconds=TTL_S))
        try:
            lease_id = nodes[at].Register(request, timeout=TIMEOUT_S).lease_id
        except grpc.RpcError as error:
            if error.code() not in LOST:
                raise
            at = (at + 1) % len(nodes)
            stopped.wait(PAUSE_S)
            continue
        seen("registered", at)
        # However the renewals end, the next registration finds the node that accepts the entries.
        renew(KeepAlive(nodes[at], lease_id, TTL_S), stopped, lambda: seen("renewed", at))


def renew(alive, stopped, renewed):
    """Renews a lease until it ends or stopped is set."""
    alive.start()
    renewals = 0
    while alive.is_alive() and not stopped.is_set():
        alive.join(PAUSE_S)
        if alive.renewals > renewals:
            renewals = alive.renewals
            renewed()
    alive.stop()


class Follower:
    """Folds the changes of a namespace.

    When a watch ends, it continues on the next node from the portable cursor, so it receives each change once.
    """

    def __init__(self, nodes, namespace):
        self._nodes, self._namespace, self._call = nodes, namespace, None
        self.fold = Fold()

    def follow(self, stopped, seen):
        at = 0
        while not stopped.is_set():
            request = discovery_pb2.CatalogWatchRequest(
                namespace=self._namespace,
                cursor=self.fold.portable,
                with_digest=True,
                bookmark_interval=duration_pb2.Duration(seconds=1),
            )
            self._call = self._nodes[at].CatalogWatch(request)
            if stopped.is_set():
                self.cancel()
            try:
                for message in self._call:
                    self.fold.apply(message)
                    if message.bookmark:
                        seen("followed", at)
            except grpc.RpcError as error:
                if not stopped.is_set() and error.code() not in LOST:
                    raise
            self.fold.broken()
            at = (at + 1) % len(self._nodes)
            stopped.wait(PAUSE_S)

    def cancel(self):
        if self._call is not None:
            self._call.cancel()


def show(event, **fields):
    # One write, because several threads print.
    sys.stdout.write(json.dumps({"event": event, **fields}, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def stay(namespace, addresses):
    """Registers entries on these nodes and follows their namespace until SIGTERM.

    It prints an event for each registration, renewal and bookmark, with the number of the node, and last the tally of its
    watch.
    """
    stopped, failed = threading.Event(), []
    nodes = [dial(address)[0] for address in addresses]
    entries = [instance(namespace, "web", f"web-{i}", "") for i in range(ENTRIES)]
    follower = Follower(nodes, namespace)

    def seen(event, node):
        show(event, node=node)

    def run(work, *args):
        try:
            work(*args, stopped, seen)
        except Exception as error:
            failed.append(error)
        stopped.set()

    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    threads = [
        threading.Thread(target=run, args=(stay_registered, nodes, entries)),
        threading.Thread(target=run, args=(follower.follow,)),
    ]
    for thread in threads:
        thread.start()
    stopped.wait()
    follower.cancel()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    names = ("messages", "creates", "updates", "removes", "snapshots", "bookmarks", "digests")
    told = {name: follower.fold.told[name] for name in names}
    show("done", told=told, held=len(follower.fold.held))
