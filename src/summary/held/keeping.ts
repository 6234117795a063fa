/**
 * What is held of each key, and what of it counts: which record is the best, whether it is shown, and all that depends on it. The order of work is
 * in `chores.ts`; what comes and goes is in `taking.ts` and `saying.ts`.
 */

import { EntryIndex } from "../../catalog/query/entry-index.ts";
import { BODY, clusterOfKey, type KeyText, keyParts } from "../../catalog/record/record.ts";
import { Slab } from "../../catalog/record/slab.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { Replica } from "../../catalog/replica/replica.ts";
import { equalBytes } from "../../lib/crypto.ts";
import type { Time } from "../../lib/machine.ts";
import { decodeRecord, type Opened, tagIn } from "../codec.ts";
import { BEACON_NAMESPACE, beaconKey, recordKey, summaryKeyOf } from "../keys.ts";
import { SummaryStamper } from "../stamper.ts";
import type { Beacon, Summary, SummaryKey } from "../summary.ts";
import { Changes } from "./changes.ts";
import { Digests } from "./digests.ts";
import { Ends } from "./ends.ts";
import { FINDING, findingOf, isProven, isUnseen, isWithdrawn, Judge } from "./judge.ts";
import { NOTHING } from "./known.ts";
import { type HeldOptions, type HeldParts, type SourceAge, withdrawalMemoryMs } from "./options.ts";
import { OwnRecords } from "./own-records.ts";
import { claimsOf, keyOf, signerOf } from "./seals.ts";
import { type Source, Sources } from "./sources.ts";
import { ToldNamespaces } from "./told.ts";
import { Withdrawals } from "./withdrawals.ts";

const TOMBSTONES = { tombstoneTtlMs: 86_400_000, minTombstones: 1024 };
/** Summaries change far more rarely than entries, so a reader that is behind by more is told more than it needs, as ever. */
const PAST_TOUCHES = 4096;

/** Of sources whose region the settings do not name the region is undefined. */
export type IsExported = (namespace: string, region: string | undefined) => boolean;

type OpenedBeacon = Extract<Opened, { readonly what: "beacon" }>;

export class Keeping {
  readonly replica: Replica;
  readonly options: HeldOptions;
  readonly judge: Judge;
  readonly sources: Sources;
  readonly digests: Digests;
  readonly withdrawals: Withdrawals;
  readonly own: OwnRecords;
  /** What this cluster exports, by namespace. */
  readonly told = new ToldNamespaces();
  readonly changes: Changes = new Changes((cluster) => this.sources.find(cluster)?.keys);
  readonly ends = new Ends();
  /** Keys to look at again for which there is no change in the replica. */
  readonly again = new Set<KeyText>();
  /** A record of ours gives way to one of the same version. */
  onConflict: (own: StoredRecord, other: StoredRecord, time: Time) => void = () => {};
  /** A beacon of this cluster is proven. Of the first one that a node gets from others or from its file nothing says when it was made. */
  onOwnBeacon: (time: Time, isFirst: boolean) => void = () => {};
  /** A key of this cluster counts no more. */
  onOwnKeyGone: (isGone: (keyId: string) => boolean) => void = () => {};
  /** A node of this cluster without the key tells of an echo. */
  onEcho: (content: Opened, time: Time) => void = () => {};
  /**
   * By cluster, whether a neighbour of it still exports a namespace of sources of a region to it; absent where nobody knows, or all is. What its nodes took of other
   * regions stands as long as that is so.
   */
  exported: ReadonlyMap<string, IsExported> = new Map();
  /** Another key of a cluster counts now. */
  onKey: (cluster: string) => void = () => {};
  readonly #parts: HeldParts;

