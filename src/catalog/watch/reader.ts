/**
 * What all streams of one kind share: filter, viewer class and options of a reader, and the messages already made for it,
 * so that one change to a thousand equal watches is found and encoded once.
 */

import { coveredNamespaces, coversNamespace, type Filter, type Locality, matches, whyNot } from "../query/filter.ts";
import { type CatalogRecord, viewHealth } from "../record/record.ts";
import { type Origin, type StoredRecord, settledOf } from "../record/stored-record.ts";
import type { ViewDigest } from "../replica/namespace-digest.ts";
import type { Standpoint, Told } from "../replica/past-views.ts";
import type { Replica } from "../replica/replica.ts";
import { type CursorOrigin, portableCursorText, shortCursorText, shortHolder } from "./cursor.ts";

/** As on the wire: DiscoveryDelta.Action. */
export const ACTION = { CREATE: 1, UPDATE: 2, REMOVE: 3 } as const;
export type Action = (typeof ACTION)[keyof typeof ACTION];

/** As on the wire: waymark.catalog.v1.Snapshot. */
export const SNAPSHOT = { NONE: 0, BEGIN: 1, CONTINUE: 2, END: 3 } as const;
export type Snapshot = (typeof SNAPSHOT)[keyof typeof SNAPSHOT];

export interface Change {
  readonly action: Action;
  /** The record to put, or for REMOVE any record of the key. Encode before the next turn: its bytes may move. */
  readonly record: CatalogRecord;
  readonly revision: number;
}

export interface FeedMessage {
  readonly changes: readonly Change[];
  readonly revision: number;
  /** Empty where the message is no place to resume from. */
  readonly cursor: string;
  readonly portableCursor: string;
  readonly snapshot: Snapshot;
  readonly replaces: readonly string[];
  readonly isBookmark: boolean;
  readonly digest: ViewDigest | undefined;
}

export interface ReaderOptions {
  readonly filter: Filter;
  /** Stands for filter, viewer and options; streams of equal names share a reader. */
  readonly name: string;
  /** Stands for filter, viewer and `isNamesOnly`: what a reader holds, and so what its cursors are good for. May be forged: decides nothing else. */
  readonly hash: string;
  /** What the reader may see; asked once a namespace and scan. */
  readonly allowed: (namespace: string) => boolean;
  /** Whether the reader is still to be told what another policy changes in a namespace; absent: never. */
  readonly isOwed?: (namespace: string) => boolean;
  /** The same of any namespace that it may hold: what it folded is then not what a query answers, so there is no END and no bookmark. */
  readonly isOwedAny?: () => boolean;
  /** Changes with the verdicts; asked each time. */
  readonly policyEpoch: string;
  readonly isNamesOnly: boolean;
  readonly withDigest: boolean;
}

export interface NodeFacts extends Locality {
  /** This process life, for short cursors. */
  readonly boot: string;
}

/** What a change costs in a message beside its entry bytes, about: tag, delta id, namespace, revision, time. */
const CHANGE_BYTES = 96;
/** Messages kept for readers that are not at the same place. */
const KEPT_MESSAGES = 4;

/** Records that one scan looks at: most may be none of the reader's. */
const MAX_LOOKED = 10_000;
/** Entries that are summed for a digest in one turn: each is hashed. */
const MAX_SUMMED = 4000;

const NO_CURSOR = { policyEpoch: "", local: undefined, origins: [], text: "" };

interface LivePlace extends Standpoint {
  readonly from: number;
  readonly budgetBytes: number;
}

interface Kept extends LivePlace {
  /** Revision of the replica when it was made: newer changes may belong to it. */
  readonly at: number;
  /** Verdicts under which it was made. */
  readonly policyEpoch: string;
  readonly to: number;
  readonly isShort: boolean;
  readonly message: FeedMessage | undefined;
}

export interface ScanOptions extends Standpoint {
  /** Where the reader stands for keys of which a page has told; undefined for others. */
  readonly pageOf?: (stored: StoredRecord) => Standpoint | undefined;
  readonly isAhead?: boolean;
}

export interface Scan {
  readonly changes: Change[];
  /** Everything up to here is in `changes` or does not concern the reader. */
  readonly to: number;
  /** More is to be looked at: this was as much as one scan does. */
  readonly isShort: boolean;
}

