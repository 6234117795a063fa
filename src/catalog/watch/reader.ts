/**
 * The state that all equal streams share: filter, viewer class and options of a reader, and the messages already made for it. So one change
 * for a thousand equal watches is found and encoded once.
 */

import { SCOPE } from "../entry/scope.ts";
import { coveredNamespaces, coversNamespace, type EntryFilter, hasName, matches, type NodeLocality } from "../query/filter.ts";
import { BODY, type CatalogRecord } from "../record/record.ts";
import { type Origin, type StoredRecord, settledOf } from "../record/stored-record.ts";
import type { ViewDigest } from "../replica/namespace-digest.ts";
import type { ReaderPosition, ReadSpan } from "../replica/past-views.ts";
import type { Replica } from "../replica/replica.ts";
import { type ChangeCause, causeOf } from "./change-cause.ts";
import { type CursorOrigin, portableCursorText, resolverPlace, ShortCursorTexts, shortHolder } from "./cursor.ts";
import type { NamedTouches } from "./name-index.ts";

/** The numbers of DiscoveryDelta.Action. */
export const ACTION = { CREATE: 1, UPDATE: 2, REMOVE: 3 } as const;
export type ChangeAction = (typeof ACTION)[keyof typeof ACTION];

/** The numbers of waymark.catalog.v1.Snapshot. */
export const SNAPSHOT = { NONE: 0, BEGIN: 1, CONTINUE: 2, END: 3 } as const;
export type SnapshotPhase = (typeof SNAPSHOT)[keyof typeof SNAPSHOT];

export interface WatchChange {
  readonly action: ChangeAction;
  /** The record to put, or for REMOVE any record of the key. Encode it in this turn, because its bytes may move. */
  readonly record: CatalogRecord;
  readonly revision: number;
  /** For REMOVE: why the key is gone. */
  readonly cause?: ChangeCause;
}

export interface FeedMessage {
  readonly changes: readonly WatchChange[];
  readonly revision: number;
  /** Empty if a reader cannot resume from this message. */
  readonly cursor: string;
  readonly portableCursor: string;
  readonly snapshot: SnapshotPhase;
  readonly replaces: readonly string[];
  readonly isBookmark: boolean;
  readonly digest: ViewDigest | undefined;
  /** Its bytes, once a stream has made them: streams that share the message share them. HOT: a WeakMap cost a tenth of bench/watch.ts. */
  encoded: Buffer | undefined;
}

export interface ReaderOptions {
  readonly filter: EntryFilter;
  /** Stands for filter, viewer and options. Streams with equal names share a reader. */
  readonly name: string;
  /**
   * Stands for filter, viewer and `isNamesOnly`: it decides for which readers a cursor is valid, and nothing else, because it can be
   * forged.
   */
  readonly hash: string;
  /** Whether the reader may see a namespace. Asked once for each namespace and scan. */
  readonly allowed: (namespace: string) => boolean;
  /** Whether the reader must still be told about a change of policy in a namespace. Absent means never. */
  readonly isOwed?: (namespace: string) => boolean;
  /** The same for any namespace that it may hold. While this is true, its fold differs from a query, so there is no END and no bookmark. */
  readonly isOwedAny?: () => boolean;
  /** Changes with the verdicts. HOT: a function and no getter, since options with a getter of their own each have a hidden class of their own. */
  readonly policyEpoch: () => string;
  readonly isNamesOnly: boolean;
  readonly withDigest: boolean;
  /** The cursor that is good everywhere, or an empty text. Absent at a node, which makes it from the vector of its replica. */
  readonly portableCursor?: ((hash: string, policyEpoch: string) => string) | undefined;
  /** Whether there is such a cursor now. Absent at a node, which always has one. */
  readonly isAtPlace?: (() => boolean) | undefined;
}

export interface ReaderNode extends NodeLocality {
  /** This process, for short cursors. */
  readonly boot: string;
}

/** Approximate size of a change in a message, without the bytes of its entry: tag, delta id, namespace, revision, time. */
const CHANGE_BYTES = 96;
/** Number of kept messages, for readers at different positions. */
const KEPT_MESSAGES = 4;