  constructor(options: HeldOptions, parts: HeldParts) {
    this.options = options;
    this.#parts = parts;
    this.judge = new Judge(options, parts);
    this.sources = new Sources(options, (source) => this.judge.regionOf(source) !== undefined);
    this.sources.onLost = (source) => {
      source.lostSeq = this.replica.lastSeq;
    };
    // Its beacon is no other one, but neighbours are to hear that it is younger than they were told.
    this.sources.onReceipt = ({ id }) => this.changes.noteBeacon(beaconKey(id));
    this.digests = new Digests(this.sources, (source) => this.judge.regionOf(source));
    this.withdrawals = new Withdrawals(withdrawalMemoryMs(options));
    const { nodeId, generation, clusterId, region } = options;
    const start = { lastSeq: 0, floor: 0, place: { clusterId, region } };
    this.replica = new Replica(new EntryIndex(), new Slab(), { nodeId, generation, ...start, ...TOMBSTONES, pastTouches: PAST_TOUCHES });
    this.replica.setAdmission((stored) => this.#admits(stored));
    this.replica.followers.add({ ...DEAF, drops: ({ key }) => this.again.add(key) });
    this.own = new OwnRecords(this.replica, new SummaryStamper((source) => this.judge.regionOf(source)));
  }

  /**
   * The record of a key that counts, shown or hidden: the highest version of which the signature is proven, and of equal ones that of the higher
   * exporter, and then the one that passed fewer borders.
   */
  best(key: KeyText): StoredRecord | undefined {
    let best: StoredRecord | undefined;
    for (const record of this.replica.records(key)) {
      if (!this.#counts(record)) continue;
      if (best !== undefined && record.hlc < best.hlc) break;
      if (best === undefined || this.#isAhead(record, best)) best = record;
    }
    return best;
  }

  /** Whether it is proven, and no neighbour took it back by a narrower rule. What a source took back itself stays gone whoever tells it. */
  #counts(record: StoredRecord): boolean {
    if (!isProven(record)) return false;
    // HOT: most often nobody narrowed anything, and then no key is read.
    if (this.exported.size === 0 || isWithdrawn(record) || record.namespace === BEACON_NAMESPACE) return true;
    return this.isLetThrough({ source: clusterOfKey(record.key), namespace: record.namespace }, record.origin.clusterId);
  }

  /** Whether a neighbour exports the namespace to the cluster that took it, or takes it now. What is of this region comes from no neighbour. */
  isLetThrough({ source, namespace }: Pick<SummaryKey, "namespace" | "source">, taker = this.options.clusterId): boolean {
    const isExported = this.exported.get(taker);
    if (isExported === undefined) return true;
    const region = this.judge.regionOf(source);
    return region === this.options.region || isExported(namespace, region);
  }

  #isAhead(one: StoredRecord, other: StoredRecord): boolean {
    const [a, b] = [this.contentOf(one), this.contentOf(other)];
    const [byA, byB] = [claimsOf(a).exporter, claimsOf(b).exporter];
    return byA === byB ? a.sealed.hops < b.sealed.hops : byA > byB;
  }

  /** The beacon of a source that counts. HOT: once a source for each question that leads to other clusters; reading one of 16 KB takes 0.3 ms. */
  beaconOf(id: string): Beacon | undefined {
    const key = beaconKey(id);
    const source = this.sources.find(id);
    // A record that is replaced may be the same object.
    const held = this.replica
      .records(key)
      .map(({ origin, seq, hlc, finding }) => `${origin.id}/${seq}/${hlc}/${finding}`)
      .join(" ");
    if (source?.read?.held === held) return source.read.beacon;
    const best = this.best(key);
    const content = best === undefined ? undefined : this.contentOf(best);
    const beacon = content?.what === "beacon" ? content.beacon : undefined;
    if (source !== undefined) source.read = { beacon, held };
    return beacon;
  }

  bytesOf({ at, sizeBytes }: StoredRecord): Uint8Array {
    return this.replica.slab.view(at, sizeBytes);
  }

  contentOf(stored: StoredRecord): Opened {
    return decodeRecord(this.bytesOf(stored));
  }

  exporterOf(stored: StoredRecord): string {
    return claimsOf(this.contentOf(stored)).exporter;
  }

  /** Holds what was taken or made here, which is proven. A beacon is so old. */
  put(content: Opened, time: Time, ageMs = 0): void {
    const key = keyOf(content);
    this.own.put(content, findingOf(content), time);
    if (content.what === "summary" && content.summary.withdrawn) this.withdrawals.remember(key, content.summary.version, time);
    if (content.what === "beacon") this.#hear(content, ageMs, time);
    if (content.what === "key") this.onKey(content.key.cluster);
    // The text that the record has, so that memory holds it once.
    this.follow(this.own.find(key)?.key ?? key, time);
    this.#noteSigner(content, time);
  }

  /**
   * Holds an echo for the nodes of its cluster that sign. It never counts, so nobody is shown it, and ends when something as high is said. What this node
   * took over may be the last copy, so it stays; it ends as soon as somebody says something newer, and the next echo is held.
   */
  putEcho(content: Opened, time: Time): void {
    const held = this.own.find(keyOf(content));
    if (held !== undefined && isProven(held)) return;
    this.own.put(content, FINDING.LOOKED, time);
    this.follow(this.own.find(keyOf(content))?.key ?? keyOf(content), time);
  }

  /** What this cluster says has passed no border. */
  #isEcho(content: Opened): boolean {
    return content.what !== "key" && content.sealed.hops > 0 && claimsOf(content).source === this.options.clusterId;
  }

