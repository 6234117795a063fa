"""Calls of DiscoveryService as a program in Python makes them."""

import threading

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from waymark.catalog.v1 import entry_pb2
from waymark.discovery.v1 import discovery_pb2, discovery_pb2_grpc

CALL_TIMEOUT_S = 30


def dial(address):
    """A client of the node at address (host:port), and the channel to close."""
    channel = grpc.insecure_channel(address)
    return discovery_pb2_grpc.DiscoveryServiceStub(channel), channel


def instance(namespace, name, instance_id, note, **metadata):
    """One endpoint of a service."""
    return entry_pb2.Entry(
        key=entry_pb2.EntryKey(
            kind=entry_pb2.ENTRY_KIND_SERVICE, namespace=namespace, name=name, instance_id=instance_id
        ),
        targets=[entry_pb2.Target(host="10.2.0.1", port=8080, protocol="grpc")],
        tags=["interop"],
        metadata={"note": note, **metadata},
    )


def register(client, entries, lease_id="", ttl_s=0, idempotency_key=""):
    """Puts the entries under a new lease, or under lease_id when that is not empty."""
    request = discovery_pb2.RegisterRequest(entries=entries, lease_id=lease_id, idempotency_key=idempotency_key)
    if not lease_id:
        request.ttl.CopyFrom(duration_pb2.Duration(seconds=ttl_s))
    return client.Register(request, timeout=CALL_TIMEOUT_S, wait_for_ready=True).lease_id


class KeepAlive(threading.Thread):
    """Renews a lease on one stream until stop() or until the node does not hold it any more."""

    def __init__(self, client, lease_id, ttl_s):
        super().__init__(daemon=True)
        self._client, self._lease_id, self._wait_s = client, lease_id, ttl_s / 3
        self._stopped = threading.Event()
        self.renewals = 0
        self.is_expired = False

    def _requests(self):
        while not self._stopped.is_set():
            yield discovery_pb2.KeepAliveRequest(lease_ids=[self._lease_id])
            self._stopped.wait(self._wait_s)

    def run(self):
        try:
            for response in self._client.KeepAlive(self._requests(), wait_for_ready=True):
                if response.expired_lease_ids:
                    self.is_expired = True  # Register again.
                    return
                self.renewals += 1
                self._wait_s = max(response.ttl.ToMilliseconds() / 3000, 0.3)  # No ttl: the lease is static.
        except grpc.RpcError:
            return  # The stream's end does not end the lease: open the next one.

    def stop(self):
        self._stopped.set()


def query(client, namespace, limit):
    """All pages of a namespace: the entries in the order they came, and how many pages it took."""
    items, pages, token = [], 0, ""
    while True:
        request = discovery_pb2.CatalogQueryRequest(namespace=namespace, limit=limit, page_token=token)
        page = client.CatalogQuery(request, timeout=CALL_TIMEOUT_S, wait_for_ready=True)
        items += page.items
        pages, token = pages + 1, page.next_page_token
        if not token:
            return items, pages


def refusal(error):
    """What a failed call says; clients match the reason, never the text."""
    out = {"code": error.code().name, "reason": "", "fields": [], "retry_ms": -1}
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                out["reason"] = info.reason
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest.FromString(detail.value)
                out["fields"] = [violation.field for violation in bad.field_violations]
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo.FromString(detail.value)
                out["retry_ms"] = retry.retry_delay.ToMilliseconds()
    return out


def wanted(call, code, reason):
    """Makes a call that must be refused so; returns what it says."""
    try:
        call()
    except grpc.RpcError as error:
        said = refusal(error)
        if (said["code"], said["reason"]) == (code, reason):
            return said
        raise
    raise AssertionError(f"wanted {code} {reason}, got an answer")
