/**
 * Programs that use nodes while one of them is drained: `_drain-programs-child.ts DRAINED SERVER,SERVER,… LEASES WATCHES TTL_MS`. Each lease is kept by
 * Waymark's client and begins on the drained node. Watches of the namespace are spread over all nodes. The process sends `ready` to its parent, and answers
 * `read` with its figures.
 */
import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { DiscoveryDelta_Cause, DiscoveryDeltaSchema } from "../gen/waymark/catalog/v1/delta_pb.js";
import { EntryKind, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogWatchRequestSchema,
  type CatalogWatchResponse,
  CatalogWatchResponseSchema,
} from "../gen/waymark/discovery/v1/discovery_pb.js";
import { connect } from "../src/client/index.ts";
import { countField, fieldsOf } from "./_frames.ts";
import { until } from "./_mesh.ts";
import { Wire } from "./_wire.ts";
import { fail, INSTANCES, keyOf, NAMESPACE, PATH, shapeOf } from "./_work.ts";

/** The figures that the parent gets. */
export interface ProgramFigures {
  /** Leases that are registered on another node now. */
  readonly movedLeases: number;
  /** Failed attempts of the clients to register. */
  readonly retries: number;
  /** Leases that were registered again because the node did not answer in time. */
  readonly silentServers: number;
  /** Leases that clients have given up. */
  readonly lostLeases: number;
  /** Entries that were removed from the set of a watch, although they were registered all the time. */
  readonly removals: number;
  /** Bookmarks whose count or digest differs from the set of the watch. */
  readonly wrongDigests: number;
  /** Entries that a watch got in another number of versions than one, beside removals. */
  readonly otherUpdates: number;
  /** Watches whose set differs from the set of the others at the end. */
  readonly otherSets: number;
  /** Streams that ended, were opened on another node, and continued without a snapshot, or with one. */
  readonly resumed: number;
  readonly restarted: number;
}

const [drained = "", list = "", leases = "0", watches = "0", ttlMs = "0"] = process.argv.slice(2);
const SERVERS = list.split(",");
const [LEASES, WATCHES, TTL_MS] = [Number(leases), Number(watches), Number(ttlMs)];
/** Leases that one program keeps. */
const LEASES_PER_CLIENT = 20;
const STREAMS_PER_CONNECTION = 100;
const BOOKMARK_MS = 3000;
const END_MS = 30_000;
const BITS = 64;

/** A version of an entry. Its part of the digest is the same on all nodes. */
interface Version {
  readonly id: string;
  readonly entry: number;
  readonly isRemoval: boolean;
  readonly hash: bigint;
}

function log(text: string): void {
  console.error(`${new Date().toISOString()} ${text}`);
}

const versions = new Map<string, Version>();

// HOT: all watches receive each change, and decoding it again would delay the other programs.
function versionIn(delta: Buffer): Version {
  const id = fieldsOf(delta, DiscoveryDeltaSchema.field.deltaId.number)[0]?.toString("latin1") ?? fail();
  let version = versions.get(id);
  if (version === undefined) {
    const { payload, cause } = fromBinary(DiscoveryDeltaSchema, delta);
    const key = payload.case === "entry" ? payload.value.key : payload.case === "removed" ? payload.value : fail();
    const [, service, instance] = /^service-(\d+) i-(\d+)$/.exec(`${key?.name} ${key?.instanceId}`) ?? fail();
    const hash = createHash("sha256").update(id).digest().readBigUInt64BE();
    version = { id, entry: Number(service) * INSTANCES + Number(instance), isRemoval: payload.case === "removed", hash };
    versions.set(id, version);
    if (version.isRemoval) log(`${key?.name}/${key?.instanceId} was removed by ${id}: ${DiscoveryDelta_Cause[cause]}`);
  }
  return version;
}

const wires = new Map<string, { readonly wire: Promise<Wire>; count: number }>();

function wireTo(server: string): Promise<Wire> {
  let open = wires.get(server);
  if (open === undefined || open.count === STREAMS_PER_CONNECTION) {
    const [host = "", port = ""] = server.split(":");
    open = { wire: Wire.open({ host, port: Number(port) }), count: 0 };
    wires.set(server, open);
  }
  open.count += 1;
  return open.wire;
}

/** Follows the namespace, and counts everything that a reader must not see. */
class Watcher {
  #server: number;
  #held: (Version | undefined)[] = [];
  #unlisted = new Set<number>();
  #count = 0;
  #digest = 0n;
  #cursor = "";
  readonly #updates: number[] = [];
  readonly current = Promise.withResolvers<void>();
  #isCurrent = false;
  confirmed: string | undefined;
  removals = 0;
  wrongDigests = 0;
  resumed = 0;
  restarted = 0;

  constructor(server: number) {
    this.#server = server;
  }

  /** Entries of which the watch has not got exactly one new version. */
  get otherUpdates(): number {
    return this.#held.filter((_, entry) => this.#updates[entry] !== 1).length;
  }

  get set(): string {
    return `${this.#count} ${this.#digest}`;
  }

