/**
 * Hands the static entries of a leaving node over to another node of its cluster (semantics.md, Stop), because no client would register
 * them again. The leaver offers its records. Another node puts them as its own, with the stamp one step higher. The leaver ends its own
 * when it sees those. Later writes and unregisters elsewhere have stamps above both.
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

/** A node that may take entries over. */
export interface HandOverTarget {
  readonly nodeId: string;
  /** Number of its refusals. */
  readonly refusals: number;
  /** Entries with checks are offered to such nodes only. */
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
  /** Grants a new static lease of a principal. Returns its id. */
  readonly grant: (principal: string, time: Time) => string;
  /** Puts a key under a lease. `isLive`: this node already has a live record of it. */
  readonly attach: (key: KeyText, leaseId: string, isLive: boolean) => void;
  /** An entry was taken over that goes by these orders. */
  readonly onOrders: (key: KeyText, orders: MaintenanceOverrides) => void;
}

/** A record as it was when it was looked at. Its stored record may have changed since. */
interface OwnedEntry {
  readonly stored: StoredRecord;
  readonly seq: number;
  /** Which nodes it may be offered to: with an unknown check to none, because this node cannot know which nodes run the check. */
  readonly offeredTo: "all" | "checking" | "none";
}

interface PendingOffer {
  readonly storedRecords: readonly OwnedEntry[];
  readonly refusals: number;
  readonly untilMonoMs: number;
}

type AtNode = ReturnType<EntryStamper["storedAtNode"]>;

/** Most records in one offer. */
const OFFER_COUNT = 1000;
/** Time after which an offered record that was not taken is offered to another node. */
const OFFER_MS = 2000;
/** Time for which a node is left alone after it refused or was too slow. */
const REST_MS = 500;
/** Time without any node to offer to, after which the remaining records stay. */
const ALONE_MS = 500;

export class HandOver {
  readonly #parts: HandOverParts;
  /** Records to be offered, oldest first. */
  #waiting: OwnedEntry[] = [];
  readonly #asked = new Map<string, PendingOffer>();
  /** Node id to the monotonic ms until which it is left alone. */
  readonly #resting = new Map<string, number>();
  /** Records that were offered to a node that neither took nor refused them in time. A node that stood still may take them later. */
  readonly #unanswered = new Set<StoredRecord>();
  #servedMonoMs = 0;
  /** Number of records that others have taken over. */
  takenCount = 0;
  /** Number of static records that no other node received, and that end with this node. */
  localEndedCount = 0;

  constructor(parts: HandOverParts) {
    this.#parts = parts;
  }

  /** Whether an own record is handed over instead of ended. Counts the static ones that no other node received. */
  stays(stored: StoredRecord): boolean {
    if (!this.#isStatic(stored)) return false;
    if (stored.scope === SCOPE.LOCAL) this.localEndedCount += 1;
    return stored.scope !== SCOPE.LOCAL;
  }

  /** A client's static record. The node's own entry ends with it. */
  #isStatic({ key, namespace }: StoredRecord): boolean {
    const { leases } = this.#parts;
    if (isReservedNamespace(namespace)) return false;
    const lease = leases.find(leases.leaseOf(key) ?? "");
    return lease !== undefined && lease.ttlMs === undefined;
  }

  // ---- the node that leaves ----

  /** Own records that are still to be handed over. O(own records). */
  left(): readonly StoredRecord[] {
    const { replica } = this.#parts;
    return replica.self.log
      .list()
      .filter(
        (stored) =>
          stored.body === BODY.ENTRY && replica.own(stored.key) === stored && stored.scope !== SCOPE.LOCAL && this.#isStatic(stored),
      );
  }

