/** Implements PeerService.Watch: streams of members in the format of watches (watch.proto), and the log of changes that all streams read. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { DiscoveryDelta_Action as Action } from "../../../gen/waymark/catalog/v1/delta_pb.js";
import type { Peer } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import { PeerDeltaSchema, PeerServiceWatchResponseSchema } from "../../../gen/waymark/control/v1/peer_pb.js";
import { shortCursorText } from "../../catalog/watch/cursor.ts";
import { factsBytes } from "../../lib/bounds.ts";
import type { Time } from "../../lib/machine.ts";
import type { StreamSource } from "../service.ts";
import type { MemberRow } from "./members.ts";

/** Largest number of changes in the log. A reader that is further behind gets a snapshot. */
const MAX_CHANGES = 10_000;
/** Approximate size of one message in bytes. */
const MESSAGE_BYTES = 16 * 1024 - 512;
/** Approximate size of a delta in bytes, without the roles and labels of its member. */
const DELTA_BYTES = 400;
/** Slightly longer than the time between two ticks, so that bookmarks are never late. */
const BOOKMARK_SLACK_MS = 250;

/** Largest number of messages that are kept for other streams. */
const MAX_SHARED = 64;
/** Streams share only messages that are at most this many ms old, because a message contains times. */
const SHARED_MS = 1000;

interface MemberChange {
  readonly nodeId: string;
  readonly revision: number;
}

/** A log of member changes, numbered in order. Forgetting a member is also a change. */
export class MemberChanges {
  readonly #log: string[] = [];
  /** Newest change to each member in the log. */
  readonly #changedAt = new Map<string, number>();
  readonly #wakes = new Set<() => void>();
  readonly #shared = new Map<string, Uint8Array>();
  /** Revision before the first change in the log. The member table at startup is revision 1. */
  #floor = 1;

  get revision(): number {
    return this.#floor + this.#log.length;
  }