  /** Verifies a record that nobody has looked at yet. */
  look(stored: StoredRecord, time: Time): void {
    if (!isUnseen(stored) || stored.revision < 0) return;
    const { finding, content } = this.judge.look(this.bytesOf(stored), time);
    const isEcho = content !== undefined && this.#isEcho(content);
    stored.finding = isEcho ? FINDING.LOOKED : finding;
    if (isEcho) this.onEcho(content, time);
    if (content === undefined || isEcho) return;
    this.#noteSigner(content, time);
    if (stored.origin === this.replica.self && isWithdrawn(stored)) this.withdrawals.remember(stored.key, stored.hlc, time);
    if (content.what === "beacon") this.#hear(content, undefined, time);
    if (content.what === "key") this.onKey(content.key.cluster);
  }

  #noteSigner(content: Opened, time: Time): void {
    if (content.what === "key") return;
    const { source: id, version } = claimsOf(content);
    const source = this.sources.obtain(id, time);
    if (source !== undefined) this.sources.signed(source, signerOf(content), content.what === "beacon" ? version : 0);
  }

  /**
   * Keys of a source may count no more, as when one was stolen. No version that they signed may keep out what is true: neither of a beacon, nor of what is
   * ended here or was taken back. Returns whether some summaries may be shown again.
   */
  distrust(source: Source, time: Time): boolean {
    const isGone = (keyId: string) => this.judge.isGone(source.id, keyId, time);
    if (source.id === this.options.clusterId) this.onOwnKeyGone(isGone);
    // What this cluster said itself is numbered on from there.
    if (source.id === this.options.clusterId || !this.sources.distrust(source, isGone)) return false;
    this.own.distrust(source.id);
    return this.withdrawals.distrust(source.id, isGone);
  }

  /** Verifies what nobody has looked at yet of a key. */
  settle(key: KeyText, time: Time): void {
    for (const record of this.replica.records(key)) this.look(record, time);
  }

  /** A beacon is proven. This node took it from somebody who has had it for so long, or it has no age yet. */
  #hear(content: OpenedBeacon, ageMs: number | undefined, time: Time): void {
    const { beacon } = content;
    const { source: id, withdrawals } = beacon;
    const source = this.sources.obtain(id, time);
    if (source === undefined) return;
    if (id === this.options.clusterId) this.onOwnBeacon(time, ageMs === undefined && source.beaconVersion === 0);
    this.sources.proven(source, beacon, ageMs, time);
    for (const withdrawal of withdrawals) if (this.withdrawals.tell(id, withdrawal, signerOf(content), time)) source.isToldMore = true;
  }

  /** A border brings a beacon once more. Nobody has verified these bytes, so they must be those that are held. */
  hearAgain({ beacon, sealed }: OpenedBeacon, ageMs: number, time: Time): void {
    const source = this.sources.find(beacon.source);
    const best = this.best(beaconKey(beacon.source));
    if (source === undefined || best?.hlc !== source.beaconVersion) return;
    if (equalBytes(this.contentOf(best).sealed.signed, sealed.signed)) this.sources.again(source, ageMs, time);
  }

  /** Another node of the region, or an earlier life of this one, tells when it received a beacon. */
  heardAge(age: SourceAge, time: Time): void {
    const records = this.replica.records(beaconKey(age.source));
    this.sources.told(age, (version) => records.some(({ hlc }) => hlc === version), time);
  }

  /** What is held of a key has changed, or what counts of it: brings all that depends on it up to date. HOT: once a change. */
  follow(key: KeyText, time: Time): void {
    const best = this.best(key);
    const clusterId = clusterOfKey(key);
    const source = best === undefined ? this.sources.find(clusterId) : this.sources.obtain(clusterId, time);
    const isOver = best !== undefined && (this.#isOver(best, source) || this.#isAnnouncementOver(best, time));
    if (source !== undefined) this.#note(source, key, best, isOver);
    this.ends.set(key, best === undefined || (best.finding & FINDING.ENDS) === 0 ? undefined : this.#endOf(best), time);
    const own = this.own.find(key);
    // An origin that nobody writes any more goes, and this node says what it says.
    const isTakenOver = own !== undefined && best?.hlc === own.hlc && best.origin.isTakenOver === true && this.#counts(own);
    const isForeign = clusterId !== this.options.clusterId;
    if (own !== undefined && isProven(own)) {
      // What its cluster says itself stays, so that it need not be said again when its beacons go out again.
      if ((own !== best && !isTakenOver) || (isOver && isForeign)) {
        // Memory must not grow with the number of nodes that took it.
        if (best !== undefined && own !== best && best.hlc === own.hlc) this.onConflict(own, best, time);
        this.own.end(own, time);
      }
    } else if (own !== undefined) {
      // Its key was removed and nothing was heard of its cluster since, or it is an echo, and something as high is said now.
      const isToEnd = isForeign ? source?.state === "dropped" : best !== undefined && best.hlc >= own.hlc;
      if (isToEnd) this.own.end(own, time);
    }
    const [any] = this.replica.records(key);
    if (any !== undefined && this.replica.winner(any) !== this.replica.view(key)) this.replica.touch(any);
  }

  #note(source: Source, key: KeyText, best: StoredRecord | undefined, isOver: boolean): void {
    if (summaryKeyOf(key) === undefined) {
      if (key === beaconKey(source.id) && best !== undefined && best.hlc > source.toldBeacon) {
        source.toldBeacon = best.hlc;
        this.changes.noteBeacon(key);
      }
      return;
    }
    const isHeld = this.replica.records(key).some(({ body }) => body === BODY.ENTRY);
    const sign = isOver || (best !== undefined && isWithdrawn(best)) ? -1 : 1;
    const now = best === undefined ? NOTHING : { version: sign * best.hlc, tag: this.tagOf(best) };
    if (!isHeld) this.changes.drop(key, source.keys);
    const before = this.sources.note(source, key, isHeld ? now : undefined);
    this.digests.changed(source, key, before, now);
    if (source.id === this.options.clusterId) this.#tell(key, best, before.version, isHeld ? now.version : 0);
    if (isHeld && Math.abs(before.version) !== Math.abs(now.version)) this.changes.note(key, source.keys);
  }

  /** Of a record that is proven; 0 where it is no summary. */
  tagOf(stored: StoredRecord): bigint {
    return stored.namespace === BEACON_NAMESPACE ? 0n : tagIn(this.bytesOf(stored));
  }

  #tell(key: KeyText, best: StoredRecord | undefined, before: number, value: number): void {
    if (value === before) return;
    const content = best === undefined ? undefined : this.contentOf(best);
    const saidWallMs = content?.what === "summary" ? content.summary.generatedWallMs : 0;
    this.told.note(keyParts(key).namespace, before, value, saidWallMs);
  }

  /** Whether a proven summary is gone though no record withdrew it: a beacon did, or its source is dropped, or was and this node has not ended it yet. */
  #isOver(record: StoredRecord, source: Source | undefined): boolean {
    if (record.namespace === BEACON_NAMESPACE || isWithdrawn(record)) return false;
    if (source === undefined) return false;
    const isLost = record.origin === this.replica.self && record.seq <= source.lostSeq && source.id !== this.options.clusterId;
    return (
      source.state === "dropped" ||
      isLost ||
      (this.withdrawals.hasTold(source.id) && this.withdrawals.toldOf(source.id, this.tagOf(record)) > record.hlc)
    );
  }

  /** Whether a summary or withdrawal of another cluster is gone for good, so that it need not be kept under an origin that nobody writes. */
  isOver(record: StoredRecord): boolean {
    const clusterId = clusterOfKey(record.key);
    if (!isProven(record) || clusterId === this.options.clusterId) return false;
    const source = this.sources.find(clusterId);
    const isOfLost = source?.state === "dropped" && record.namespace !== BEACON_NAMESPACE;
    return isOfLost || this.#isOver(record, source);
  }

  /** Which of these tags, each with the version up to which it was taken back, a summary still has that is held here. It would show again. */
  heldOf(id: string, over: ReadonlyMap<bigint, number>): ReadonlySet<bigint> {
    const held = new Set<bigint>();
    for (const [, { version, tag }] of this.sources.find(id)?.keys.entries() ?? [])
      if (version !== 0 && Math.abs(version) < (over.get(tag) ?? 0)) held.add(tag);
    return held;
  }

  /** Whether a record announces a key whose time has passed. Nobody needs it, and a cluster may announce any number of keys one after another. */
  #isAnnouncementOver(record: StoredRecord, { wallMs }: Time): boolean {
    if (record.namespace !== BEACON_NAMESPACE || record.key === beaconKey(clusterOfKey(record.key))) return false;
    const content = this.contentOf(record);
    return content.what === "key" && content.key.notAfterWallMs <= wallMs;
  }

  #endOf(stored: StoredRecord): number | undefined {
    const content = this.contentOf(stored);
    return content.what === "summary" ? content.summary.notAfterWallMs : undefined;
  }

  /** Whether a record may be shown. Of a key only the highest that is proven may; a lower one never stands in for it. */
  #admits(stored: StoredRecord): boolean {
    const { key, body } = stored;
    const clusterId = clusterOfKey(key);
    if (body !== BODY.ENTRY) return this.isVisible(stored, clusterId);
    if (!this.#counts(stored) || isWithdrawn(stored)) return false;
    for (const peer of stored.peers ?? NOBODY) {
      if (peer === stored) break;
      if (this.#counts(peer)) return false;
    }
    const source = this.sources.find(clusterId);
    if (source === undefined || this.#isOver(stored, source) || this.ends.isOver(key)) return false;
    if ((stored.finding & FINDING.NO_STALE) !== 0 && source.state !== "fresh") return false;
    return this.isVisible(stored, clusterId);
  }

  /** Whether our own rules let it be seen. */
  isVisible(stored: Pick<StoredRecord, "namespace" | "scope">, source: string): boolean {
    if (stored.namespace === BEACON_NAMESPACE) return true;
    if (!this.isOwned(stored, source)) return false;
    return source === this.options.clusterId || this.#parts.imports(source, stored.namespace);
  }

  isOwned(summary: Pick<StoredRecord, "namespace" | "scope">, source: string): boolean {
    return this.#parts.isOwner(summary, { clusterId: source, region: this.judge.regionOf(source) ?? "" });
  }

  /** The highest version that is known of a key here, or of the tag of what is said of it; 0 for a new one. */
  highest(key: KeyText, tag: bigint, time: Time): number {
    this.settle(key, time);
    const told = this.withdrawals.toldOf(clusterOfKey(key), tag);
    return Math.max(this.best(key)?.hlc ?? 0, this.own.endedVersion(key), told);
  }

  /** What counts of a key, verified now if another node said it just before. Until then nothing of it would be proven. */
  summaryOf(parts: SummaryKey, time: Time): Summary | undefined {
    const key = recordKey(parts);
    this.settle(key, time);
    const best = this.best(key);
    const content = best === undefined ? undefined : this.contentOf(best);
    return content?.what === "summary" ? content.summary : undefined;
  }

  /** Beacons took back more: what it is of the keys is looked at again. */
  findTold(source: Source): void {
    source.isToldMore = false;
    for (const [key, { version, tag }] of source.keys.entries())
      if (version > 0 && this.withdrawals.toldOf(source.id, tag) > version) this.again.add(key);
  }

  /** Makes room for a key of a source. Returns whether there is room; there always is for our own. */
  makeRoom(id: string, isNew: boolean, time: Time): boolean {
    const source = this.sources.obtain(id, time);
    if (source === undefined) return false;
    if (!isNew) return true;
    const room = this.sources.roomFor(source, time);
    return room === "free" || (room !== undefined && this.#dropOneOf(room, time)) || id === this.options.clusterId;
  }

  /** Whether something is proven of the key. */
  isNew(key: KeyText, source: string): boolean {
    return (this.sources.find(source)?.keys.get(key)?.version ?? 0) === 0;
  }

  /** Holds one summary less of a source, one that this node alone holds. */
  #dropOneOf(source: Source, time: Time): boolean {
    for (const [key, { version }] of source.keys.entries()) {
      const own = version > 0 ? this.own.find(key) : undefined;
      if (own === undefined || own.peers !== undefined) continue;
      this.own.end(own, time);
      this.follow(key, time);
      return true;
    }
    return false;
  }
}

const NOBODY: readonly StoredRecord[] = [];
const deaf = (): void => {
  // Changes are read from the replica's log.
};
const DEAF = {
  installs: deaf,
  supersedes: deaf,
  touches: deaf,
  withdraws: deaf,
  drops: deaf,
  passes: deaf,
  forgets: deaf,
  restoresOrigin: deaf,
};