  /** How many own records are still to be handed over, and how many of them a node may have taken unseen. O(own records). */
  untaken(): { readonly leftCount: number; readonly unansweredCount: number } {
    const asked = new Set([...this.#asked.values()].flatMap(({ storedRecords }) => storedRecords.map(({ stored }) => stored)));
    const left = this.left();
    const unanswered = left.filter((stored) => asked.has(stored) || this.#unanswered.has(stored));
    return { leftCount: left.length, unansweredCount: unanswered.length };
  }

  begin(time: Time): void {
    this.#waiting = this.left().map((stored) => ({ stored, seq: stored.seq, offeredTo: this.#offeredTo(stored) }));
    this.#servedMonoMs = time.monoMs;
  }

  #offeredTo({ mayHaveChecks, at, sizeBytes }: StoredRecord): OwnedEntry["offeredTo"] {
    const checks = mayHaveChecks ? checksOf(this.#parts.replica.slab.view(at, sizeBytes)).checks : [];
    if (checks.some(({ probe }) => probe.case === undefined)) return "none";
    return checks.length > 0 ? "checking" : "all";
  }

  /**
   * Stages the end of the records that others have taken, and returns the next offers. `isOver`: no record is left, or no node to take it.
   */
  step(handOverTargets: readonly HandOverTarget[], time: Time): { readonly offers: readonly HandOverOffer[]; readonly isOver: boolean } {
    for (const [nodeId, asked] of this.#asked) this.#look(nodeId, asked, handOverTargets, time);
    const offers: HandOverOffer[] = [];
    for (const handOverTarget of handOverTargets) {
      const { nodeId, refusals } = handOverTarget;
      if (this.#asked.has(nodeId) || (this.#resting.get(nodeId) ?? 0) > time.monoMs) continue;
      const storedRecords = this.#takeWaiting(handOverTarget);
      if (storedRecords.length === 0) continue;
      this.#asked.set(nodeId, { storedRecords, refusals, untilMonoMs: time.monoMs + OFFER_MS });
      offers.push({ nodeId, seqs: storedRecords.map(({ seq }) => seq) });
    }
    if (handOverTargets.some((handOverTarget) => this.#asked.has(handOverTarget.nodeId) || this.#hasFor(handOverTarget)))
      this.#servedMonoMs = time.monoMs;
    const isDone = this.#waiting.length === 0 && this.#asked.size === 0;
    return { offers, isOver: isDone || time.monoMs - this.#servedMonoMs >= ALONE_MS };
  }

  /** Whether anything waits that the node may be offered. */
  #hasFor(handOverTarget: HandOverTarget): boolean {
    return this.#waiting.some((own) => mayOffer(own, handOverTarget));
  }

  /** The next offer, oldest first. */
  #takeWaiting(handOverTarget: HandOverTarget): readonly OwnedEntry[] {
    const taken: OwnedEntry[] = [];
    const left: OwnedEntry[] = [];
    for (const own of this.#waiting) (taken.length < OFFER_COUNT && mayOffer(own, handOverTarget) ? taken : left).push(own);
    this.#waiting = left;
    return taken;
  }

  #look(nodeId: string, asked: PendingOffer, handOverTargets: readonly HandOverTarget[], time: Time): void {
    const { replica, entryRemovals } = this.#parts;
    const storedRecords = asked.storedRecords.filter(({ stored, seq }) => {
      // The record ended meanwhile, because somebody unregistered it.
      if (stored.body !== BODY.ENTRY || stored.seq !== seq || replica.own(stored.key) !== stored) return false;
      if (!this.#hasSuccessor(stored)) return true;
      entryRemovals.handedOver(stored);
      this.takenCount += 1;
      return false;
    });
    const handOverTarget = handOverTargets.find((each) => each.nodeId === nodeId);
    const hasRefused = handOverTarget !== undefined && handOverTarget.refusals > asked.refusals;
    if (storedRecords.length > 0 && handOverTarget !== undefined && !hasRefused && time.monoMs < asked.untilMonoMs) {
      this.#asked.set(nodeId, { ...asked, storedRecords });
      return;
    }
    this.#asked.delete(nodeId);
    if (storedRecords.length === 0) return;
    if (!hasRefused) for (const { stored } of storedRecords) this.#unanswered.add(stored);
    this.#resting.set(nodeId, time.monoMs + REST_MS);
    this.#waiting.push(...storedRecords);
  }

  /** Whether a live node has a live record of the key above ours: taken over, or registered anew. */
  #hasSuccessor(own: StoredRecord): boolean {
    return this.#parts.replica.records(own.key).some((stored) => stored.origin !== own.origin && isEntryAbove(stored, own));
  }

  // ---- the node that takes ----

  /** Puts records that their node offers as own ones, except those that were written or unregistered since. Returns the number. */
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

  /** The entry with another node, but the same times and fields of newer versions. Undefined if it is too large under this node's name. */
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
    const said = { ...stamped, principal, hlc: stored.hlc + 1, orders, bytes };
    if (orders !== undefined) onOrders(stored.key, orders);
    replica.stagePut({ ...said, isFilterChange: !isLive || !sameFilter(own, stored) });
  }

  #mayTake(offered: StoredRecord): boolean {
    const { replica } = this.#parts;
    if (offered.body !== BODY.ENTRY || offered.scope === SCOPE.LOCAL || isReservedNamespace(offered.namespace)) return false;
    // One step more would not be a valid stamp, so every node would refuse it.
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
 * Whether this is a lasting entry above the given one. An entry of a node that is gone does not count, because it may be hidden and
 * forgotten later.
 */
function isEntryAbove({ origin, body, hlc }: StoredRecord, than: StoredRecord): boolean {
  return body === BODY.ENTRY && origin.life === "live" && hlc > than.hlc;
}