/** Most records in one scan, because most of them may not concern the reader. */
const MAX_LOOKED = 10_000;
/** Most entries that are summed for a digest in one turn, because each is hashed. */
const MAX_SUMMED = 4000;

const NO_NAMES: readonly string[] = [];
const NO_CURSOR = { policyEpoch: "", local: undefined, origins: [], text: "" };

/** What a reader is told next: everything up to `to`. `isShort`: it was not all looked at. */
interface LiveRange {
  readonly message: FeedMessage | undefined;
  readonly to: number;
  readonly isShort: boolean;
}

interface ReaderState extends ReaderPosition, LiveRange {
  readonly from: number;
  readonly budgetBytes: number;
  /** The verdicts under which it was made. */
  readonly policyEpoch: string;
}

export interface ScanOptions extends ReaderPosition {
  /** The reader's position for keys that a page has sent. Undefined for other keys. */
  readonly pageOf?: (stored: StoredRecord) => ReaderPosition | undefined;
  readonly isAhead?: boolean;
}

export interface ScanResult {
  readonly changes: WatchChange[];
  /** Everything up to this revision is in `changes` or does not concern the reader. */
  readonly to: number;
  /** More records remain: the scan reached its bound. */
  readonly isShort: boolean;
}

export class WatchReader {
  readonly options: ReaderOptions;
  readonly replica: Replica;
  readonly node: ReaderNode;
  /** What was touched of its names lately, while all its streams are told of changes by name. */
  touches: NamedTouches | undefined;
  /** Open streams of this reader. */
  streamCount = 0;
  /** Messages made at the revision below: with the next change they are of no use. */
  #kept: ReaderState[] = [];
  #keptRevision = 0;
  #shortCursors: { readonly boot: string; readonly texts: ShortCursorTexts } | undefined;
  #portable: {
    readonly policyEpoch: string;
    readonly local: string | undefined;
    readonly origins: readonly CursorOrigin[];
    readonly text: string;
  } = NO_CURSOR;

  constructor(options: ReaderOptions, replica: Replica, node: ReaderNode) {
    this.options = options;
    this.replica = replica;
    this.node = node;
  }

  shortCursor(revision: number, settled = revision): string {
    const { boot } = this.node;
    if (this.#shortCursors?.boot !== boot) this.#shortCursors = { boot, texts: new ShortCursorTexts(shortHolder(boot, this.options.hash)) };
    return this.#shortCursors.texts.at(revision, settled);
  }

  /**
   * This node's origin, if it has had LOCAL entries in the reader's namespaces. Another node has other LOCAL entries, and a reader of wider
   * scopes sees there the records that these hide here. So does a resolver, which does not get them. Its cursors name this node in any case,
   * since its next list of namespaces may be another one.
   */
  get local(): string | undefined {
    const { filter, allowed } = this.options;
    const { localNamespaces, self } = this.replica;
    let hasLocal = false;
    for (const namespace of localNamespaces) hasLocal ||= coversNamespace(filter, namespace) && allowed(namespace);
    if (filter.resolved !== undefined) return resolverPlace(self.id, hasLocal);
    return hasLocal ? self.id : undefined;
  }

  /** The current vector, for a reader that has everything up to it. */
  portableCursor(): string {
    const { portableCursor, hash, policyEpoch } = this.options;
    return portableCursor === undefined ? this.#vectorCursor() : portableCursor(hash, policyEpoch());
  }

  #vectorCursor(): string {
    const policyEpoch = this.options.policyEpoch();
    // The revision is not enough as a key: a vector and an origin's state can change without a record.
    const { local } = this;
    const isSame = this.#portable.policyEpoch === policyEpoch && this.#portable.local === local;
    if (!isSame || !isVector(this.#portable.origins, this.replica.origins)) {
      const origins = [...this.replica.origins.values()].map(placeOf);
      const place = local === undefined ? {} : { local };
      const text = portableCursorText({ clusterId: this.node.clusterId, readerHash: this.options.hash, policyEpoch, ...place, origins });
      this.#portable = { policyEpoch, local, origins, text };
    }
    return this.#portable.text;
  }

  /** The message that continues from `from`. All streams at that position share it. */
  live(from: number, budgetBytes: number, place: ReaderPosition): LiveRange {
    const { revision } = this.replica;
    if (from === revision) return { message: undefined, to: revision, isShort: false };
    // HOT: bench/watch.ts. What is kept outlives its turn, and a thousand streams with a filter each would keep a message each that none asks for again.
    const isShared = this.streamCount !== 1;
    const kept = isShared ? this.#keptAt(from, budgetBytes, place) : undefined;
    if (kept !== undefined) return kept;
    const { changes, to, isShort } = this.scan(from, budgetBytes, place);
    // A cursor costs a hash, and most readers that are woken by a change in their namespace get no message.
    const message =
      changes.length === 0
        ? undefined
        : this.message({ changes, revision: to, cursor: this.shortCursor(to, to === revision ? to : place.settled) });
    const made = { message, to, isShort };
    if (isShared) this.#keep({ from, ...place, budgetBytes, policyEpoch: this.options.policyEpoch(), ...made });
    return made;
  }

  #keptAt(from: number, budgetBytes: number, { settled, until, told }: ReaderPosition): ReaderState | undefined {
    const { revision } = this.replica;
    if (this.#keptRevision !== revision) {
      this.#keptRevision = revision;
      this.#kept = [];
    }
    const policyEpoch = this.options.policyEpoch();
    for (const kept of this.#kept) {
      const isAt = kept.from === from && kept.settled === settled && kept.until === until && areSame(kept.told, told);
      if (isAt && kept.budgetBytes === budgetBytes && kept.policyEpoch === policyEpoch) return kept;
    }
    return undefined;
  }

  #keep(made: ReaderState): void {
    if (this.#kept.length >= KEPT_MESSAGES) this.#kept.shift();
    this.#kept.push(made);
  }

  /**
   * Changes after `from`, each key once, as it is seen now: at least one change, then as many as the budget allows. Keys that a page has
   * sent in their current state are skipped. A reader with `isAhead`, whose cursor comes from another node, may hold keys that were never
   * seen here; it is told that they are gone.
   */
  scan(from: number, budgetBytes: number, options: ScanOptions): ScanResult {
    const { pageOf, isAhead = false } = options;
    const changes: WatchChange[] = [];
    const { replica } = this;
    let left = budgetBytes;
    let to = from;
    let isCut = false;
    let lookedCount = 0;
    const allowed = this.#allowedOnce();
    this.#changesSince(from, (stored, revision) => {
      if (lookedCount === MAX_LOOKED) return false;
      lookedCount += 1;
      if (!this.mayHoldNamespace(stored.namespace)) {
        to = revision;
        return true;
      }
      const place = pageOf?.(stored) ?? options;
      const isNews = revision > place.settled;
      // A skipped key would not count as changed when the reader is later told of its namespace.
      isCut = isNews && this.options.isOwed?.(stored.namespace) === true;
      if (isCut) return false;
      const change = isNews && allowed(stored.namespace) ? this.#changeOf(stored, revision, place, isAhead) : undefined;
      if (change !== undefined) {
        left -= this.sizeOf(change);
        isCut = left < 0 && changes.length > 0;
        if (isCut) return false;
        changes.push(change);
      }
      to = revision;
      return true;
    });
    const isShort = !isCut && lookedCount === MAX_LOOKED;
    return { changes, to: isCut || isShort ? to : replica.revision, isShort };
  }

  #changesSince(from: number, visit: (stored: StoredRecord, revision: number) => boolean): void {
    if (this.touches?.visitSince(from, visit) !== true) this.replica.changesSince(from, visit);
  }

  /** The revision up to which nothing that may concern the reader happened after `from`, as far as that is known without looking. */
  quietThrough(from: number): number {
    return this.touches?.quietThrough(from) ?? from;
  }

  /** The change that a reader at that position gets for a touched record's key, or undefined. */
  #changeOf(stored: StoredRecord, revision: number, place: ReaderPosition, isAhead: boolean): WatchChange | undefined {
    const { filter } = this.options;
    const winner = this.replica.winner(stored);
    const isSeen = winner !== undefined && matches(filter, winner, this.node);
    // The filter's tests of a key are among those of a record.
    if (!isSeen && !this.mayHoldKey(stored)) return undefined;
    // With several origins the key is sent only at its newest touch.
    if (stored.peers?.some((peer) => peer.revision > revision) === true) return undefined;
    const isTold = this.#isToldAlways(stored, winner) || (winner === undefined && this.replica.endedAgain.has(stored));
    const holding = isTold ? "unknown" : this.replica.past.holding(revision, winner, place, filter, this.node);
    if (isSeen) {
      if (holding === "same") return undefined;
      const isNew = holding === "unknown" ? winner.bornRevision > place.settled : holding === "nothing";
      return { action: isNew ? ACTION.CREATE : ACTION.UPDATE, record: winner, revision };
    }
    const mayHold = isTold || (holding === "unknown" ? this.#mayHold(stored, winner, place, isAhead) : holding !== "nothing");
    return mayHold && this.mayTell(stored) ? { action: ACTION.REMOVE, record: stored, revision, cause: this.causeOf(stored) } : undefined;
  }

  /** Whether a reader with unknown state may hold a key that it should not hold now. */
  #mayHold(stored: StoredRecord, winner: StoredRecord | undefined, { settled }: ReaderPosition, isAhead: boolean): boolean {
    // The reader never had the key if no filterable field has changed since its position (filter_seq). With several origins it may have had
    // another origin's record. A key that was already hidden at the reader's position is not sent either.
    if (stored.peers !== undefined || stored.filterRevision > settled) return true;
    return winner !== stored && isAhead && this.replica.isAdmitted(stored);
  }

  /**
   * A resolver is told of every key that was touched, also of those that it never had and of those that are as they were: a reader that was told of
   * the state in between may come to it from another node. Of a key that only an owner's rule hides it is told as any reader, when it may hold it.
   */
  #isToldAlways(stored: StoredRecord, winner: StoredRecord | undefined): boolean {
    return this.options.filter.resolved !== undefined && (winner !== undefined || this.replica.isAdmitted(stored));
  }

  /** Why the key of a touched record is gone. */
  causeOf(stored: StoredRecord): ChangeCause {
    return (stored.body === BODY.ENTRY ? undefined : this.replica.causes.get(stored)) ?? causeOf(stored);
  }

  /**
   * Whether the reader may know that there was an entry of this key: a resolver hears nothing of what is LOCAL. Another node's record may have been shown before
   * the LOCAL one ended with it.
   */
  mayTell({ reach, peers }: StoredRecord): boolean {
    if (this.options.filter.resolved === undefined || reach !== SCOPE.LOCAL) return true;
    return peers?.some((peer) => peer.reach !== SCOPE.LOCAL) === true;
  }

  /** Whether the key itself passes the filter: the part of the filter that also applies to tombstones. */
  mayHoldKey(stored: CatalogRecord): boolean {
    const { filter } = this.options;
    if (!coversNamespace(filter, stored.namespace)) return false;
    if (filter.names.length > 0 && !hasName(filter.names, stored.name)) return false;
    return filter.kindMask === 0 || (filter.kindMask & (1 << stored.kind)) !== 0;
  }

  /** Whether any key of the namespace can pass the filter. */
  mayHoldNamespace(namespace: string): boolean {
    return coversNamespace(this.options.filter, namespace);
  }

  /** Approximate size of a change in a message. */
  sizeOf(change: WatchChange): number {
    const { record } = change;
    if (change.action === ACTION.REMOVE || this.options.isNamesOnly) return CHANGE_BYTES + record.key.length;
    return CHANGE_BYTES + record.sizeBytes;
  }

  /** Whether a change of policy must still be sent (semantics.md, Watch 5). */
  get isOwed(): boolean {
    return this.options.isOwedAny?.() === true;
  }

  /** Sums some entries of namespaces that were not summed yet. Returns whether `digest` has nothing left to sum. */
  prepareDigest(): boolean {
    if (!this.options.withDigest) return true;
    const { digests, lookup } = this.replica;
    let left = MAX_SUMMED;
    for (const namespace of coveredNamespaces(lookup.namespaces, this.options.filter)) {
      if (digests.isTracked(namespace) || !this.options.allowed(namespace)) continue;
      if (left <= 0) return false;
      left -= this.#sum(namespace, left);
      if (digests.isFilling(namespace)) return false;
    }
    return true;
  }

  #sum(namespace: string, maxCount: number): number {
    const { digests, lookup } = this.replica;
    return digests.fill(namespace, maxCount, (key) => {
      const cursor = lookup.cursor();
      cursor.seek(`${key}\0`);
      return () => {
        const record = cursor.next();
        return record?.namespace === namespace ? record : undefined;
      };
    });
  }

  /** Count and digest of the entries that the reader should now hold. Undefined if it did not ask. */
  digest(): ViewDigest | undefined {
    if (!this.options.withDigest) return undefined;
    const { digests, lookup } = this.replica;
    let count = 0;
    let digest = 0n;
    for (const namespace of coveredNamespaces(lookup.namespaces, this.options.filter)) {
      if (!this.options.allowed(namespace)) continue;
      if (!digests.isTracked(namespace)) this.#sum(namespace, Number.POSITIVE_INFINITY);
      const sum = digests.find(namespace, this.options.filter.resolved !== undefined);
      if (sum === undefined) continue;
      count += sum.count;
      digest = BigInt.asUintN(64, digest + sum.digest);
    }
    return { count, digest };
  }

  // HOT: once a change and filter; to spread the parts over defaults took longer than all else here.
  message({
    changes,
    revision,
    cursor = "",
    portableCursor = "",
    snapshot = SNAPSHOT.NONE,
    replaces = NO_NAMES,
    isBookmark = false,
    digest,
  }: Partial<FeedMessage> & Pick<FeedMessage, "changes" | "revision">): FeedMessage {
    return { changes, revision, cursor, portableCursor, snapshot, replaces, isBookmark, digest, encoded: undefined };
  }

  #allowedOnce(): (namespace: string) => boolean {
    let last = "";
    let verdict = false;
    return (namespace) => {
      if (namespace !== last) {
        last = namespace;
        verdict = this.options.allowed(namespace);
      }
      return verdict;
    };
  }
}

