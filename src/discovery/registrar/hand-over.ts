/**
 * Hands the static entries of a leaving node over to another node of its cluster (semantics.md, Stop), because no client would register
 * them again. The leaving node offers its records. Another node registers them as its own records, with a stamp one step higher. The leaving node
 * ends its own records when all linked nodes have the new ones, because a node that receives the end first has no entry until the new one arrives.
 * Later writes and unregisters on other nodes have higher stamps than both.
 */

import { checksOf } from "../../catalog/entry/checks.ts";
import type { EntryStamper } from "../../catalog/entry/codec.ts";
import { isReservedNamespace } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { Leases } from "../../catalog/leases.ts";
import type { MaintenanceOverrides } from "../../catalog/record/maintenance.ts";
import { BODY, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { sameFilter } from "../../catalog/record/traits.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { endsBeforeHlc } from "../../catalog/replica/view.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import { MAX_STAMP } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { EntryRemovals } from "./entry-removals.ts";
import type { QuotaGate } from "./write-authorization.ts";

/** A node that may take over entries. */
export interface HandOverTarget {
  readonly nodeId: string;
  /** Number of offers that the node has rejected. */
  readonly refusals: number;
  /** Entries with checks are offered only to nodes that run checks. */
  readonly runsChecks: boolean;
}

export interface HandOverOffer {
  readonly nodeId: string;
  readonly seqs: readonly number[];
}

export interface HandOverParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly stamper: EntryStamper;
  readonly gate: QuotaGate;
  readonly entryRemovals: EntryRemovals;
  /** Grants a new static lease to a principal. Returns its id. */
  readonly grant: (principal: string, time: Time) => string;
  /** Attaches a key to a lease. `isLive`: whether this node already has a live record of the key. */
  readonly attach: (key: KeyText, leaseId: string, isLive: boolean) => void;
  /** Called when this node takes over an entry with these overrides. */
  readonly onOrders: (key: KeyText, orders: MaintenanceOverrides) => void;
}

/** A record of this node, as it was when it was queued. The stored record may have changed since then. */
interface OwnedEntry {
  readonly stored: StoredRecord;
  readonly seq: number;
  /**
   * The nodes to which the record may be offered. An entry with an unknown kind of check is not offered to any node, because this node cannot know
   * which nodes can run the check.
   */
  readonly offeredTo: "all" | "checking" | "none";
}

interface PendingOffer {
  readonly storedRecords: readonly OwnedEntry[];
  readonly refusals: number;
  readonly untilMonoMs: number;
}

type AtNode = ReturnType<EntryStamper["storedAtNode"]>;

/** Maximum number of records in one offer. */
const OFFER_COUNT = 1000;
/** Time after which a record is offered to another node if it has not been taken over. */
const OFFER_MS = 2000;
/** Time during which a node gets no offers after it rejected an offer or was too slow. */
const OFFER_PAUSE_MS = 500;
/**
 * If no node can be offered records for this long, the hand-over ends and the remaining records are kept on this node.
 */
const ALONE_MS = 500;

export class HandOver {
  readonly #parts: HandOverParts;
  /** Records to be offered, oldest first. */
  #queue: OwnedEntry[] = [];
  readonly #pendingOffers = new Map<string, PendingOffer>();
  /** The time until which each node gets no offers, in monotonic ms, by node id. */
  readonly #pausedUntilMs = new Map<string, number>();
  /**
   * Records that were offered to a node that neither accepted nor rejected them in time. If that node was only paused, it may still accept them.
   */
  readonly #unanswered = new Set<StoredRecord>();
  #servedMonoMs = 0;
  /** Whether all linked nodes have the records of an origin up to a seq. */
  arePeersAt: (originId: string, seq: number) => boolean = () => true;
  /** Number of records that other nodes have taken over. */
  takenCount = 0;
  /** Number of static records with scope LOCAL, which cannot be handed over and end with this node. */
  localEndedCount = 0;

  constructor(parts: HandOverParts) {
    this.#parts = parts;
  }

  /** Whether one of this node's records is handed over instead of being ended. Counts static records that cannot be handed over. */
  stays(stored: StoredRecord): boolean {
    if (!this.#isStatic(stored)) return false;
    if (stored.scope === SCOPE.LOCAL) this.localEndedCount += 1;
    return stored.scope !== SCOPE.LOCAL;
  }

  /** Whether this is a client's static record. The node's own entry is not handed over and ends with the node. */
  #isStatic({ key, namespace }: StoredRecord): boolean {
    const { leases } = this.#parts;
    if (isReservedNamespace(namespace)) return false;
    const lease = leases.find(leases.leaseOf(key) ?? "");
    return lease !== undefined && lease.ttlMs === undefined;
  }

  // ---- the leaving node ----

