/** The summary replica of a node in a `FabricWorld`: unsigned summaries, and receipts as plain numbers. */
import type { StoredEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { BODY, HEALTH, type KeyText, KIND, keyParts } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { NO_TRAITS } from "../../src/catalog/record/traits.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import type { SourceAge, SourceReceipts } from "../../src/fabric/summaries/ages.ts";
import type { SummaryParts } from "../../src/fabric/summaries/channel.ts";
import { restoreSummaries, summaryBlocks } from "../../src/fabric/summaries/snapshot.ts";
import { encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import type { LinkFrame } from "../../src/fabric/wire/messages.ts";
import { invalid } from "../../src/lib/errors.ts";
import type { Time } from "../../src/lib/machine.ts";
import { beaconKey, recordKey } from "../../src/summary/keys.ts";
import type { Channel } from "../../src/summary/summary.ts";
import type { FabricWorld, NodeSpec, WorldNode } from "./fabric-world.ts";
import { BOUNDS } from "./options.ts";

/** Records are `key text, scope, padding`. */
const stamper: SummaryParts["stamper"] = {
  entryOfStored(bytes): StoredEntry {
    const [key, scope] = JSON.parse(new TextDecoder().decode(bytes)) as [KeyText, Channel];
    const { kind, namespace, name } = keyParts(key);
    if (name === "bad") throw invalid("name", "is bad");
    const rest = { health: HEALTH.HEALTHY, traits: NO_TRAITS, hasAliases: false, hasChecks: false, load: undefined };
    return { key, kind, namespace, name, scope, content: bytes, contentBytes: bytes.length, ...rest };
  },
};

const CHANNELS = { zone: SCOPE.ZONE, region: SCOPE.REGION, global: SCOPE.GLOBAL } as const;

export function summaryOf(name: string, source = "far", channel: keyof typeof CHANNELS = "global"): KeyText {
  return recordKey({ source, kind: KIND.SERVICE, namespace: "svc", serviceId: name, channel: CHANNELS[channel] });
}

/** One start of a node's second space. */
export class SummarySpace implements SourceReceipts {
  readonly replica: Replica;
  readonly stamper = stamper;
  readonly receipts = this;
  readonly lostAfterMs = 720_000;
  isTakenBack: SourceReceipts["isTakenBack"] = () => false;
  #news = new Set<string>();
  /** Of beacons that are not held yet. */
  readonly #waiting = new Map<string, { readonly version: number; readonly monoMs: number }>();
  readonly #received = new Map<string, { readonly version: number; readonly monoMs: number }>();

  constructor(nodeId: string, generation: number) {
    const bounds = { tombstoneTtlMs: 3_600_000, minTombstones: 1000 };
    this.replica = new Replica(new EntryIndex(), new Slab(), { nodeId, generation, lastSeq: 0, floor: 0, ...bounds });
  }

  put(key: KeyText, version: number, time: Time, padding = ""): void {
    const { kind, namespace, name, instanceId } = keyParts(key);
    const scope = CHANNELS[instanceId as keyof typeof CHANNELS] ?? SCOPE.GLOBAL;
    const bytes = new TextEncoder().encode(JSON.stringify([key, scope, padding]));
    const facts = { key, kind, namespace, name, scope, health: HEALTH.HEALTHY, traits: NO_TRAITS, principal: "", isFilterChange: true };
    this.replica.stagePut({ ...facts, hlc: version, bytes, contentBytes: bytes.length, hasAliases: false, hasChecks: false });
    this.replica.commit(this.replica.lastSeq, time);
  }

  end(key: KeyText, time: Time): void {
    const own = this.replica.own(key);
    if (own === undefined) throw new Error(`${key} is not here`);
    this.replica.stageTombstone(own, BODY.EXPIRED, own.hlc);
    this.replica.commit(this.replica.lastSeq, time);
  }

  /** A beacon of a source came over a border, or was made here. */
  beacon(source: string, version: number, time: Time): void {
    this.put(beaconKey(source), version, time);
    this.#receive(source, version, time.monoMs);
  }

  #receive(source: string, version: number, monoMs: number): void {
    const before = this.#received.get(source);
    if (before !== undefined && (before.version > version || (before.version === version && before.monoMs >= monoMs))) return;
    this.#received.set(source, { version, monoMs });
    this.#news.add(source);
  }

  ages({ monoMs }: Time): readonly SourceAge[] {
    return [...this.#received].map(([source, receipt]) => ({ source, version: receipt.version, ageMs: monoMs - receipt.monoMs }));
  }

  newAges(time: Time): readonly SourceAge[] {
    for (const [source, { version, monoMs }] of this.#waiting)
      if (this.#heldOf(source) === version && this.#waiting.delete(source)) this.#receive(source, version, monoMs);
    const news = this.#news;
    if (news.size > 0) this.#news = new Set();
    return news.size === 0 ? [] : this.ages(time).filter(({ source }) => news.has(source));
  }

  isOver(): boolean {
    return false;
  }

  heardAge({ source, version, ageMs }: SourceAge, { monoMs }: Time): void {
    const held = this.#heldOf(source);
    if (held === version) this.#receive(source, version, monoMs - ageMs);
    else if (held < version) this.#waiting.set(source, { version, monoMs: monoMs - ageMs });
  }

  #heldOf(source: string): number {
    return this.replica.view(beaconKey(source))?.hlc ?? 0;
  }

  /** Monotonic ms of the receipt of a source. */
  receiptOf(source: string): number | undefined {
    return this.#received.get(source)?.monoMs;
  }

  /** `name version` of what is seen here, sorted. */
  view(): readonly string[] {
    const seen: string[] = [];
    const cursor = this.replica.lookup.cursor();
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) seen.push(`${record.name} ${record.hlc}`);
    return seen.toSorted();
  }

  /** Ids of the origins that are known here, with their numbers. */
  origins(): readonly string[] {
    return [...this.replica.origins.values()].map(({ id, through }) => `${id} ${through}`).toSorted();
  }
}

export interface SpaceNode {
  readonly node: WorldNode;
  readonly space: SummarySpace;
}

/** Starts a node with a summary replica. */
export function startSpace(world: FabricWorld, spec: NodeSpec, space = new SummarySpace(spec.nodeId, world.nowMs)): SpaceNode {
  return { node: world.start({ ...spec, summaries: space }), space };
}

/** The file that a node writes for its next start, in small blocks. */
export function written({ space }: SpaceNode, time: Time, clusterId = "c1"): Uint8Array {
  return Buffer.concat([...summaryBlocks(space, clusterId, time, 200)]);
}

/** The next start of a node, with what a file holds. */
export function restored(nodeId: string, bytes: Uint8Array, time: Time, clusterId = "c1") {
  const space = new SummarySpace(nodeId, time.monoMs);
  const { replica, receipts } = space;
  const reading = restoreSummaries(bytes, { replica, stamper, receipts, clusterId, bounds: BOUNDS }, time);
  for (let step = reading.next(); ; step = reading.next()) if (step.done === true) return { space, result: step.value };
}

/** Bytes of a frame in a packet of its own: with what gRPC, HTTP/2, TCP and IP put around it. */
export function packetBytes(frame: LinkFrame): number {
  return encodeLinkFrame(frame).length + 5 + 9 + 60;
}
