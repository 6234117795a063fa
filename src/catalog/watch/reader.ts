/**
 * The state that all equal streams share: the filter, viewer class and options of a reader, and the messages that have been built for it. A change
 * for a thousand equal watches is therefore found and encoded only once.
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

/** Hidden namespaces, and the rule that hides each of them. */
export type HiddenNamespaces = Readonly<Record<string, string>>;

/** The actions, with the numbers of the enum DiscoveryDelta.Action. */
export const ACTION = { CREATE: 1, UPDATE: 2, REMOVE: 3 } as const;
export type ChangeAction = (typeof ACTION)[keyof typeof ACTION];

/** The snapshot markers, with the numbers of the enum waymark.catalog.v1.Snapshot. */
export const SNAPSHOT = { NONE: 0, BEGIN: 1, CONTINUE: 2, END: 3 } as const;
export type SnapshotPhase = (typeof SNAPSHOT)[keyof typeof SNAPSHOT];

export interface WatchChange {
  readonly action: ChangeAction;
  /**
   * The record to put. For REMOVE, any record with the key. The record must be encoded in the same turn of the event loop, because its bytes may
   * move.
   */
  readonly record: CatalogRecord;
  readonly revision: number;
  /** Only for REMOVE: why the key was removed. */
  readonly cause?: ChangeCause;
}

export interface FeedMessage {
  readonly changes: readonly WatchChange[];
  readonly revision: number;
  /** Empty if a reader cannot resume from this message's position. */
  readonly cursor: string;
  readonly portableCursor: string;
  readonly snapshot: SnapshotPhase;
  readonly replaces: readonly string[];
  readonly isBookmark: boolean;
  readonly digest: ViewDigest | undefined;
  /**
   * The encoded message, after the first stream has encoded it. All streams that share the message share these bytes. HOT: a WeakMap instead of this
   * field cost 10 % in bench/watch.ts.
   */
  encoded: Buffer | undefined;
}

export interface ReaderOptions {
  readonly filter: EntryFilter;
  /** Identifies filter, viewer and options. Streams with equal identifiers share a reader. */
  readonly name: string;
  /**
   * Identifies filter, viewer and `isNamesOnly`. The hash can be forged, so it is used only to decide for which readers a cursor is valid.
   */
  readonly hash: string;
  /** Whether the reader may see a namespace. Called once for each namespace and scan. */
  readonly allowed: (namespace: string) => boolean;
  /** In the operator's view, returns the rules that hide the namespaces of these records from other views. Absent in other views. */
  readonly hiddenBy?: ((records: readonly CatalogRecord[]) => HiddenNamespaces | undefined) | undefined;
  /** Whether a policy change that affects a namespace still has to be sent to the reader. If absent, never. */
  readonly isOwed?: (namespace: string) => boolean;
  /**
   * Whether a policy change still has to be sent that affects any namespace from which the reader may have entries. While this is true, the reader's
   * state differs from a query result, so the stream sends no END and no bookmark.
   */
  readonly isOwedAny?: () => boolean;
  /**
   * Returns a string that changes whenever the verdicts change. HOT: a function instead of a getter, because each options object with its own getter
   * has its own hidden class.
   */
  readonly policyEpoch: () => string;
  readonly isNamesOnly: boolean;
  readonly withDigest: boolean;
  /**
   * Returns the current cursor that is valid everywhere, or an empty string. Absent on a node, which builds the cursor from the version vector of its
   * replica.
   */
  readonly portableCursor?: ((hash: string, policyEpoch: string) => string) | undefined;
  /** Whether a universally valid cursor currently exists. Absent on a node, which always has one. */
  readonly isAtPlace?: (() => boolean) | undefined;
}

export interface ReaderNode extends NodeLocality {
  /** This process instance, for short cursors. */
  readonly boot: string;
}

