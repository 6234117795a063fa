/**
 * Sends every change of a replica to one copy: first the stored records, in slices and in order of their last change, and then each new change in the
 * order in which it is made. A copy that has applied all changes answers every reader exactly as the replica would. It also accepts each of the
 * replica's cursors, because it has the same revisions.
 */
import { encodeRecord } from "../record/codec.ts";
import { BODY, keyParts, type OriginStatus } from "../record/record.ts";
import { type Origin, StoredRecord } from "../record/stored-record.ts";
import { type PendingTouch, UNSURE } from "../replica/past-views.ts";
import type { Replica, ReplicaObserver } from "../replica/replica.ts";
import { type ChangeMessage, MessageBuffer, OP } from "./change-codec.ts";

/** The states of an origin, which the feed sends as indices of this list. */
export const LIVES: readonly OriginStatus[] = ["live", "orphaned", "hidden"];
/** Written instead of the origin of an intermediate view, if there was no such view or the view is unknown. */
export const NO_VIEW = -1;
export const UNSURE_VIEW = -2;

/** The fields of an origin as they were last sent to the copy. */
interface CopiedOrigin {
  readonly index: number;
  numbers: readonly number[];
  clusterId: string;
  region: string;
}

export interface ReplicaFeedOptions {
  readonly replica: Replica;
  /**
   * Whether a copy that is being made cannot be complete yet, even if it has all records: the policy has not been applied to some records yet, or
   * other components still have to write marks.
   */
  readonly isHeldUp: () => boolean;
  /** Called before anything is written. Marks that this callback writes precede everything else. */
  readonly onWrite?: () => void;
}

export class ReplicaFeed implements ReplicaObserver {
  readonly #replica: Replica;
  readonly #isHeldUp: () => boolean;
  readonly #onWrite: () => void;
  readonly #out = new MessageBuffer();
  readonly #origins = new Map<Origin, CopiedOrigin>();
  #originCount = 0;
  /** While the copy is being made: the copy has every record whose last touch is at or below this revision. Undefined after that. */
  #placedRevision: number | undefined = 0;

  /** Follows the replica until `close` is called. */
  constructor({ replica, isHeldUp, onWrite = () => {} }: ReplicaFeedOptions) {
    this.#replica = replica;
    this.#isHeldUp = isHeldUp;
    this.#onWrite = onWrite;
    this.#writeOrigin(replica.self);
    replica.followers.add(this);
  }

  close(): void {
    this.#replica.followers.delete(this);
  }

  /** Whether the messages that `take` has returned contain everything that the replica had at the time of the last call. */
  get isWhole(): boolean {
    return this.#placedRevision === undefined;
  }

  /** Approximate number of bytes that `take` would return. */
  get waitingBytes(): number {
    return this.#out.sizeBytes;
  }

  /**
   * Writes a mark into the feed, so that the copy performs an action at exactly this position. The mark consists of a number and of the numbers,
   * strings and values that belong to it.
   */
  mark(number: number): Pick<MessageBuffer, "numbers" | "text" | "value"> {
    this.#out.numbers(OP.MARK, number);
    return this.#out;
  }