  async open(): Promise<void> {
    const wire = await wireTo(SERVERS[this.#server % SERVERS.length] ?? fail());
    const stream = wire.stream(PATH.watch, {
      onMessage: (bytes, start, end) => this.#read(bytes.subarray(start, end)),
      onEnd: () => {
        this.#server += 1;
        if (this.#cursor === "") throw new Error("a watch ended without a cursor");
        void this.open();
      },
    });
    const request = { namespace: NAMESPACE, withDigest: true, bookmarkInterval: durationFromMs(BOOKMARK_MS), cursor: this.#cursor };
    let isFirst = this.#isCurrent;
    this.#onControl = ({ snapshot }) => {
      if (isFirst && snapshot === Snapshot.BEGIN) this.restarted += 1;
      else if (isFirst) this.resumed += 1;
      isFirst = false;
    };
    stream.send(toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, request)));
    stream.end();
  }

  #onControl: (message: CatalogWatchResponse) => void = () => {};

  #read(bytes: Buffer): void {
    const { portableCursor, snapshot, bookmark } = CatalogWatchResponseSchema.field;
    const tags = [portableCursor.number * 8 + 2, snapshot.number * 8, bookmark.number * 8];
    const control = tags.some((tag) => countField(bytes, 0, bytes.length, tag) > 0)
      ? fromBinary(CatalogWatchResponseSchema, bytes)
      : undefined;
    if (control !== undefined) this.#onControl(control);
    if (control?.snapshot === Snapshot.BEGIN) this.#unlisted = new Set(this.#held.keys());
    for (const delta of fieldsOf(bytes, CatalogWatchResponseSchema.field.deltas.number)) this.#change(versionIn(delta));
    if (control === undefined) return;
    if (control.portableCursor !== "") this.#cursor = control.portableCursor;
    if (control.snapshot === Snapshot.END) {
      for (const entry of this.#unlisted) this.#set(entry, undefined);
      this.#isCurrent = true;
      this.current.resolve();
    }
    if (control.snapshot === Snapshot.END || control.bookmark) this.#confirm(`${control.count} ${control.digest}`);
  }

  #confirm(set: string): void {
    this.confirmed = set;
    if (set === this.set) return;
    this.wrongDigests += 1;
    log(`a watch on ${SERVERS[this.#server % SERVERS.length]} has ${this.set} instead of ${set}`);
  }

  #change(version: Version): void {
    const { entry, isRemoval, id } = version;
    this.#unlisted.delete(entry);
    if (this.#isCurrent && !isRemoval && this.#held[entry]?.id !== id) this.#updates[entry] = (this.#updates[entry] ?? 0) + 1;
    this.#set(entry, isRemoval ? undefined : version);
  }

  #set(entry: number, version: Version | undefined): void {
    const before = this.#held[entry];
    if (before !== undefined && version === undefined) this.removals += 1;
    this.#count += (version === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
    this.#digest = BigInt.asUintN(BITS, this.#digest + (version?.hash ?? 0n) - (before?.hash ?? 0n));
    this.#held[entry] = version;
  }
}

const totals = { retries: 0, silentServers: 0, lostLeases: 0 };
const holders = new Map<number, string>();

async function keepLeases(first: number): Promise<void> {
  const others = SERVERS.filter((server) => server !== drained);
  const turn = (first / LEASES_PER_CLIENT) % others.length;
  const client = connect({ servers: [drained, ...others.slice(turn), ...others.slice(0, turn)], findServers: false });
  for (let k = first; k < Math.min(LEASES, first + LEASES_PER_CLIENT); k++) {
    const { host, port, tags } = shapeOf(k);
    const key = { kind: EntryKind.SERVICE, namespace: NAMESPACE, ...keyOf(k) };
    const entry = { key, scope: Scope.REGION, targets: [{ host, port, protocol: "grpc", weight: 10 }], tags };
    await client.register([entry], {
      ttlMs: TTL_MS,
      onEvent: (event) => {
        if (event.kind === "registered") holders.set(k, event.server);
        if (event.kind === "retrying") totals.retries += 1;
        if (event.kind === "lost" && event.why === "server") totals.silentServers += 1;
        if (event.kind === "failed") totals.lostLeases += 1;
        if (event.kind === "retrying" || (event.kind === "lost" && event.why === "server"))
          log(`${key.name}/${key.instanceId} ${event.kind} ${"server" in event ? event.server : event.error.message}`);
      },
    });
  }
}

await Promise.all(Array.from({ length: Math.ceil(LEASES / LEASES_PER_CLIENT) }, (_, i) => keepLeases(i * LEASES_PER_CLIENT)));
const watchers = Array.from({ length: WATCHES }, (_, i) => new Watcher(i));
for (const watcher of watchers) {
  await watcher.open();
  await watcher.current.promise;
}

async function figures(): Promise<ProgramFigures> {
  // Each watch has a bookmark that is newer than the last change.
  for (const watcher of watchers) watcher.confirmed = undefined;
  await until(() => watchers.every(({ confirmed }) => confirmed !== undefined), "all watches have a bookmark", END_MS);
  const sum = (of: (watcher: Watcher) => number) => watchers.reduce((total, watcher) => total + of(watcher), 0);
  return {
    ...totals,
    movedLeases: [...holders.values()].filter((server) => server !== drained).length,
    removals: sum(({ removals }) => removals),
    wrongDigests: sum(({ wrongDigests }) => wrongDigests),
    otherUpdates: sum(({ otherUpdates }) => otherUpdates),
    otherSets: watchers.filter(({ set }) => set !== watchers[0]?.set).length,
    resumed: sum(({ resumed }) => resumed),
    restarted: sum(({ restarted }) => restarted),
  };
}

process.on("message", () => {
  void figures().then((told) => process.send?.(told));
});
process.on("disconnect", () => process.exit());
process.send?.("ready");