/** Approximate size of a change in a message, not including the bytes of its entry: tag, delta id, namespace, revision, time. */
const CHANGE_BYTES = 96;
/** Number of messages that are kept. Streams at different positions can share these messages. */
const KEPT_MESSAGES = 4;

/** Maximum number of records that one scan examines. The limit is needed because most of the records may be irrelevant to the reader. */
const MAX_LOOKED = 10_000;
/** Maximum number of entries that are added to digests in one turn of the event loop; each entry must be hashed. */
const MAX_SUMMED = 4000;

const NO_NAMES: readonly string[] = [];
const NO_CURSOR = { policyEpoch: "", local: undefined, origins: [], text: "" };

/** The next message of a reader, which covers everything up to `to`. If `isShort` is set, some records have not been examined yet. */
interface LiveRange {
  readonly message: FeedMessage | undefined;
  readonly to: number;
  readonly isShort: boolean;
}

interface ReaderState extends ReaderPosition, LiveRange {
  readonly from: number;
  readonly budgetBytes: number;
  /** The epoch of the policy under which the message was built. */
  readonly policyEpoch: string;
}

export interface ScanOptions extends ReaderPosition {
  /** Returns the reader's position for a key that a page has sent. Undefined for all other keys. */
  readonly pageOf?: (stored: StoredRecord) => ReaderPosition | undefined;
  readonly isAhead?: boolean;
}

export interface ScanResult {
  readonly changes: WatchChange[];
  /** Every change up to this revision is in `changes` or is not relevant to the reader. */
  readonly to: number;
  /** Whether the scan reached its bound before it had examined all records. */
  readonly isShort: boolean;
}

export class WatchReader {
  readonly options: ReaderOptions;
  readonly replica: Replica;
  readonly node: ReaderNode;
  /** Recent touches of the names that the reader watches. Present while all streams of this reader are notified of changes by name. */
  touches: NamedTouches | undefined;
  /** Number of open streams of this reader. */
  streamCount = 0;
  /** The messages that were built at `#keptRevision`. These messages become useless with the next change. */
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
   * This node's origin, if it has had LOCAL entries in the reader's namespaces. Another node has other LOCAL entries. On that node, a reader with a
   * wider scope sees the records that this node's LOCAL entries hide. This also applies to a resolver, which does not receive LOCAL entries. A
   * resolver's cursors always identify this node, because the resolver's next list of namespaces may be a different one.
   */
  get local(): string | undefined {
    const { filter, allowed } = this.options;
    const { localNamespaces, self } = this.replica;
    let hasLocal = false;
    for (const namespace of localNamespaces) hasLocal ||= coversNamespace(filter, namespace) && allowed(namespace);
    if (filter.resolved !== undefined) return resolverPlace(self.id, hasLocal);
    return hasLocal ? self.id : undefined;
  }

  /** Returns the portable cursor at the current version vector, for a reader that has everything the vector covers. */
  portableCursor(): string {
    const { portableCursor, hash, policyEpoch } = this.options;
    return portableCursor === undefined ? this.#vectorCursor() : portableCursor(hash, policyEpoch());
  }

  #vectorCursor(): string {
    const policyEpoch = this.options.policyEpoch();
    // The revision alone is not a sufficient cache key, because the vector and an origin's state can change without a record.
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

  /** Returns the message that continues from `from`. All streams at that position share this message. */
  live(from: number, budgetBytes: number, place: ReaderPosition): LiveRange {
    const { revision } = this.replica;
    if (from === revision) return { message: undefined, to: revision, isShort: false };
    // HOT: bench/watch.ts. A kept message remains in memory after its turn. A thousand streams with different filters would each keep a message that
    // no stream requests again.
    const isShared = this.streamCount !== 1;
    const kept = isShared ? this.#keptAt(from, budgetBytes, place) : undefined;
    if (kept !== undefined) return kept;
    const { changes, to, isShort } = this.scan(from, budgetBytes, place);
    // Creating a cursor costs a hash, and most readers that are notified of a change in their namespace get no message.
    const message =
      changes.length === 0
        ? undefined
        : this.message({ changes, revision: to, cursor: this.shortCursor(to, to === revision ? to : place.settled) });
    const made = { message, to, isShort };
    if (isShared) this.#keep({ from, ...place, budgetBytes, policyEpoch: this.options.policyEpoch(), ...made });
    return made;
  }