  /**
   * Returns the operations since the last call. While the copy is being made, they contain at most about `maxCount` records. After the copy is
   * complete, it must receive all of them before any reader of the replica receives one of these changes.
   */
  take(maxCount: number): ChangeMessage {
    this.#onWrite();
    if (this.#placedRevision !== undefined) this.#placeSome(this.#placedRevision, maxCount);
    // A version vector can advance without a new record. A copy needs the vectors to build cursors that other nodes accept.
    for (const origin of this.#replica.origins.values()) this.#writeOrigin(origin);
    return this.#out.take();
  }

  #placeSome(after: number, maxCount: number): void {
    const replica = this.#replica;
    let count = 0;
    let placed = after;
    replica.changesSince(after, (stored, revision) => {
      if (count === maxCount) return false;
      count += 1;
      placed = revision;
      this.#place(stored);
      return true;
    });
    this.#placedRevision = placed;
    // If touches and removals were still pending on many records, only some of them would be copied.
    if (count === maxCount || replica.sweeps.isOwed || replica.isForgetting || this.#isHeldUp()) return;
    const { revision, collectedRevision, forgotten, localNamespaces } = replica;
    this.#out.numbers(OP.START, revision, collectedRevision, forgotten.size, localNamespaces.size);
    for (const text of [...forgotten.keys(), ...localNamespaces]) this.#out.text(text);
    this.#placedRevision = undefined;
  }

  #place(stored: StoredRecord): void {
    // A record of a forgotten origin is already being dropped, and will be gone before the copy is complete. Its origin may later become known again
    // as a new origin.
    if (this.#replica.origins.get(stored.origin.id) !== stored.origin) return;
    const { revision, bornRevision, filterRevision } = stored;
    const index = this.#writeOrigin(stored.origin);
    this.#out.numbers(OP.PLACE, index, revision, bornRevision, filterRevision);
    this.#record(stored);
  }

  // ---- ReplicaObserver ----
  installs(next: StoredRecord, any: StoredRecord | undefined, pending: PendingTouch): void {
    this.#onWrite();
    if (!this.isWhole) return;
    this.#writeOriginsOf(any);
    this.#out.numbers(OP.INSTALL, this.#writeOrigin(next.origin));
    this.#writePendingTouch(pending);
    this.#record(next);
  }

  supersedes(next: StoredRecord, any: StoredRecord | undefined): void {
    this.#onWrite();
    if (!this.isWhole) {
      // The new record is placed later, but the record that it replaces may already have been placed.
      if (any !== undefined && any.origin !== next.origin) this.drops(any);
      return;
    }
    this.#out.numbers(OP.SUPERSEDE, this.#writeOrigin(next.origin));
    this.#record(next);
  }

  touches(stored: StoredRecord, pending: PendingTouch): void {
    this.#changes(OP.TOUCH, stored, pending);
  }

  withdraws(stored: StoredRecord, pending: PendingTouch): void {
    this.#changes(OP.WITHDRAW, stored, pending);
  }

  drops(stored: StoredRecord): void {
    this.#onWrite();
    if (!this.#origins.has(stored.origin)) return;
    this.#out.numbers(OP.DROP, this.#writeOrigin(stored.origin));
    this.#out.text(stored.key);
  }

  passes(): void {
    this.#onWrite();
    if (this.isWhole) this.#out.numbers(OP.PASS);
  }

  forgets(origin: Origin): void {
    this.#onWrite();
    if (this.#origins.has(origin)) this.#out.numbers(OP.FORGET, this.#writeOrigin(origin));
  }

  restoresOrigin(id: string): void {
    this.#onWrite();
    this.#out.numbers(OP.READMIT);
    this.#out.text(id);
  }

  #changes(what: number, stored: StoredRecord, pending: PendingTouch): void {
    this.#onWrite();
    if (!this.isWhole) return;
    this.#writeOriginsOf(stored);
    this.#out.numbers(what, this.#writeOrigin(stored.origin));
    this.#writePendingTouch(pending);
    this.#out.text(stored.key);
  }

  #writePendingTouch({ before, since, between }: PendingTouch): void {
    const view = between instanceof StoredRecord ? this.#writeOrigin(between.origin) : between === UNSURE ? UNSURE_VIEW : NO_VIEW;
    this.#out.numbers(before === "renamed" ? 1 : 0, since, view);
  }

  #record(stored: StoredRecord): void {
    const { body, key } = stored;
    const { slab } = this.#replica;
    const statement = body === BODY.ENTRY ? { body, entry: slab.view(stored.at, stored.sizeBytes) } : { body, key: keyParts(key) };
    this.#out.bytes(encodeRecord(stored, statement));
  }

  /** Sends the origins of all records of a key, because the visible record depends on them. */
  #writeOriginsOf(any: StoredRecord | undefined): void {
    for (const { origin } of any?.peers ?? []) this.#writeOrigin(origin);
  }

  /** Sends the fields of an origin that have changed. Returns the origin's number in this feed; the number of the replica's own origin is 0. */
  #writeOrigin(origin: Origin): number {
    const { life, markedSeq, through, floor, unsettled, lacks, generation, nodeId, clusterId, region } = origin;
    let sent = this.#origins.get(origin);
    const lackCount = lacks?.count ?? 0;
    const numbers = [generation, LIVES.indexOf(life), markedSeq, through, floor, unsettled?.from ?? -1, unsettled?.until ?? -1, lackCount];
    if (sent !== undefined && sent.clusterId === clusterId && sent.region === region && numbers.every((n, i) => n === sent?.numbers[i]))
      return sent.index;
    sent ??= { index: this.#originCount++, numbers, clusterId, region };
    Object.assign(sent, { numbers, clusterId, region });
    this.#origins.set(origin, sent);
    this.#out.numbers(OP.ORIGIN, sent.index, ...numbers);
    for (const text of [nodeId, clusterId, region]) this.#out.text(text);
    return sent.index;
  }
}