  /** Returns which of this node's entries must leave before the node is drained. `none`: the entry stays, because it ends with the node. */
  kindOf(stored: StoredRecord): "leased" | "none" | "static" {
    if (isReservedNamespace(stored.namespace)) return "none";
    if (!this.#isStatic(stored)) return "leased";
    return stored.scope === SCOPE.LOCAL ? "none" : "static";
  }

  /** Ends this node's leased entries that clients have registered on other nodes. Returns the number of the others. O(own records). */
  releaseMoved(): number {
    const { replica, entryRemovals } = this.#parts;
    let leftCount = 0;
    for (const stored of replica.self.log.list()) {
      if (stored.body !== BODY.ENTRY || replica.own(stored.key) !== stored || this.kindOf(stored) !== "leased") continue;
      if (this.#hasMoved(stored)) entryRemovals.handedOver(stored);
      else leftCount += 1;
    }
    return leftCount;
  }

  /** Returns this node's records that still have to be handed over. O(own records). */
  left(): readonly StoredRecord[] {
    const { replica } = this.#parts;
    const isLeft = (stored: StoredRecord) => stored.body === BODY.ENTRY && replica.own(stored.key) === stored;
    return replica.self.log.list().filter((stored) => isLeft(stored) && this.kindOf(stored) === "static");
  }

  /**
   * Returns how many of this node's records still have to be handed over, and how many of them another node may have accepted without this node's
   * knowledge. Cost: O(records of this node).
   */
  untaken(): { readonly leftCount: number; readonly unansweredCount: number } {
    const offered = new Set([...this.#pendingOffers.values()].flatMap(({ storedRecords }) => storedRecords.map(({ stored }) => stored)));
    const left = this.left();
    const unanswered = left.filter((stored) => offered.has(stored) || this.#unanswered.has(stored));
    return { leftCount: left.length, unansweredCount: unanswered.length };
  }

  begin(time: Time): void {
    this.#queue = this.left().map((stored) => ({ stored, seq: stored.seq, offeredTo: this.#offeredTo(stored) }));
    this.#servedMonoMs = time.monoMs;
  }

  #offeredTo({ mayHaveChecks, at, sizeBytes }: StoredRecord): OwnedEntry["offeredTo"] {
    const checks = mayHaveChecks ? checksOf(this.#parts.replica.slab.view(at, sizeBytes)).checks : [];
    if (checks.some(({ probe }) => probe.case === undefined)) return "none";
    return checks.length > 0 ? "checking" : "all";
  }

  /**
   * Stages the end of records that other nodes have taken over, and returns the next offers. `isOver`: whether no records remain, or no node can be
   * offered records.
   */
  step(handOverTargets: readonly HandOverTarget[], time: Time): { readonly offers: readonly HandOverOffer[]; readonly isOver: boolean } {
    for (const [nodeId, pending] of this.#pendingOffers) this.#settle(nodeId, pending, handOverTargets, time);
    const offers: HandOverOffer[] = [];
    for (const handOverTarget of handOverTargets) {
      const { nodeId, refusals } = handOverTarget;
      if (this.#pendingOffers.has(nodeId) || (this.#pausedUntilMs.get(nodeId) ?? 0) > time.monoMs) continue;
      const storedRecords = this.#takeWaiting(handOverTarget);
      if (storedRecords.length === 0) continue;
      this.#pendingOffers.set(nodeId, { storedRecords, refusals, untilMonoMs: time.monoMs + OFFER_MS });
      offers.push({ nodeId, seqs: storedRecords.map(({ seq }) => seq) });
    }
    if (handOverTargets.some((handOverTarget) => this.#pendingOffers.has(handOverTarget.nodeId) || this.#hasFor(handOverTarget)))
      this.#servedMonoMs = time.monoMs;
    const isDone = this.#queue.length === 0 && this.#pendingOffers.size === 0;
    return { offers, isOver: isDone || time.monoMs - this.#servedMonoMs >= ALONE_MS };
  }

  /** Whether a pending record may be offered to the node. */
  #hasFor(handOverTarget: HandOverTarget): boolean {
    return this.#queue.some((own) => mayOffer(own, handOverTarget));
  }

  /** Removes the next offer from the queue, with the oldest records first. */
  #takeWaiting(handOverTarget: HandOverTarget): readonly OwnedEntry[] {
    const taken: OwnedEntry[] = [];
    const left: OwnedEntry[] = [];
    for (const own of this.#queue) (taken.length < OFFER_COUNT && mayOffer(own, handOverTarget) ? taken : left).push(own);
    this.#queue = left;
    return taken;
  }

  #settle(nodeId: string, pending: PendingOffer, handOverTargets: readonly HandOverTarget[], time: Time): void {
    const { replica, entryRemovals } = this.#parts;
    const storedRecords = pending.storedRecords.filter(({ stored, seq }) => {
      // The record has ended in the meantime, for example because of an unregister.
      if (stored.body !== BODY.ENTRY || stored.seq !== seq || replica.own(stored.key) !== stored) return false;
      if (!this.#hasMoved(stored)) return true;
      entryRemovals.handedOver(stored);
      this.takenCount += 1;
      return false;
    });
    const handOverTarget = handOverTargets.find((each) => each.nodeId === nodeId);
    const hasRefused = handOverTarget !== undefined && handOverTarget.refusals > pending.refusals;
    if (storedRecords.length > 0 && handOverTarget !== undefined && !hasRefused && time.monoMs < pending.untilMonoMs) {
      this.#pendingOffers.set(nodeId, { ...pending, storedRecords });
      return;
    }
    this.#pendingOffers.delete(nodeId);
    if (storedRecords.length === 0) return;
    if (!hasRefused) for (const { stored } of storedRecords) this.#unanswered.add(stored);
    this.#pausedUntilMs.set(nodeId, time.monoMs + OFFER_PAUSE_MS);
    this.#queue.push(...storedRecords);
  }

  /** Whether a live node has a newer live record of the key, either taken over or registered again, which all linked nodes have. */
  #hasMoved(own: StoredRecord): boolean {
    const isNew = (stored: StoredRecord) => stored.origin !== own.origin && isEntryAbove(stored, own);
    return this.#parts.replica.records(own.key).some((stored) => isNew(stored) && this.arePeersAt(stored.origin.id, stored.seq));
  }

  // ---- the receiving node ----

  /**
   * Puts records offered by another node as this node's own, except records that have been written or unregistered since the offer. Returns their
   * number.
   */
  take({ nodeId, generation }: { readonly nodeId: string; readonly generation: number }, seqs: readonly number[], time: Time): number {
    const origin = this.#parts.replica.origins.get(`${nodeId}/${generation}`);
    const leaseIds = new Map<string, string>();
    let taken = 0;
    for (const seq of seqs) {
      let stored: StoredRecord | undefined;
      origin?.log.forEachSince(seq - 1, (found) => {
        if (found.seq === seq) stored = found;
        return false;
      });
      if (stored === undefined || !this.#mayTake(stored)) continue;
      const moved = this.#asOwn(stored);
      if (moved === undefined) continue;
      const leaseId = leaseIds.get(stored.principal) ?? this.#parts.grant(stored.principal, time);
      leaseIds.set(stored.principal, leaseId);
      this.#put(stored, moved, leaseId);
      taken += 1;
    }
    return taken;
  }

  /**
   * Returns the entry with this node as its origin. Times and fields of newer versions are kept. Returns undefined if this makes the entry too large.
   */
  #asOwn({ at, sizeBytes }: StoredRecord): AtNode | undefined {
    const { replica, stamper } = this.#parts;
    try {
      return stamper.storedAtNode(replica.slab.view(at, sizeBytes), replica.self.nodeId);
    } catch (error) {
      rethrowInvariant(error);
      return undefined;
    }
  }

  #put(stored: StoredRecord, { stamped, bytes }: AtNode, leaseId: string): void {
    const { replica, gate, attach, onOrders } = this.#parts;
    const own = replica.own(stored.key);
    const isLive = own !== undefined && own.body === BODY.ENTRY;
    attach(stored.key, leaseId, isLive);
    gate.stage(stored.key, stamped);
    const { principal, orders } = stored;
    const put = { ...stamped, principal, hlc: stored.hlc + 1, orders, bytes };
    if (orders !== undefined) onOrders(stored.key, orders);
    replica.stagePut({ ...put, isFilterChange: !isLive || !sameFilter(own, stored) });
  }

  #mayTake(offered: StoredRecord): boolean {
    const { replica } = this.#parts;
    if (offered.body !== BODY.ENTRY || offered.scope === SCOPE.LOCAL || isReservedNamespace(offered.namespace)) return false;
    // With a stamp one step higher, which is invalid, every node would reject the record.
    if (offered.hlc >= MAX_STAMP) return false;
    const isLater = (stored: StoredRecord) => isEntryAbove(stored, offered) || endsBeforeHlc(stored) > offered.hlc;
    const own = replica.own(offered.key);
    return !(own !== undefined && isLater(own)) && !replica.records(offered.key).some(isLater);
  }
}

function mayOffer({ offeredTo }: OwnedEntry, { runsChecks }: HandOverTarget): boolean {
  return offeredTo === "all" || (offeredTo === "checking" && runsChecks);
}

/**
 * Whether this is a permanent entry with a stamp above the given one. An entry of an unreachable node is not permanent, because it may be hidden and
 * forgotten.
 */
function isEntryAbove({ origin, body, hlc }: StoredRecord, than: StoredRecord): boolean {
  return body === BODY.ENTRY && origin.life === "live" && hlc > than.hlc;
}
