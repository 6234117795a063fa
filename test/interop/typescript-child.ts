/**
 * A client of Waymark made with protobuf-es and connect-node's gRPC transport, which share no code with our server's gRPC
 * side. It registers, keeps alive, queries, watches, is cut off, resumes and checks the digest; prints a JSON summary.
 */
import { createHash } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { DiscoveryDelta_Action as Action, type DiscoveryDelta } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { type EntryKey, EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { type CatalogWatchResponse, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";

type Discovery = Client<typeof DiscoveryService>;

const NAMESPACE = "interop.typescript";
const TTL = { seconds: 30n, nanos: 0 };

/** A client of the node at `host:port`; `close` ends its connection, which would keep the process alive. */
function dial(address: string) {
  const baseUrl = `http://${address}`;
  const sessionManager = new Http2SessionManager(baseUrl, { pingIntervalMs: 30_000 });
  const transport = createGrpcTransport({ baseUrl, sessionManager, defaultTimeoutMs: 10_000 });
  return { client: createClient(DiscoveryService, transport), close: () => sessionManager.abort() };
}

function instance(name: string, instanceId: string, note: string) {
  return {
    key: { kind: EntryKind.SERVICE, namespace: NAMESPACE, name, instanceId },
    targets: [{ host: "10.3.0.1", port: 8080, protocol: "grpc" }],
    metadata: { note },
  };
}

/** Renews the lease on one stream, `count` times. */
async function keepAlive(client: Discovery, leaseId: string, count: number): Promise<number> {
  async function* requests() {
    for (let i = 0; i < count; i++) yield await Promise.resolve({ leaseIds: [leaseId] });
  }
  let renewals = 0;
  for await (const response of client.keepAlive(requests())) {
    if (response.expiredLeaseIds.length > 0) throw new Error("the lease is gone: register again");
    renewals += 1;
  }
  return renewals;
}

async function query(client: Discovery, limit: number): Promise<readonly string[]> {
  const found: string[] = [];
  let pageToken = "";
  do {
    const page = await client.catalogQuery({ namespace: NAMESPACE, limit, pageToken });
    for (const item of page.items) found.push(item.key?.instanceId ?? "");
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

/** What a reader of CatalogWatch holds: the rules of docs/guides/watch.md. */
class Fold {
  readonly held = new Map<string, DiscoveryDelta>();
  #listed: Set<string> | undefined;
  #replaces: readonly string[] = [];
  short = "";
  portable = "";

  apply(message: CatalogWatchResponse): void {
    if (message.snapshot === Snapshot.BEGIN) {
      this.#listed = new Set();
      this.#replaces = message.replaces;
    }
    for (const delta of message.deltas) this.#change(delta);
    if (message.snapshot === Snapshot.END) this.#dropUnlisted();
    if (this.#listed !== undefined) return;
    if (message.cursor !== "") this.short = message.cursor;
    if (message.portableCursor !== "") this.portable = message.portableCursor;
    const isWhole = message.bookmark || message.snapshot === Snapshot.END;
    if (isWhole && (message.count !== BigInt(this.held.size) || message.digest !== this.digest())) {
      throw new Error(`hold ${this.held.size}, the server says ${message.count}`);
    }
  }

  /** A stream has ended: a snapshot it was in the middle of is void. */
  broken(): void {
    this.#listed = undefined;
  }

  digest(): bigint {
    let sum = 0n;
    for (const { deltaId } of this.held.values()) sum += createHash("sha256").update(deltaId).digest().readBigUInt64BE();
    return BigInt.asUintN(64, sum);
  }

  #change({ payload, action, ...delta }: DiscoveryDelta): void {
    if (payload.case === "removed") this.held.delete(textOf(payload.value));
    if (payload.case !== "entry" || payload.value.key === undefined || action === Action.REMOVE) return;
    const text = textOf(payload.value.key);
    this.held.set(text, { ...delta, payload, action });
    this.#listed?.add(text);
  }

  #dropUnlisted(): void {
    for (const [text, delta] of this.held) {
      const isCovered = this.#replaces.length === 0 || this.#replaces.includes(delta.namespace);
      if (isCovered && this.#listed?.has(text) !== true) this.held.delete(text);
    }
    this.#listed = undefined;
  }
}

function textOf(key: EntryKey): string {
  return [key.namespace, key.name, key.kind, key.instanceId, key.clusterId].join("\0");
}

/** Follows from a cursor until a message says "nothing is missing"; returns whether it began with a snapshot. */
async function watch(client: Discovery, fold: Fold, cursor: string): Promise<boolean> {
  let isSnapshot: boolean | undefined;
  const request = { namespace: NAMESPACE, cursor, withDigest: true, bookmarkInterval: { seconds: 1n, nanos: 0 } };
  // A watch has no end of its own, so the deadline of other calls is not for it; leaving the loop cancels it.
  for await (const message of client.catalogWatch(request, { timeoutMs: 0 })) {
    isSnapshot ??= message.snapshot === Snapshot.BEGIN;
    fold.apply(message);
    if (message.bookmark || message.snapshot === Snapshot.END) break;
  }
  fold.broken();
  return isSnapshot ?? false;
}

/** What a failed call says; match the reason, never the text. */
function refusalOf(thrown: unknown) {
  const error = ConnectError.from(thrown);
  return {
    code: Code[error.code],
    reason: error.findDetails(ErrorInfoSchema)[0]?.reason,
    fields: error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations.map((violation) => violation.field)),
  };
}

async function scenario(client: Discovery) {
  const entries = Array.from({ length: 100 }, (_, i) => instance(`svc-${i % 10}`, `i${i}`, "first"));
  const { leaseId } = await client.register({ entries, ttl: TTL });
  const renewals = await keepAlive(client, leaseId, 3);
  const paged = await query(client, 30);
  const badEntry = await client
    .register({ entries: [{ ...instance("web", "i0", ""), targets: [{ host: "h", port: 65_536 }] }] })
    .catch(refusalOf);
  const fold = new Fold();
  const first = await watch(client, fold, "");
  const afterFirst = fold.held.size;
  await client.register({ entries: [instance("svc-1", "i1", "second"), instance("late", "new", "")], leaseId });
  await client.unregister({ keys: [instance("svc-2", "i2", "").key] });
  const short = await watch(client, fold, fold.short);
  const second = [...fold.held.values()].find(({ payload }) => payload.case === "entry" && payload.value.key?.instanceId === "i1");
  const afterShort = { held: fold.held.size, note: second?.payload.case === "entry" ? second.payload.value.metadata["note"] : undefined };
  const { removed } = await client.unregister({ leaseId });
  const portable = await watch(client, fold, fold.portable);
  const beganWithSnapshot = { first, short, portable };
  return {
    renewals,
    paged: paged.length,
    badEntry,
    beganWithSnapshot,
    afterFirst,
    afterShort,
    unregistered: removed,
    left: fold.held.size,
  };
}

const { client, close } = dial(process.argv[2] ?? "");
console.log(JSON.stringify(await scenario(client)));
close();
