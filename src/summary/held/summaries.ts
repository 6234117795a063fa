/**
 * The summaries and beacons that a node holds, on a replica of their own (docs/design/summaries.md). What borders bring is taken or refused, what
 * nodes of the region tell is held but hidden until its signature is verified here, and what this cluster says is numbered and signed.
 */
import { clusterOfKey, type KeyText, KIND } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Time } from "../../lib/machine.ts";
import { type Opened, sealedOf } from "../codec.ts";
import { beaconKey } from "../keys.ts";
import type { Beacon, IngressNode, SaidUnder, Sealed, Summary, SummaryFacts, SummaryKey, SummaryRefusal } from "../summary.ts";
import { Chores } from "./chores.ts";
import type { Digest, DigestFilter, Listed } from "./digests.ts";
import { Echoes } from "./echoes.ts";
import { isProven, isWithdrawn } from "./judge.ts";
import { type IsExported, Keeping } from "./keeping.ts";
import type { ClusterKeys, Exceed, HeldBeacon, HeldOptions, HeldParts, HeldSeal, SourceAge, SourceStatus, Taken, Via } from "./options.ts";
import type { RefusalEvent } from "./refusals.ts";
import { Saying } from "./saying.ts";
import { Taking } from "./taking.ts";
import type { ToldNamespace } from "./told.ts";
import type { Unsaid } from "./unsaid.ts";

export class HeldSummaries {
  readonly replica: Replica;
  readonly #keeping: Keeping;
  readonly #chores: Chores;
  readonly #taking: Taking;
  readonly #saying: Saying;
  readonly #echoes = new Echoes();
  readonly #keys: ClusterKeys;
  #announced: readonly Sealed[] | undefined;
  /** Of the last work. */
  #wallMs = 0;
  /** When a beacon of this cluster was proven last. */
  #ownBeacon: { readonly monoMs: number; readonly isFirst: boolean } | undefined;
  /** No beacon could be made, and none is made before. */
  #beaconAgainMonoMs = 0;

