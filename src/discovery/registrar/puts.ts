/**
 * Puts entries of this node: stamped entries become staged records, and their keys get leases. The undo log notes how to undo this if the
 * batch is refused.
 */

import { type EntryStamper, finishEntry, type StampedEntry } from "../../catalog/entry/codec.ts";
import { readRegisteredMs } from "../../catalog/entry/tail.ts";
import type { LoadView } from "../../catalog/entry/view.ts";
import type { Leases } from "../../catalog/leases.ts";
import { BODY, type Health, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { sameFilter } from "../../catalog/record/traits.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { newestHlc } from "./endings.ts";
import type { Loads } from "./loads.ts";
import type { QuotaGate } from "./quota-gate.ts";
import type { UndoLog } from "./undo-log.ts";

export interface PutParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly stamper: EntryStamper;
  readonly hlc: Hlc;
  readonly undo: UndoLog;
  readonly loads: Loads;
  readonly gate: QuotaGate;
  /** A lease has lost its last key to another lease. */
  readonly onEmptied: (leaseId: string) => void;
}

/** The lease of a put. */
export interface HeldUnder {
  readonly id: string;
  /** The same call granted the lease, so undoing that takes its keys from it too. */
  readonly isNew: boolean;
}

export class Puts {
  readonly #parts: PutParts;
  readonly #replica: Replica;
  readonly #leases: Leases;
  /** Keys whose row must be written again although their record is unchanged: they moved to another lease. */
  readonly moved = new Set<KeyText>();

  constructor(parts: PutParts) {
    this.#parts = parts;
    this.#replica = parts.replica;
    this.#leases = parts.leases;
  }

  /** Puts a client's entry under a lease. The content that readers already see makes no new record. */
  put(caller: Caller, stamped: StampedEntry, lease: HeldUnder, time: Time): void {
    const own = this.#replica.own(stamped.key);
    const isLive = own !== undefined && own.body === BODY.ENTRY;
    const isOwn = isLive && own.principal === caller.principal && (own.revision === 0 || this.#replica.view(stamped.key) === own);
    this.attach(stamped.key, lease, isLive);
    if (isOwn && this.#replica.slab.equals(own.at, own.contentBytes, stamped.content)) return;
    this.#stage(stamped, isLive ? own : undefined, caller.principal, stamped.load, time);
  }

  /** Puts the entry again, with another health if one is given, and with a current stamp. */
  again(key: KeyText, time: Time, health?: Health): void {
    const { stamper, loads } = this.#parts;
    const own = this.#replica.own(key);
    if (own === undefined) return;
    const bytes = this.#replica.slab.view(own.at, own.sizeBytes);
    const stored = stamper.entryOfStored(bytes);
    const stamped = health === undefined || health === own.health ? stored : stamper.entryWithHealth(bytes, health);
    this.#stage(stamped, own, own.principal, loads.of(key) ?? stored.load, time);
  }

  /** Moves a key to a lease. `isLive`: it has an entry, whose row names the lease. */
  attach(key: KeyText, { id, isNew }: HeldUnder, isLive: boolean): void {
    if (this.#leases.leaseOf(key) === id) return;
    const { undo, onEmptied } = this.#parts;
    const old = this.#leases.attach(id, key);
    if (old === undefined) {
      if (!isNew) undo.push(() => this.#leases.detach(key));
      return;
    }
    undo.push(() => this.#leases.has(old) && this.#leases.attach(old, key));
    if (isLive) this.moved.add(key);
    // A lease that lost its last key to a new lease ends, and its next renewal says so.
    if (this.#leases.find(old)?.keyCount === 0) onEmptied(old);
  }

  #stage(stamped: StampedEntry, before: StoredRecord | undefined, principal: string, load: LoadView | undefined, time: Time): void {
    const { gate, hlc } = this.#parts;
    const { slab } = this.#replica;
    const sinceMs = before === undefined ? time.wallMs : readRegisteredMs(slab.view(before.at, before.sizeBytes), before.contentBytes);
    const bytes = finishEntry(stamped.content, { registeredWallMs: sinceMs, updatedWallMs: time.wallMs, load });
    gate.stage(stamped.key, stamped);
    this.#replica.stagePut({
      key: stamped.key,
      namespace: stamped.namespace,
      name: stamped.name,
      kind: stamped.kind,
      hlc: hlc.stampAbove(newestHlc(this.#replica, stamped.key), time.wallMs),
      scope: stamped.scope,
      health: stamped.health,
      traits: stamped.traits,
      principal,
      hasAliases: stamped.hasAliases,
      hasChecks: stamped.hasChecks,
      contentBytes: stamped.content.length,
      bytes,
      isFilterChange: before === undefined || !sameFilter(before, stamped),
    });
  }
}
