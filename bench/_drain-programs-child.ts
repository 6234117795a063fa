/**
 * Programs that use nodes while one of them is drained: `_drain-programs-child.ts DRAINED SERVER,SERVER,… LEASES WATCHES TTL_MS`. Each lease is kept by
 * Waymark's client and begins on the drained node. Watches of the namespace are spread over all nodes. The process sends `ready` to its parent, and answers
 * a message with its figures.
 */
import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { DiscoveryDelta_Cause, DiscoveryDeltaSchema } from "../gen/waymark/catalog/v1/delta_pb.js";
import { EntryKind, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogWatchRequestSchema, CatalogWatchResponseSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { connect } from "../src/client/index.ts";
import { countField, fieldsOf } from "./_frames.ts";
import { until } from "./_mesh.ts";
import { Wire } from "./_wire.ts";
import { fail, keyOf, NAMESPACE, PATH, shapeOf } from "./_work.ts";

const [drained = "", servers = "", leases = "0", watches = "0", ttlMs = "0"] = process.argv.slice(2);
const SERVERS = servers.split(",");
/** Leases that one program keeps. */
const LEASES_PER_CLIENT = 20;
const BOOKMARK_MS = 3000;

const figures = {
  /** Attempts to register that failed, and leases that were registered again because a node did not answer in time. */
  retries: 0,
  silentServers: 0,
  /** Changes of watches that removed an entry. The entry was registered all the time. */
  removals: 0,
  /** Bookmarks whose count or digest differs from the set of the watch. */
  wrongDigests: 0,
  /** Streams that ended, and continued on another node with a cursor or with a snapshot. */
  resumed: 0,
  restarted: 0,
};
export type ProgramFigures = typeof figures & {
  /** Entries of which a watch got another number of new versions than one. */
  readonly otherUpdates: number;
  /** Different sets of the watches at the end. */
  readonly sets: number;
  /** Leases on other nodes at the end. */
  readonly movedLeases: number;
};

function log(text: string): void {
  console.error(`${new Date().toISOString()} ${text}`);
}

/** A version of an entry, and its part of the digest. */
interface Version {
  readonly id: string;
  readonly key: string;
  readonly isRemoval: boolean;
  readonly hash: bigint;
}

const versions = new Map<string, Version>();

// HOT: all watches receive each change, and decoding it again would delay the other programs.
function versionIn(delta: Buffer): Version {
  const id = fieldsOf(delta, DiscoveryDeltaSchema.field.deltaId.number)[0]?.toString("latin1") ?? fail();
  let version = versions.get(id);
  if (version === undefined) {
    const { payload, cause } = fromBinary(DiscoveryDeltaSchema, delta);
    const { name, instanceId } =
      (payload.case === "entry" ? payload.value.key : payload.case === "removed" ? payload.value : undefined) ?? fail();
    const hash = createHash("sha256").update(id).digest().readBigUInt64BE();
    version = { id, key: `${name}/${instanceId}`, isRemoval: payload.case === "removed", hash };
    if (version.isRemoval) log(`${version.key} was removed by ${id}: ${DiscoveryDelta_Cause[cause]}`);
    versions.set(id, version);
  }
  return version;
}

const wires = new Map<string, Promise<Wire>>();

/** A node accepts about a hundred streams on a connection. */
function wireTo(server: string, part: string): Promise<Wire> {
  const [host = "", port = ""] = server.split(":");
  const wire = wires.get(`${server} ${part}`) ?? Wire.open({ host, port: Number(port) });
  wires.set(`${server} ${part}`, wire);
  return wire;
}

/** Follows the namespace, and counts everything that a reader must not see. */
class Watcher {
  #server: number;
  readonly #held = new Map<string, Version>();
  readonly #updates = new Map<string, number>();
  #digest = 0n;
  #cursor = "";
  #isCurrent = false;
  /** Count and digest of the last bookmark. */
  confirmed = "";
  readonly current = Promise.withResolvers<void>();

  constructor(server: number) {
    this.#server = server;
  }

  get otherUpdates(): number {
    return [...this.#held.keys()].filter((key) => this.#updates.get(key) !== 1).length;
  }

  async open(): Promise<void> {
    const wire = await wireTo(SERVERS[this.#server % SERVERS.length] ?? fail(), this.#isCurrent ? "resumed" : "first");
    const stream = wire.stream(PATH.watch, {
      onMessage: (bytes, start, end) => this.#read(bytes.subarray(start, end)),
      onEnd: () => {
        this.#server += 1;
        figures.resumed += 1;
        void this.open();
      },
    });
    const request = { namespace: NAMESPACE, withDigest: true, bookmarkInterval: durationFromMs(BOOKMARK_MS), cursor: this.#cursor };
    stream.send(toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, request)));
    stream.end();
  }

  #read(bytes: Buffer): void {
    const { deltas, portableCursor, snapshot, bookmark } = CatalogWatchResponseSchema.field;
    const tags = [portableCursor.number * 8 + 2, snapshot.number * 8, bookmark.number * 8];
    const isControl = tags.some((tag) => countField(bytes, 0, bytes.length, tag) > 0);
    const control = isControl ? fromBinary(CatalogWatchResponseSchema, bytes) : undefined;
    if (control?.snapshot === Snapshot.BEGIN) {
      if (this.#isCurrent) figures.restarted += 1;
      this.#held.clear();
      this.#digest = 0n;
    }
    for (const delta of fieldsOf(bytes, deltas.number)) this.#change(versionIn(delta));
    if (control === undefined) return;
    this.#cursor = control.portableCursor || this.#cursor;
    if (control.snapshot === Snapshot.END) {
      this.#isCurrent = true;
      this.current.resolve();
    }
    if (control.snapshot !== Snapshot.END && !control.bookmark) return;
    this.confirmed = `${control.count} ${control.digest}`;
    const own = `${this.#held.size} ${this.#digest}`;
    if (own === this.confirmed) return;
    figures.wrongDigests += 1;
    log(`a watch on ${SERVERS[this.#server % SERVERS.length]} has ${own} instead of ${this.confirmed}`);
  }

  #change(version: Version): void {
    const { key, isRemoval, id, hash } = version;
    const before = this.#held.get(key);
    if (this.#isCurrent && !isRemoval && before?.id !== id) this.#updates.set(key, (this.#updates.get(key) ?? 0) + 1);
    if (isRemoval) figures.removals += 1;
    this.#digest = BigInt.asUintN(64, this.#digest + (isRemoval ? 0n : hash) - (before?.hash ?? 0n));
    if (isRemoval) this.#held.delete(key);
    else this.#held.set(key, version);
  }
}

const holders = new Map<number, string>();

/** Keeps some leases, each with one entry. */
async function keepLeases(first: number, end: number): Promise<void> {
  const others = SERVERS.filter((server) => server !== drained);
  const turn = (first / LEASES_PER_CLIENT) % others.length;
  const client = connect({ servers: [drained, ...others.slice(turn), ...others.slice(0, turn)], findServers: false });
  for (let k = first; k < end; k++) {
    const { host, port, tags } = shapeOf(k);
    const key = { kind: EntryKind.SERVICE, namespace: NAMESPACE, ...keyOf(k) };
    const entry = { key, scope: Scope.REGION, targets: [{ host, port, protocol: "grpc", weight: 10 }], tags };
    await client.register([entry], {
      ttlMs: Number(ttlMs),
      onEvent: (event) => {
        if (event.kind === "registered") holders.set(k, event.server);
        if (event.kind === "retrying") figures.retries += 1;
        if (event.kind === "lost" && event.why === "server") figures.silentServers += 1;
      },
    });
  }
}

const starts = Array.from({ length: Math.ceil(Number(leases) / LEASES_PER_CLIENT) }, (_, i) => i * LEASES_PER_CLIENT);
await Promise.all(starts.map((first) => keepLeases(first, Math.min(Number(leases), first + LEASES_PER_CLIENT))));
const watchers = Array.from({ length: Number(watches) }, (_, i) => new Watcher(i));
for (const watcher of watchers) {
  await watcher.open();
  await watcher.current.promise;
}

async function finalFigures(): Promise<ProgramFigures> {
  // Each watch has a bookmark that is newer than the last change.
  for (const watcher of watchers) watcher.confirmed = "";
  await until(() => watchers.every(({ confirmed }) => confirmed !== ""), "all watches have a bookmark");
  const sets = new Set(watchers.map(({ confirmed }) => confirmed)).size;
  const movedLeases = [...holders.values()].filter((server) => server !== drained).length;
  return { ...figures, otherUpdates: watchers.reduce((sum, watcher) => sum + watcher.otherUpdates, 0), sets, movedLeases };
}

process.on("message", () => void finalFigures().then((final) => process.send?.(final)));
process.on("disconnect", () => process.exit());
process.send?.("ready");