  constructor(options: HeldOptions, parts: HeldParts) {
    this.#keeping = new Keeping(options, parts);
    this.#keys = parts.keys;
    this.replica = this.#keeping.replica;
    this.#chores = new Chores(this.#keeping);
    this.#taking = new Taking(this.#keeping, this.#echoes, parts);
    this.#saying = new Saying(this.#keeping, this.#echoes, parts.signer);
    this.#keeping.onKey = (cluster) => this.keysChanged([cluster]);
    this.#keeping.onOwnBeacon = ({ monoMs }, isFirst) => {
      this.#ownBeacon = { monoMs, isFirst };
    };
    this.#keeping.onOwnKeyGone = (isGone) => this.#echoes.distrust(isGone);
    this.#keeping.onEcho = (content, time) => this.#taking.heardEcho(content, time);
    this.#keeping.onConflict = (own, other, time) => this.#giveWay(own, other, time);
  }

  // ---- what borders bring ----
  /**
   * A summary that arrived on a border link. Its hops are counted here: 1 from the source's own cluster, otherwise one more than the neighbour reported, and at least 2. All nodes of a
   * region therefore see whether the region receives a source directly. A summary with more than 8 hops is refused.
   */
  take(sealed: Sealed, via: Via, time: Time): Taken {
    return this.#taking.take("summary", sealed, via, time);
  }

  /** A beacon. `ageMs`: for how long the neighbour has had it. That counts here too, so that no relay makes a source younger. */
  takeBeacon(sealed: Sealed, via: Via, time: Time, ageMs: number): Taken {
    return this.#taking.take("beacon", sealed, via, time, ageMs);
  }

  /** The announcement of a key, from a border or from our own cluster. If it counts, the nodes of the region are told. */
  announce(sealed: Sealed, time: Time): SummaryRefusal | undefined {
    const taken = this.#taking.take("key", sealed, NOBODY, time);
    return taken.kind === "refused" ? taken.why : undefined;
  }

  /** The announcements of keys that count, or will. The same list while they are the same, as far as `keysChanged` was told. */
  announcements(): readonly Sealed[] {
    this.#announced ??= this.#keys.announcements(this.#wallMs).map(({ signed, signature }) => ({ signed, signature, hops: 0 }));
    return this.#announced;
  }

  /** How often each reason has kept something out. Also counted are those that were taken all the same: unsigned, in conflict, or hidden by the owner rule. */
  get refusals(): Readonly<Record<SummaryRefusal, number>> {
    return this.#taking.refusals.counts;
  }

  /** Whether `takeRefused` has some. */
  get hasRefused(): boolean {
    return this.#taking.refusals.hasEvents;
  }

  /** Some of these, for the audit, since the last call. */
  takeRefused(): readonly RefusalEvent[] {
    return this.#taking.refusals.take();
  }

  // ---- what this cluster says ----
  /** Numbers, signs and holds a summary of this cluster. Returns its version; undefined if this node cannot sign, or if nobody would take it (`unsaid`). */
  export(facts: SummaryFacts, time: Time): number | undefined {
    return this.#saying.export(facts, time);
  }

  /** Says again what this cluster says of a key, above all that is known of it. Undefined if it says nothing of it, or cannot sign. */
  restate(key: SummaryKey, time: Time): number | undefined {
    return this.#saying.restate(key, time);
  }

  /** Says that a key is gone of which this cluster knows nothing any more, above all that is known of it. Only a node that may send withdrawals does so. */
  takeBack(key: SummaryKey, under: SaidUnder, time: Time): number | undefined {
    return this.#saying.takeBack(key, under, time);
  }

  /** The next beacon of this cluster, with these nodes that accept calls. Returns its version; undefined if this node cannot sign. */
  makeBeacon(ingress: readonly IngressNode[], time: Time): number | undefined {
    const version = this.#saying.makeBeacon(ingress, time);
    if (version === undefined) this.#beaconAgainMonoMs = time.monoMs + BEACON_AGAIN_MS;
    return version;
  }

  /** What could not be said, because nobody would take it. */
  get unsaid(): Pick<Unsaid, "take" | "textAt"> {
    return this.#saying.unsaid;
  }

  /**
   * When the next beacon of this cluster is to go out, whoever made the last one. The first one that a node which starts knows of may be old: its age tells, and
   * without one the next beacon is due.
   */
  get beaconDueMonoMs(): number {
    if (this.#ownBeacon === undefined) return this.#beaconAgainMonoMs;
    const { sources, options } = this.#keeping;
    const { monoMs, isFirst } = this.#ownBeacon;
    const own = isFirst ? sources.find(options.clusterId) : undefined;
    const madeMonoMs = own?.isHeard === false ? Number.NEGATIVE_INFINITY : Math.min(monoMs, own?.receiptMonoMs ?? monoMs);
    return Math.max(madeMonoMs + options.ttlMs / 3, this.#beaconAgainMonoMs);
  }

  /**
   * What this cluster must say again, above what is known outside, since the last call: by `restate`; by `makeBeacon`, without a key; or by `takeBack`,
   * if it has nothing to say of it. What is not done comes again with the next echo.
   */
  takeExceeds(): readonly Exceed[] {
    return this.#echoes.take();
  }

  /** Another record of a key of ours has the same version and counts. If two exporters made them, ours must go above. */
  #giveWay(own: StoredRecord, other: StoredRecord, time: Time): void {
    const exporter = this.#keeping.exporterOf(other);
    if (exporter === this.#keeping.exporterOf(own)) return;
    this.#taking.tell("conflict", this.#keeping.contentOf(other), { cluster: other.origin.clusterId }, time);
    const { nodeId, clusterId } = this.#keeping.options;
    if (clusterOfKey(own.key) === clusterId && this.#keeping.exporterOf(own) === nodeId) this.#echoes.order(own.key, own.hlc);
  }

  // ---- what is held ----
  /** The record of a key that counts, shown or hidden. */
  best(key: KeyText): StoredRecord | undefined {
    return this.#keeping.best(key);
  }

  /** What this cluster says, for who builds it: also what is hidden, and withdrawals while they are remembered. */
  get own(): {
    readonly replica: Replica;
    readonly keyId: string;
    find(key: SummaryKey, time: Time): Summary | undefined;
    counts(stored: StoredRecord, time: Time): boolean;
  } {
    const saying = this.#saying;
    return {
      replica: this.replica,
      find: (key, time) => this.#keeping.summaryOf(key, time),
      counts: (stored, time) => {
        this.#keeping.settle(stored.key, time);
        return this.#keeping.best(stored.key)?.hlc === stored.hlc;
      },
      get keyId() {
        return saying.keyId;
      },
    };
  }

  /** What this cluster exports of a namespace now, and when it last said something of it. Undefined if nothing is remembered. */
  toldOf(namespace: string): ToldNamespace | undefined {
    return this.#keeping.told.find(namespace);
  }

  /** What is held of a key, for border links. HOT: several times a change for each link. The record says all that the key says. */
  find(key: KeyText): HeldSeal | undefined {
    const best = this.best(key);
    if (best === undefined) return undefined;
    const { namespace, hlc: version, scope: channel, kind } = best;
    const facts = { key, source: clusterOfKey(key), namespace, version, channel };
    const keeping = this.#keeping;
    return {
      ...facts,
      isBeacon: kind === KIND.NODE,
      isWithdrawn: isWithdrawn(best),
      /** HOT: of each summary that a neighbour lacks, and of all beacons for each link. Nothing is copied for it. */
      get hops() {
        return sealedOf(keeping.bytesOf(best)).hops;
      },
      seal: () => this.#sealOf(best),
    };
  }

  /** HOT: of all beacons, for each link on which one goes. What is signed need not be read for it. */
  #sealOf(stored: StoredRecord): Sealed {
    const { signed, signature, hops } = sealedOf(this.#keeping.bytesOf(stored));
    return { signed: signed.slice(), signature: signature.slice(), hops };
  }

  /** Moves with each change of a version. */
  get revision(): number {
    return this.#keeping.changes.revision;
  }

  /**
   * Visits the keys whose version changed after a revision, oldest change first, until `visit` returns false. What only became visible or hidden is not
   * visited, and what is not verified here yet is visited once it is.
   */
  changesSince(revision: number, visit: (held: HeldSeal, revision: number) => boolean): void {
    this.#keeping.changes.since(revision, (key, order) => {
      const held = this.find(key);
      return held === undefined || visit(held, order);
    });
  }

  /** The beacons of the sources that are not dropped, at most 256. */
  beacons({ monoMs }: Time): readonly HeldBeacon[] {
    return this.#keeping.sources.all.flatMap(({ id, isHeard, state, receiptMonoMs }) => {
      const held = isHeard && state !== "dropped" ? this.find(beaconKey(id)) : undefined;
      return held === undefined ? [] : [{ ...held, ageMs: Math.max(0, monoMs - receiptMonoMs), hops: held.hops }];
    });
  }

  /** The region of a cluster by the settings. */
  regionOf(source: string): string | undefined {
    return this.#keeping.judge.regionOf(source);
  }

  /** What a record says, with the seal as it came. Its bytes are good until the next change. */
  contentOf(stored: StoredRecord): Opened {
    return this.#keeping.contentOf(stored);
  }

  /** The beacon of a source that counts. */
  beaconOf(id: string): Beacon | undefined {
    return this.#keeping.beaconOf(id);
  }

  /** Whether a record's source was not heard of for a ttl. */
  isStale({ key }: { readonly key: KeyText }, time: Time): boolean {
    const { sources } = this.#keeping;
    const source = sources.find(clusterOfKey(key));
    return source === undefined || sources.stateAt(source, time) !== "fresh";
  }

  /** For how long the source stays fresh if nothing more is heard of it. */
  freshMs(id: string, time: Time): number {
    const { sources } = this.#keeping;
    const source = sources.find(id);
    return source === undefined || sources.stateAt(source, time) !== "fresh" ? 0 : source.receiptMonoMs + source.ttlMs - time.monoMs;
  }

  /** Increases when a dropped source is advertised again. Summaries of it that arrived before were refused. */
  get resumedCount(): number {
    return this.#keeping.sources.resumedCount;
  }

  sources(time: Time): readonly SourceStatus[] {
    const { sources } = this.#keeping;
    return sources.all.map((source) => ({
      source: source.id,
      state: sources.stateAt(source, time),
      summaries: source.count,
      isFull: sources.isFull(source, time),
      ageMs: source.isHeard ? Math.max(0, time.monoMs - source.receiptMonoMs) : undefined,
      refused: source.refused,
    }));
  }

  /**
   * Over what is live: neither withdrawn, nor past its end, nor of a source that was dropped. Hidden or not. Undefined while it is being summed for the
   * first time.
   */
  digest(filter: DigestFilter): Digest | undefined {
    return this.#keeping.digests.find(filter);
  }

  /** The sums of a filter are kept no longer. */
  letGo(filter: DigestFilter): void {
    this.#keeping.digests.letGo(filter);
  }

  /** What is held of the keys in some buckets, withdrawals too, in slices: call until it is done. */
  list(filter: DigestFilter, buckets: ReadonlySet<number>): Generator<void, readonly Listed[]> {
    return this.#keeping.digests.list(filter, buckets);
  }

  // ---- receipts ----
  /** How long ago the sources were heard of, for peers and for the next start. Version 0: nothing was received of it. */
  ages(time: Time): readonly SourceAge[] {
    return this.#keeping.sources.ages(time);
  }

  /** Those that moved since the last call. */
  newAges(time: Time): readonly SourceAge[] {
    return this.#keeping.sources.newAges(time);
  }

  /** The regions of sources that the settings name, without this one. */
  get otherRegions(): ReadonlySet<string> {
    return this.#keeping.judge.otherRegions;
  }

  get lostAfterMs(): number {
    const { ttlMs, staleKeepMs } = this.#keeping.options;
    return ttlMs + staleKeepMs;
  }

  /** Whether the source of a record took it back by a beacon, or is dropped. */
  isOver(record: StoredRecord): boolean {
    return this.#keeping.isOver(record);
  }

  /** Whether a source says by this record that something is gone. */
  isTakenBack(record: StoredRecord): boolean {
    return isProven(record) && isWithdrawn(record);
  }

  /** A node of the region, or the file of an earlier life, tells of a receipt. If that beacon is not proven here yet, it counts as soon as it is. */
  heardAge(age: SourceAge, time: Time): void {
    this.#keeping.heardAge(age, time);
  }

  // ---- time and slices ----
  /** Which keys of these clusters count has changed, or their region; of all clusters without a list. */
  keysChanged(clusters?: readonly string[]): void {
    this.#announced = undefined;
    this.#keeping.digests.regionsChanged();
    this.#chores.askKeys(clusters);
  }

  /** What `isOwner` or `imports` answers has changed. */
  rulesChanged(): void {
    this.#chores.sweepAll();
  }

  /**
   * What the neighbours of clusters of this region export to them now, by the region of the source. What nodes of such a cluster took, and none of its neighbours exports any more, is not shown,
   * counted or told on, and they end it. It comes again with a wider rule.
   */
  exportsChanged(exported: ReadonlyMap<string, IsExported>): void {
    this.#keeping.exported = exported;
    this.#chores.sweepAll();
  }

  /** When `work` is needed next. */
  nextDeadlineMs(time: Time): number {
    return this.#chores.nextDeadlineMs(time);
  }

  /** Does a slice of what is due: it verifies, hides, shows and ends. Returns whether there is more. */
  work(time: Time): boolean {
    this.#wallMs = time.wallMs;
    return this.#chores.work(time);
  }
}

/** When no beacon could be made, because the node has no key or no version is left, it is tried again after this time. */
const BEACON_AGAIN_MS = 1000;
/** Whoever announces a key: it is not told by that. */
const NOBODY: Via = { cluster: "", region: "" };
