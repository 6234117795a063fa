/** Nodes that hold summaries, in regions: within a region they exchange frames, and across regions seals. */
import { createHash } from "node:crypto";
import { relationOf, SCOPE } from "../../src/catalog/entry/scope.ts";
import { BODY, type KeyText, KIND } from "../../src/catalog/record/record.ts";
import type { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { buildFrame, FrameReceiver } from "../../src/catalog/replica/frames.ts";
import type { OwnPut } from "../../src/catalog/replica/staging.ts";
import type { BorderSummaries } from "../../src/fabric/borders/options.ts";
import type { SourceReceipts } from "../../src/fabric/summaries/ages.ts";
import type { Hash64 } from "../../src/lib/hash64.ts";
import type { Time } from "../../src/lib/machine.ts";
import type { ClusterSigner, SignatureContext } from "../../src/signing/signer.ts";
import type { OwnSummaries } from "../../src/summary/building/builder.ts";
import { decodeSummary, encodeBeacon, encodeSummary, opened } from "../../src/summary/codec.ts";
import type { DigestFilter } from "../../src/summary/held/digests.ts";
import { bucketOf, contribution, tagHash } from "../../src/summary/held/digests.ts";
import type { HeldOptions, HeldParts } from "../../src/summary/held/options.ts";
import { HeldSummaries } from "../../src/summary/held/summaries.ts";
import { beaconKey, recordKey, summaryKeyOf } from "../../src/summary/keys.ts";
import { SummaryStamper } from "../../src/summary/stamper.ts";
import { BAND, type Beacon, type Sealed, type Summary, type SummaryFacts, type SummaryKey } from "../../src/summary/summary.ts";

export { MAX_HOPS, type Sealed } from "../../src/summary/summary.ts";

import { BOUNDS } from "./options.ts";

/** The Unix time at which worlds begin. */
export const START_MS = 1_800_000_000_000;
export const MINUTE = 60_000;
export const TTL = 2 * MINUTE;
export const STALE_KEEP = 10 * MINUTE;
export const SKEW = 10 * MINUTE;
/** For how long withdrawals are remembered. */
export const MEMORY: number = TTL + STALE_KEEP + 2 * SKEW;

/** Keys as the settings of all nodes have them: by cluster its region, and the ids of its keys that count. The id of a key is its secret. */
class FakeKeys {
  readonly regions = new Map<string, string>();
  readonly counting = new Set<string>();

  add(cluster: string, region: string): ClusterSigner {
    this.regions.set(cluster, region);
    const keyId = `key-of-${cluster}`;
    this.counting.add(`${cluster} ${keyId}`);
    return signerOf(keyId);
  }

  /** The settings name no key of the cluster any more. */
  remove(cluster: string): void {
    this.regions.delete(cluster);
    this.counting.delete(`${cluster} key-of-${cluster}`);
  }

  counts(cluster: string, keyId: string): boolean {
    return this.counting.has(`${cluster} ${keyId}`);
  }

  regionOf(cluster: string): string | undefined {
    return this.regions.get(cluster);
  }

  allRegions(): Iterable<string> {
    return this.regions.values();
  }

  hasKeys(cluster: string): boolean {
    return this.regions.has(cluster);
  }

  announcements(): readonly [] {
    return [];
  }

  announce(): "unknown_key" {
    return "unknown_key";
  }

  refusal(
    cluster: string,
    keyId: string,
    context: SignatureContext,
    signed: Uint8Array,
    signature: Uint8Array,
  ): "unknown_key" | "bad_signature" | undefined {
    if (!this.counts(cluster, keyId)) return "unknown_key";
    return Buffer.compare(signerOf(keyId).sign(context, signed), signature) === 0 ? undefined : "bad_signature";
  }
}

export function signerOf(keyId: string): ClusterSigner {
  return { keyId, sign: (context, bytes) => createHash("sha512").update(`${keyId} ${context}\0`).update(bytes).digest() };
}

export interface HeldSpec {
  readonly nodeId: string;
  readonly clusterId?: string;
  readonly region?: string;
  /** Ahead of the others' wall clocks. */
  readonly skewMs?: number;
  readonly options?: Partial<HeldOptions>;
  readonly parts?: Partial<HeldParts>;
}

export class HeldNode {
  readonly spec: HeldSpec;
  readonly clusterId: string;
  readonly region: string;
  /** It is what borders, the channel of a region and the builder ask for. */
  readonly held: HeldSummaries & BorderSummaries & SourceReceipts & { readonly own: OwnSummaries };
  readonly #world: HeldWorld;
  readonly #receivers = new Map<HeldNode, FrameReceiver>();

  constructor(world: HeldWorld, spec: HeldSpec, generation: number) {
    const { nodeId, clusterId = "c1", region = clusterId } = spec;
    this.spec = spec;
    this.clusterId = clusterId;
    this.region = region;
    this.#world = world;
    const times = { ttlMs: TTL, staleKeepMs: STALE_KEEP, maxClockSkewMs: SKEW, pruneIntervalMs: 1, requireSignatures: true };
    const known = world.keys.regions.has(clusterId) ? signerOf(`key-of-${clusterId}`) : world.keys.add(clusterId, region);
    const parts = { keys: world.keys, signer: known, isOwner: () => true, imports: () => true, ...spec.parts };
    this.held = new HeldSummaries({ nodeId, clusterId, region, generation, ...times, ...spec.options }, parts);
  }

  get time(): Time {
    return { monoMs: this.#world.nowMs, wallMs: START_MS + this.#world.nowMs + (this.spec.skewMs ?? 0) };
  }

  /** Works until nothing is left to do. */
  settle(): void {
    for (let n = 0; this.held.work(this.time); n++) if (n > 10_000) throw new Error("the work does not end");
  }

  say(name: string, said: Partial<SummaryFacts> = {}): number | undefined {
    const version = this.held.export(facts(name, { source: this.clusterId, regions: [this.region], ...said }), this.time);
    this.settle();
    return version;
  }

  beacon(): number | undefined {
    const version = this.held.makeBeacon([], this.time);
    this.settle();
    return version;
  }

  /** Stages a record of this node's own, with any stamp. */
  stage(seal: Sealed, hlc: number): StoredRecord {
    const { replica } = this.held;
    const stamper = new SummaryStamper((source) => this.#world.keys.regionOf(source));
    const stagePut = (put: OwnPut) => replica.stagePut({ ...put, hlc });
    return stamper.stage({ own: (key) => replica.own(key), stagePut }, opened("summary", seal));
  }

  /** Says of all that it holds that it is unregistered, with this stamp. */
  endAll(hlc: number): void {
    const { replica } = this.held;
    replica.changesSince(0, (stored) => replica.stageTombstone(stored, BODY.UNREGISTERED, hlc).seq > 0);
    replica.commit(replica.lastSeq, this.time);
  }

  /** The seal that is held of a summary, or of the beacon of a source. */
  sealOf(name: string, source = this.clusterId): Sealed {
    const best = this.held.best(name === "beacon" ? beaconKey(source) : keyOf(name, source));
    if (best === undefined) throw new Error(`nothing is held of ${name}`);
    const { signed, signature, hops } = this.held.contentOf(best).sealed;
    return { signed: signed.slice(), signature: signature.slice(), hops };
  }

  /** The tag of a summary that is held. */
  tagOf(name: string, source = this.clusterId): bigint {
    return decodeSummary(this.sealOf(name, source).signed).tag;
  }

  ageOf(source: string): number {
    return this.held.ages(this.time).find((age) => age.source === source)?.ageMs ?? 0;
  }

  /** Takes what another one holds, over a border. Returns the outcome in a word. */
  takeFrom(from: HeldNode, name: string, source = from.clusterId): string {
    return this.takeSeal(from.sealOf(name, source), { isBeacon: name === "beacon", ageMs: from.ageOf(source), from });
  }

  takeSeal(sealed: Sealed, { isBeacon = false, ageMs = 0, from }: { isBeacon?: boolean; ageMs?: number; from?: HeldNode } = {}): string {
    const via = { cluster: from?.clusterId ?? "relay", region: from?.region ?? "far" };
    const taken = isBeacon ? this.held.takeBeacon(sealed, via, this.time, ageMs) : this.held.take(sealed, via, this.time);
    this.settle();
    return taken.kind === "refused" ? taken.why : (taken.kind === "taken" && taken.hidden) || taken.kind;
  }

  /** Takes the frames of another node of the region, and what it says of ages. */
  hear(from: HeldNode, withAges = true): void {
    this.receive(from);
    if (withAges) for (const age of from.held.ages(from.time)) this.held.heardAge(age, this.time);
    this.settle();
  }

  /** Takes the frames, and does none of the work that they bring. */
  receive(from: HeldNode): void {
    const { replica } = from.held;
    const receiver =
      this.#receivers.get(from) ??
      new FrameReceiver(this.held.replica, new SummaryStamper((world) => this.#world.keys.regionOf(world)), BOUNDS);
    this.#receivers.set(from, receiver);
    const link = { relation: relationOf(this, from), clusterId: this.clusterId };
    for (const origin of replica.origins.values()) {
      if (origin.id === this.held.replica.self.id) continue;
      const after = this.held.replica.origins.get(origin.id)?.through ?? 0;
      for (let next = { after, isComplete: false }; ; ) {
        const frame = buildFrame(replica, origin, next, link, 4096);
        const applied = receiver.apply(frame, this.time, { place: origin, maxSkewMs: Number.POSITIVE_INFINITY });
        if (applied.kind !== "applied" || (frame.isComplete ? frame.isLast : frame.through >= origin.through)) break;
        next = { after: frame.through, isComplete: frame.isComplete };
      }
    }
  }

  /** What readers are shown: `source/name@version`, with a star if it is stale. In key order. */
  get shown(): readonly string[] {
    const shown: string[] = [];
    for (const cursor = this.held.replica.lookup.cursor(); ; ) {
      const record = cursor.next();
      if (record === undefined) return shown;
      const key = summaryKeyOf(record.key);
      if (key !== undefined) shown.push(`${key.source}/${key.serviceId}@${record.hlc}${this.held.isStale(record, this.time) ? "*" : ""}`);
    }
  }
}

export class HeldWorld {
  readonly keys = new FakeKeys();
  nowMs = 0;
  #generation = 0;

  node(spec: HeldSpec): HeldNode {
    this.#generation += 1;
    return new HeldNode(this, spec, this.#generation);
  }

  /** The node with a new memory, and what its file says if there is one: records as those of other origins. */
  restarted(node: HeldNode, withFile: boolean, awayMs = 0): HeldNode {
    const ages = node.held.ages(node.time);
    this.nowMs += awayMs;
    const again = this.node(node.spec);
    if (withFile) {
      again.hear(node, false);
      for (const age of ages) again.held.heardAge({ ...age, ageMs: age.ageMs + awayMs }, again.time);
    }
    again.settle();
    return again;
  }
}

export function keyOf(name: string, source: string): KeyText {
  return recordKey(summaryKey(name, source));
}

export function summaryKey(name: string, source: string): SummaryKey {
  return { source, kind: KIND.SERVICE, namespace: "svc.shop", serviceId: name, channel: SCOPE.GLOBAL };
}

/** Under what a cluster without a policy says something. */
export const NO_POLICY = { policyVersion: "", policyNumber: 0, policyRule: "", noStale: false };

export function facts(name: string, said: Partial<SummaryFacts> = {}): SummaryFacts {
  const { source = "c1" } = said;
  const policy = { ...NO_POLICY, notAfterWallMs: undefined, withdrawn: false };
  const health = { endpointCount: 3, band: BAND.HEALTHY, latency: { minMs: 0, maxMs: 0 } };
  return { ...summaryKey(name, source), regions: [source], ...health, ...policy, ...said };
}

/** A summary of cluster A, signed as said. */
export function sealedSummary(said: Partial<Summary> = {}, by = "key-of-A", isSigned = true, keyId = by): Sealed {
  const made = { version: 1000, exporter: "a1", keyId, ttlMs: 60_000, generatedWallMs: START_MS, tag: 7n };
  const signed = encodeSummary({ ...facts("cart", { source: "A" }), ...made, ...said });
  return { signed, signature: isSigned ? signerOf(by).sign("waymark.summary.v1", signed) : new Uint8Array(), hops: 0 };
}

/** A beacon of cluster A, rightly signed. */
export function sealedBeacon(said: Partial<Beacon> = {}): Sealed {
  const made = { version: 1000, exporter: "a1", keyId: "key-of-A", ttlMs: 60_000, generatedWallMs: START_MS };
  const signed = encodeBeacon({ source: "A", region: "A", ...made, ingress: [], withdrawals: [], ...said });
  return { signed, signature: signerOf("key-of-A").sign("waymark.beacon.v1", signed), hops: 0 };
}

/** The digest of what is live as its definition has it, summed anew. */
export function definedDigest(node: HeldNode, live: ReadonlyMap<KeyText, number>): { digest: bigint; count: number } {
  let digest = 0n;
  for (const [key, version] of live) {
    const { high, low } = contribution(hashOf(node, key), version);
    digest = BigInt.asUintN(64, digest + ((BigInt(high) << 32n) | BigInt(low)));
  }
  return { digest, count: live.size };
}

/** The live summaries of a node that pass, by its own list of what it holds. */
export function liveOf(node: HeldNode, filter: DigestFilter): Map<KeyText, number> {
  const live = new Map<KeyText, number>();
  node.held.replica.changesSince(0, ({ key }) => {
    const best = node.held.best(key);
    const parts = summaryKeyOf(key);
    if (best === undefined || parts?.channel !== SCOPE.GLOBAL || !filter.passes(parts.source, parts.namespace)) return true;
    const content = node.held.contentOf(best);
    const state = node.held.sources(node.time).find(({ source }) => source === parts.source)?.state;
    if (content.what === "summary" && !content.summary.withdrawn && state !== "dropped") live.set(key, best.hlc);
    return true;
  });
  return live;
}

/** The bucket of a key in digests. */
export function bucketOfKey(node: HeldNode, key: KeyText | undefined): number {
  return bucketOf(hashOf(node, key ?? keyOf("", "")));
}

function hashOf(node: HeldNode, key: KeyText): Hash64 {
  const best = node.held.best(key);
  const content = best === undefined ? undefined : node.held.contentOf(best);
  return content?.what === "summary" ? tagHash(content.summary.source, content.summary.tag) : { high: 0, low: 0 };
}