  #keptAt(from: number, budgetBytes: number, { settled, until, reads }: ReaderPosition): ReaderState | undefined {
    const { revision } = this.replica;
    if (this.#keptRevision !== revision) {
      this.#keptRevision = revision;
      this.#kept = [];
    }
    const policyEpoch = this.options.policyEpoch();
    for (const kept of this.#kept) {
      const isAt = kept.from === from && kept.settled === settled && kept.until === until && areSame(kept.reads, reads);
      if (isAt && kept.budgetBytes === budgetBytes && kept.policyEpoch === policyEpoch) return kept;
    }
    return undefined;
  }

  #keep(made: ReaderState): void {
    if (this.#kept.length >= KEPT_MESSAGES) this.#kept.shift();
    this.#kept.push(made);
  }

  /**
   * Returns changes after `from`: each key once, in its current view, at least one change, and as many as the budget allows. Keys whose current state
   * has already been sent on a page are skipped. A reader with `isAhead` has a cursor from another node and may have keys that were never visible
   * here; it gets a REMOVE for them.
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
      // If the key were skipped here, it would not be considered changed when the namespace is sent to the reader later.
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

  /**
   * Returns a revision up to which nothing relevant to the reader has happened since `from`, as far as this is known without a scan.
   */
  quietThrough(from: number): number {
    return this.touches?.quietThrough(from) ?? from;
  }

  /** Returns the change that a reader at that position gets for the key of a touched record, or undefined if it gets none. */
  #changeOf(stored: StoredRecord, revision: number, place: ReaderPosition, isAhead: boolean): WatchChange | undefined {
    const { filter } = this.options;
    const winner = this.replica.winner(stored);
    const isSeen = winner !== undefined && matches(filter, winner, this.node);
    // A filter's conditions on keys are a subset of its conditions on records.
    if (!isSeen && !this.mayHoldKey(stored)) return undefined;
    // If several origins have the key, the key is sent only for its newest touch.
    if (stored.peers?.some((peer) => peer.revision > revision) === true) return undefined;
    const isAlwaysSent = this.#isAlwaysSent(stored, winner) || (winner === undefined && this.replica.endedAgain.has(stored));
    const holding = isAlwaysSent ? "unknown" : this.replica.past.holding(revision, winner, place, filter, this.node);
    if (isSeen) {
      if (holding === "same") return undefined;
      const isNew = holding === "unknown" ? winner.bornRevision > place.settled : holding === "nothing";
      return { action: isNew ? ACTION.CREATE : ACTION.UPDATE, record: winner, revision };
    }
    const mayHold = isAlwaysSent || (holding === "unknown" ? this.#mayHold(stored, winner, place, isAhead) : holding !== "nothing");
    return mayHold && this.mayReveal(stored) ? { action: ACTION.REMOVE, record: stored, revision, cause: this.causeOf(stored) } : undefined;
  }

  /** Whether a reader whose view is unknown may have a key that it should no longer have. */
  #mayHold(stored: StoredRecord, winner: StoredRecord | undefined, { settled }: ReaderPosition, isAhead: boolean): boolean {
    // The reader never had the key if no filterable field has changed since its position (filter_seq). If there are several origins, the reader may
    // have had another origin's record. A key that was already hidden at the reader's position need not be sent either.
    if (stored.peers !== undefined || stored.filterRevision > settled) return true;
    return winner !== stored && isAhead && this.replica.isAdmitted(stored);
  }

  /**
   * Whether a change is sent regardless of the reader's view. A resolver receives every touched key, including keys that it never had and
   * keys that are unchanged, because a reader that received an intermediate state may move to it from another node. For a key that only
   * an owner rule hides, a resolver is treated like any other reader.
   */
  #isAlwaysSent(stored: StoredRecord, winner: StoredRecord | undefined): boolean {
    return this.options.filter.resolved !== undefined && (winner !== undefined || this.replica.isAdmitted(stored));
  }

  /** Returns the reason why the key of a touched record was removed. */
  causeOf(stored: StoredRecord): ChangeCause {
    return (stored.body === BODY.ENTRY ? undefined : this.replica.causes.get(stored)) ?? causeOf(stored);
  }

  /**
   * Whether the reader may learn that there was an entry with this key. A resolver receives no information about LOCAL entries. The record of another
   * node may have been visible before the LOCAL record hid it. Such a key is sent.
   */
  mayReveal({ reach, peers }: StoredRecord): boolean {
    if (this.options.filter.resolved === undefined || reach !== SCOPE.LOCAL) return true;
    return peers?.some((peer) => peer.reach !== SCOPE.LOCAL) === true;
  }

  /** Whether the key itself passes the filter. This part of the filter is also applied to tombstones. */
  mayHoldKey(stored: CatalogRecord): boolean {
    const { filter } = this.options;
    if (!coversNamespace(filter, stored.namespace)) return false;
    if (filter.names.length > 0 && !hasName(filter.names, stored.name)) return false;
    return filter.kindMask === 0 || (filter.kindMask & (1 << stored.kind)) !== 0;
  }

  /** Whether any key in the namespace can pass the filter. */
  mayHoldNamespace(namespace: string): boolean {
    return coversNamespace(this.options.filter, namespace);
  }

  /** Returns the approximate size of a change in a message. */
  sizeOf(change: WatchChange): number {
    const { record } = change;
    if (change.action === ACTION.REMOVE || this.options.isNamesOnly) return CHANGE_BYTES + record.key.length;
    return CHANGE_BYTES + record.sizeBytes;
  }

  /** Whether a policy change must still be sent (semantics.md, Watch 5). */
  get isOwed(): boolean {
    return this.options.isOwedAny?.() === true;
  }

  /** Adds some of the entries of untracked namespaces to their sums. Returns whether the sums that `digest` needs are complete. */
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

  /** Returns the count and digest of the entries that the reader should have at this point. Undefined if the reader did not request them. */
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

  // HOT: runs for each change and filter; spreading the parts over defaults took longer than the rest of the work here.
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
  // HOT: a reader that keeps up has no remembered reads.
  if (some === others || some.length !== others.length) return some === others;
  return some.every(({ from, to, at }, i) => from === others[i]?.from && to === others[i]?.to && at === others[i]?.at);
}

function placeOf(origin: Origin): CursorOrigin {
  const { nodeId, generation, life } = origin;
  const [seq, settled] = [sentSeq(origin), settledOf(origin)];
  return settled === seq ? { nodeId, generation, seq, life } : { nodeId, generation, seq, settled, life };
}

/**
 * Returns the seq up to which this node may have sent records. During a whole transfer, this node has records above its version vector, and may have
 * sent them.
 */
function sentSeq({ unsettled, through, log }: Origin): number {
  return unsettled === undefined ? through : Math.max(through, log.lastOrder);
}

/** Whether the list was built from these origins in this order, so that it is still current. */
function isVector(list: readonly CursorOrigin[], origins: Replica["origins"]): boolean {
  if (list.length !== origins.size) return false;
  let i = 0;
  for (const origin of origins.values()) {
    const listed = list[i++];
    if (
      listed === undefined ||
      listed.seq !== sentSeq(origin) ||
      (listed.settled ?? listed.seq) !== settledOf(origin) ||
      listed.life !== origin.life
    )
      return false;
    if (listed.nodeId !== origin.nodeId || listed.generation !== origin.generation) return false;
  }
  return true;
}