export class Reader {
  readonly options: ReaderOptions;
  readonly replica: Replica;
  readonly node: NodeFacts;
  readonly #kept: Kept[] = [];
  #portable: {
    readonly policyEpoch: string;
    readonly local: string | undefined;
    readonly origins: readonly CursorOrigin[];
    readonly text: string;
  } = NO_CURSOR;

  constructor(options: ReaderOptions, replica: Replica, node: NodeFacts) {
    this.options = options;
    this.replica = replica;
    this.node = node;
  }

  shortCursor(revision: number, settled = revision): string {
    return shortCursorText(shortHolder(this.node.boot, this.options.hash), revision, settled);
  }

  /**
   * This node's origin, when it has had LOCAL entries where the reader looks: at another node there are others, and what they stood
   * before here, which a reader of wider scopes sees there.
   */
  get local(): string | undefined {
    const { filter, allowed } = this.options;
    for (const namespace of this.replica.localNamespaces)
      if (coversNamespace(filter, namespace) && allowed(namespace)) return this.replica.self.id;
    return undefined;
  }

  /** The vector of this moment, for a reader that has everything up to it. */
  portableCursor(): string {
    const { policyEpoch, hash } = this.options;
    // Not by revision: a vector moves on, and an origin's life changes, also where no record does.
    const { local } = this;
    const isSame = this.#portable.policyEpoch === policyEpoch && this.#portable.local === local;
    if (!isSame || !isVector(this.#portable.origins, this.replica.origins)) {
      const origins = [...this.replica.origins.values()].map(placeOf);
      const place = local === undefined ? {} : { local };
      const text = portableCursorText({ clusterId: this.node.clusterId, readerHash: hash, policyEpoch, ...place, origins });
      this.#portable = { policyEpoch, local, origins, text };
    }
    return this.#portable.text;
  }

  /** The message that brings a reader from `from` on; shared by all readers that stand there. */
  live({ from, settled, until, told, budgetBytes }: LivePlace): Kept {
    const { revision } = this.replica;
    const { policyEpoch } = this.options;
    const isThere = (k: Kept) =>
      k.from === from && k.settled === settled && k.until === until && k.budgetBytes === budgetBytes && areSame(k.told, told);
    const kept = this.#kept.find((k) => isThere(k) && k.at === revision && k.policyEpoch === policyEpoch);
    if (kept !== undefined) return kept;
    const { changes, to, isShort } = this.scan(from, budgetBytes, { settled, until, told });
    // A cursor costs a hash: most that are woken by a change to their namespace are told nothing.
    const message =
      changes.length === 0
        ? undefined
        : this.message({ changes, revision: to, cursor: this.shortCursor(to, to === revision ? to : settled) });
    const made = { from, settled, until, told, budgetBytes, at: revision, policyEpoch, to, isShort, message };
    if (this.#kept.length >= KEPT_MESSAGES) this.#kept.shift();
    this.#kept.push(made);
    return made;
  }

  /**
   * What changed after `from`, each key once, as it is seen now; at least one change, then as many as the budget holds.
   * What a page has told as it is now is passed over. Who is `isAhead` of this node, by a cursor from another, may hold what was
   * never seen here, and is told that it is gone.
   */
  scan(from: number, budgetBytes: number, options: ScanOptions): Scan {
    const { pageOf, isAhead = false } = options;
    const changes: Change[] = [];
    const { replica } = this;
    let left = budgetBytes;
    let to = from;
    let isCut = false;
    let lookedCount = 0;
    const allowed = this.#allowedOnce();
    replica.changesSince(from, (stored, revision) => {
      if (lookedCount === MAX_LOOKED) return false;
      lookedCount += 1;
      if (!this.mayHoldNamespace(stored.namespace)) {
        to = revision;
        return true;
      }
      const place = pageOf?.(stored) ?? options;
      const isNews = revision > place.settled;
      // What is passed over now would not be known to have changed when the reader is told of its namespace.
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

  /** What a reader that stands there is told of a touched record's key; undefined when nothing. */
  #changeOf(stored: StoredRecord, revision: number, place: Standpoint, isAhead: boolean): Change | undefined {
    if (!this.mayHoldKey(stored)) return undefined;
    // Several origins: the key is told of at its newest touch only.
    if (stored.peers?.some((peer) => peer.revision > revision) === true) return undefined;
    const { filter } = this.options;
    const winner = this.replica.winner(stored);
    const isSeen = winner !== undefined && matches(filter, winner, this.node);
    const holding = this.replica.past.holding(revision, winner, place, filter, this.node);
    if (isSeen) {
      if (holding === "same") return undefined;
      const isNew = holding === "unknown" ? winner.bornRevision > place.settled : holding === "nothing";
      return { action: isNew ? ACTION.CREATE : ACTION.UPDATE, record: winner, revision };
    }
    const mayHold = holding === "unknown" ? this.#mayHold(stored, winner, place, isAhead) : holding !== "nothing";
    return mayHold ? { action: ACTION.REMOVE, record: stored, revision } : undefined;
  }

  /** Whether a reader, of which nobody knows what it was told last, may hold a key that it is not to hold now. */
  #mayHold(stored: StoredRecord, winner: StoredRecord | undefined, { settled, until }: Standpoint, isAhead: boolean): boolean {
    // Not where nothing that filters look at changed since: else the reader never had it (filter_seq). With several origins the
    // reader may have had another one's record. What was hidden already when the reader stood there is not told of either.
    if (stored.peers !== undefined || stored.filterRevision > settled) return true;
    if (winner === stored && until === Number.POSITIVE_INFINITY && this.isOutByVersion(stored)) return true;
    return winner !== stored && isAhead && this.replica.isAdmitted(stored);
  }

  /** Whether the key itself passes the filter: the part of it that holds for tombstones too. */
  mayHoldKey(stored: CatalogRecord): boolean {
    const { filter } = this.options;
    if (!coversNamespace(filter, stored.namespace)) return false;
    if (filter.names.length > 0 && !filter.names.includes(stored.name)) return false;
    return filter.kindMask === 0 || (filter.kindMask & (1 << stored.kind)) !== 0;
  }

  /**
   * Whether its version alone leaves a record out. A reader that was told of it at another node may hold it then, whatever
   * `filterSeq` says: nodes of before do not move it with a version.
   */
  isOutByVersion(record: CatalogRecord): boolean {
    const { filter } = this.options;
    return filter.versions !== undefined && whyNot(filter, record, this.node, viewHealth(record)) === "version_range";
  }

  /** Whether any key of the namespace can pass the filter. */
  mayHoldNamespace(namespace: string): boolean {
    return coversNamespace(this.options.filter, namespace);
  }

  /** About what a change takes in a message. */
  sizeOf(change: Change): number {
    const { record } = change;
    if (change.action === ACTION.REMOVE || this.options.isNamesOnly) return CHANGE_BYTES + record.key.length;
    return CHANGE_BYTES + record.sizeBytes;
  }

  /** Whether a change of policy is still to be told (semantics.md, Watch 5). */
  get isOwed(): boolean {
    return this.options.isOwedAny?.() === true;
  }

  /** Sums some of what the digest covers and nobody asked for before; returns whether `digest` has nothing left to sum. */
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

  /** Count and digest of what the reader should now hold; undefined when it did not ask. */
  digest(): ViewDigest | undefined {
    if (!this.options.withDigest) return undefined;
    const { digests, lookup } = this.replica;
    let count = 0;
    let digest = 0n;
    for (const namespace of coveredNamespaces(lookup.namespaces, this.options.filter)) {
      if (!this.options.allowed(namespace)) continue;
      if (!digests.isTracked(namespace)) this.#sum(namespace, Number.POSITIVE_INFINITY);
      const sum = digests.find(namespace);
      if (sum === undefined) continue;
      count += sum.count;
      digest = BigInt.asUintN(64, digest + sum.value);
    }
    return { count, digest };
  }

  message(parts: Partial<FeedMessage> & Pick<FeedMessage, "changes" | "revision">): FeedMessage {
    return { cursor: "", portableCursor: "", snapshot: SNAPSHOT.NONE, replaces: [], isBookmark: false, digest: undefined, ...parts };
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

function areSame(some: readonly Told[] = [], others: readonly Told[] = []): boolean {
  // HOT: nobody who keeps up has any.
  if (some === others || some.length !== others.length) return some === others;
  return some.every(({ from, to, at }, i) => from === others[i]?.from && to === others[i]?.to && at === others[i]?.at);
}

function placeOf(origin: Origin): CursorOrigin {
  const { nodeId, generation, life } = origin;
  const [seq, settled] = [toldSeq(origin), settledOf(origin)];
  return settled === seq ? { nodeId, generation, seq, life } : { nodeId, generation, seq, settled, life };
}

/** In the middle of a whole transfer more is held, and told of, than is known. */
function toldSeq({ unsettled, through, log }: Origin): number {
  return unsettled === undefined ? through : Math.max(through, log.lastOrder);
}

/** Whether the list, made from these origins in their order, still says what they are. */
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