function areSame(some: readonly ReadSpan[] = [], others: readonly ReadSpan[] = []): boolean {
  // HOT: readers that keep up have no looks.
  if (some === others || some.length !== others.length) return some === others;
  return some.every(({ from, to, at }, i) => from === others[i]?.from && to === others[i]?.to && at === others[i]?.at);
}

function placeOf(origin: Origin): CursorOrigin {
  const { nodeId, generation, life } = origin;
  const [seq, settled] = [toldSeq(origin), settledOf(origin)];
  return settled === seq ? { nodeId, generation, seq, life } : { nodeId, generation, seq, settled, life };
}

/** During a whole transfer this node holds, and has sent, records above its vector. */
function toldSeq({ unsettled, through, log }: Origin): number {
  return unsettled === undefined ? through : Math.max(through, log.lastOrder);
}

/** Whether the list, made from these origins in their order, is still current. */
function isVector(list: readonly CursorOrigin[], origins: Replica["origins"]): boolean {
  if (list.length !== origins.size) return false;
  let i = 0;
  for (const origin of origins.values()) {
    const said = list[i++];
    if (said === undefined || said.seq !== toldSeq(origin) || (said.settled ?? said.seq) !== settledOf(origin) || said.life !== origin.life)
      return false;
    if (said.nodeId !== origin.nodeId || said.generation !== origin.generation) return false;
  }
  return true;
}
