/**
 * Puts entries of this node: stamped entries become staged records, and their keys get leases. The undo log notes how to undo this if the
 * batch is refused.
 */

import { type Checked, type CheckState, carriedStates, checksOf, reportedOf } from "../../catalog/entry/checks.ts";
import { type EntryStamper, finishEntry, type StampedEntry, withChecks } from "../../catalog/entry/codec.ts";
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
    const put = stamped.hasChecks && isLive && own.mayHaveChecks ? this.#carried(stamped, own) : stamped;
    if (isOwn && this.#replica.slab.equals(own.at, own.contentBytes, put.content)) return;
    this.#stage(put, isLive ? own : undefined, caller.principal, put.load, time);
  }

  /** Puts the entry again, with another reported health if one is given, and with a current stamp. */
  again(key: KeyText, time: Time, health?: Health): void {
    this.#again(key, time, (stored, own) => {
      const checked = this.#checkedOf(own);
      if (checked !== undefined) return withChecks(stored, health ?? reportedOf(checked), checked.checkStates);
      return health === undefined || health === own.health ? stored : this.#parts.stamper.entryWithHealth(this.#bytesOf(own), health);
    });
  }

  /** Puts an entry with checks again, with what these have found: a state for each check. */
  found(key: KeyText, states: readonly CheckState[], time: Time): void {
    this.#again(key, time, (stored, own) => {
      const checked = this.#checkedOf(own);
      return checked?.checks.length === states.length ? withChecks(stored, reportedOf(checked), states) : stored;
    });
  }

  /** The health that the client of an own record last reported. Its checks have no part in it. */
  reported(own: StoredRecord): Health {
    const checked = this.#checkedOf(own);
    return checked === undefined ? own.health : reportedOf(checked);
  }

  #again(key: KeyText, time: Time, change: (stored: StampedEntry, own: StoredRecord) => StampedEntry): void {
    const { stamper, loads } = this.#parts;
    const own = this.#replica.own(key);
    if (own === undefined || own.body !== BODY.ENTRY) return;
    const stored = stamper.entryOfStored(this.#bytesOf(own));
    this.#stage(change(stored, own), own, own.principal, loads.of(key) ?? stored.load, time);
  }

  /** A client's entry with what its checks have found before, as far as they are the same. A registration must not hide that a check fails. */
  #carried(stamped: StampedEntry, own: StoredRecord): StampedEntry {
    const before = this.#checkedOf(own);
    return before === undefined ? stamped : withChecks(stamped, stamped.health, carriedStates(checksOf(stamped.content), before));
  }

  /** Undefined for a record without checks. HOT: mostly it only reads a bit. */
  #checkedOf(own: StoredRecord): Checked | undefined {
    if (!own.mayHaveChecks) return undefined;
    const checked = checksOf(this.#bytesOf(own));
    return checked.checks.length === 0 ? undefined : checked;
  }

  #bytesOf(own: StoredRecord): Uint8Array {
    return this.#replica.slab.view(own.at, own.sizeBytes);
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