  changed(nodeId: string): void {
    this.#log.push(nodeId);
    this.#changedAt.set(nodeId, this.revision);
    // Half of the log is dropped at a time, so that the average cost per change is constant.
    if (this.#log.length > MAX_CHANGES) this.#dropOldest(MAX_CHANGES / 2);
    for (const wake of this.#wakes) wake();
  }

  /**
   * Returns the revision of a member's last change. If the log no longer contains the change, returns the revision before the log, which is not above
   * any valid cursor.
   */
  revisionOf(nodeId: string): number {
    return this.#changedAt.get(nodeId) ?? this.#floor;
  }

  /**
   * Returns the members that changed after a revision, each only once, in the order of their last changes. Undefined if the log does not reach back
   * to this revision.
   */
  since(revision: number): readonly MemberChange[] | undefined {
    if (revision < this.#floor || revision > this.revision) return undefined;
    const changes: MemberChange[] = [];
    for (let at = revision + 1; at <= this.revision; at++) {
      const nodeId = this.#log[at - this.#floor - 1] ?? "";
      if (this.#changedAt.get(nodeId) === at) changes.push({ nodeId, revision: at });
    }
    return changes;
  }

  /** Returns the message with this key that another stream has just made, or makes it. */
  shared(key: string, { monoMs }: Time, make: () => Uint8Array): Uint8Array {
    const fullKey = `${Math.floor(monoMs / SHARED_MS)} ${key}`;
    const known = this.#shared.get(fullKey);
    if (known !== undefined) return known;
    if (this.#shared.size >= MAX_SHARED) this.#shared.clear();
    const message = make();
    this.#shared.set(fullKey, message);
    return message;
  }

  /** Calls `wake` at each change until the returned function is called. */
  onChange(wake: () => void): () => void {
    this.#wakes.add(wake);
    return () => this.#wakes.delete(wake);
  }

  #dropOldest(count: number): void {
    this.#log.splice(0, count);
    this.#floor += count;
    for (const [nodeId, revision] of this.#changedAt) if (revision <= this.#floor) this.#changedAt.delete(nodeId);
  }
}

/** The members that match a stream's filter. */
export interface WatchedMembers {
  ids(time: Time): readonly string[];
  /** Returns a member. Undefined if the member is forgotten or does not match. */
  find(nodeId: string, time: Time): MemberRow | undefined;
  message(row: MemberRow): Peer;
}

/** A change of a member, as a stream reports it. Without a row, the reader removes the member. */
interface ReportedChange extends MemberChange {
  readonly action: Action;
  readonly row: MemberRow | undefined;
}

export interface PeerWatchParts {
  readonly changes: MemberChanges;
  readonly members: WatchedMembers;
  /** Identifies the process instance of the node and the filter. A cursor is valid only for the same holder. */
  readonly holder: string;
  /** Revision after which the stream resumes. Undefined if the stream starts with a snapshot. */
  readonly from: number | undefined;
  readonly servedBy: string;
  readonly bookmarkIntervalMs: number;
  /** Calls `wake` several times a second until the returned function is called, because bookmarks become due over time. */
  readonly tick: (wake: () => void) => () => void;
  readonly onClose: () => void;
}

type PeerWatchPhase =
  | { readonly kind: "resuming"; readonly from: number }
  | { readonly kind: "beginning" }
  | { readonly kind: "listing"; readonly ids: readonly string[]; readonly revision: number; nextIndex: number }
  | { readonly kind: "live" };

type Message = MessageInitShape<typeof PeerServiceWatchResponseSchema>;

/** One stream. The stream stores the ids of the members that the reader has, and a revision, but no messages. */
export class PeerWatch implements StreamSource {
  readonly endsAtDrain = true;
  readonly #parts: PeerWatchParts;
  #held = new Set<string>();
  #phase: PeerWatchPhase;
  /** The reader has received all changes up to this revision. */
  #revision = 0;
  /** After a stream resumes, it is unknown whether the reader has the members that changed up to this revision. */
  #unsureRevision = 0;
  #bookmarkDueMonoMs = Number.NEGATIVE_INFINITY;
  #undo: readonly (() => void)[] = [];

  constructor(parts: PeerWatchParts) {
    this.#parts = parts;
    this.#phase = parts.from === undefined ? { kind: "beginning" } : { kind: "resuming", from: parts.from };
  }

  attach(wake: () => void): void {
    this.#undo = [this.#parts.changes.onChange(wake), this.#parts.tick(wake)];
  }

  pull(time: Time): Uint8Array | undefined {
    const phase = this.#phase;
    switch (phase.kind) {
      case "resuming":
        this.#resume(phase.from, time);
        return this.pull(time);
      case "beginning":
        return this.#begin(time);
      case "listing":
        return this.#list(phase, time);
      case "live":
        return this.#live(time);
    }
  }

  close(): void {
    for (const undo of this.#undo) undo();
    this.#held = new Set();
    this.#parts.onClose();
  }

  #resume(from: number, time: Time): void {
    const { changes, members } = this.#parts;
    if (changes.since(from) === undefined) {
      this.#phase = { kind: "beginning" };
      return;
    }
    for (const nodeId of members.ids(time)) if (changes.revisionOf(nodeId) <= from) this.#held.add(nodeId);
    this.#revision = from;
    this.#unsureRevision = changes.revision;
    this.#phase = { kind: "live" };
  }

  #begin(time: Time): Uint8Array {
    const { changes, members } = this.#parts;
    this.#held = new Set();
    this.#phase = { kind: "listing", ids: members.ids(time), revision: changes.revision, nextIndex: 0 };
    return encoded({ snapshot: Snapshot.BEGIN, revision: BigInt(changes.revision), ...this.#origin() });
  }

  /** Returns the next page, or END after the last page. Changes that occur during the snapshot are sent after END. */
  #list(listing: PeerWatchPhase & { kind: "listing" }, time: Time): Uint8Array {
    const { changes, members } = this.#parts;
    const { ids, revision } = listing;
    const page = new DeltaPage();
    while (!page.isFull && listing.nextIndex < ids.length) {
      const nodeId = ids[listing.nextIndex++] ?? "";
      const row = members.find(nodeId, time);
      if (row === undefined) continue;
      this.#held.add(nodeId);
      page.put({ action: Action.CREATE, nodeId, row, revision: Math.min(revision, changes.revisionOf(nodeId)) });
    }
    if (page.deltas.length > 0) return this.#shared(page, { snapshot: Snapshot.CONTINUE, revision: BigInt(revision) }, time);
    this.#phase = { kind: "live" };
    this.#revision = revision;
    this.#unsureRevision = 0;
    this.#bookmarkDueMonoMs = this.#nextDue(time);
    return encoded({ snapshot: Snapshot.END, ...this.#place(), ...this.#origin() });
  }

  #live(time: Time): Uint8Array | undefined {
    const pending = this.#parts.changes.since(this.#revision);
    if (pending === undefined) return this.#begin(time);
    const page = new DeltaPage();
    for (const change of pending) {
      if (page.isFull) break;
      const row = this.#parts.members.find(change.nodeId, time);
      const action = this.#actionOf(change, row !== undefined);
      if (action !== undefined) page.put({ ...change, action, row });
      this.#revision = change.revision;
    }
    if (page.deltas.length > 0) {
      const { revision, cursor } = this.#place();
      return this.#shared(page, { revision, cursor }, time);
    }
    if (time.monoMs < this.#bookmarkDueMonoMs) return undefined;
    this.#bookmarkDueMonoMs = this.#nextDue(time);
    return encoded({ bookmark: true, ...this.#place(), ...this.#origin() });
  }

  /** Returns the action of a change for the reader. Undefined if the reader needs no delta. */
  #actionOf({ nodeId, revision }: MemberChange, isMatch: boolean): Action | undefined {
    if (!isMatch) return this.#held.delete(nodeId) || revision <= this.#unsureRevision ? Action.REMOVE : undefined;
    const action = this.#held.has(nodeId) ? Action.UPDATE : Action.CREATE;
    this.#held.add(nodeId);
    return action;
  }

  /** Encodes a message with deltas, unless another stream with the same filter has just sent the same message. */
  #shared(page: DeltaPage, message: Message, time: Time): Uint8Array {
    const { changes, holder, members } = this.#parts;
    const reported = page.deltas.map(({ action, nodeId, revision }) => `${action} ${nodeId} ${revision}`);
    const key = [holder, message.snapshot, message.revision, ...reported].join();
    return changes.shared(key, time, () => {
      const sentAt = timestampFromMs(time.wallMs);
      const deltas = page.deltas.map(({ action, nodeId, revision, row }) =>
        create(PeerDeltaSchema, {
          action,
          revision: BigInt(revision),
          sentAt,
          payload: row === undefined ? { case: "removed", value: nodeId } : { case: "peer", value: members.message(row) },
        }),
      );
      return encoded({ ...message, deltas });
    });
  }

  /** Returns the reader's revision and cursor, and the number of members that the reader should have at that revision. */
  #place() {
    const cursor = shortCursorText(this.#parts.holder, this.#revision);
    return { revision: BigInt(this.#revision), cursor, count: BigInt(this.#held.size) };
  }

  /** Returns the source and the age of the data. The age is 0, because this node itself is the source. */
  #origin() {
    return { servedBy: this.#parts.servedBy, age: durationFromMs(0) };
  }

  #nextDue({ monoMs }: Time): number {
    return monoMs + this.#parts.bookmarkIntervalMs - BOOKMARK_SLACK_MS;
  }
}

function encoded(message: Message): Uint8Array {
  return toBinary(PeerServiceWatchResponseSchema, create(PeerServiceWatchResponseSchema, message));
}

/** The deltas in one message. */
class DeltaPage {
  readonly deltas: ReportedChange[] = [];
  #bytes = 0;

  get isFull(): boolean {
    return this.#bytes >= MESSAGE_BYTES;
  }

  put(delta: ReportedChange): void {
    const { row } = delta;
    this.deltas.push(delta);
    this.#bytes += DELTA_BYTES + (row === undefined ? 0 : factsBytes(row.roles, row.labels));
  }
}
