/**
 * Puts entries of this node: stamped entries become staged records, and their keys get leases. The undo log notes how to undo this if the
 * batch is refused.
 */

import { type CheckState, carriedStates, checksOf, reportedOf } from "../../catalog/entry/checks.ts";
import { type EntryStamper, finishEntry, type StampedEntry, withCondition } from "../../catalog/entry/codec.ts";
import type { Condition } from "../../catalog/entry/edit.ts";
import { readRegisteredMs } from "../../catalog/entry/tail.ts";
import type { LoadView } from "../../catalog/entry/view.ts";
import type { Leases } from "../../catalog/leases.ts";
import { lastingOrder, type MaintenanceOrders, ordersFor, ordersOf } from "../../catalog/record/maintenance.ts";
import { BODY, HEALTH, type Health, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { sameFilter } from "../../catalog/record/traits.ts";
import { newestOrders } from "../../catalog/replica/orders.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { compareForView } from "../../catalog/replica/view.ts";
import type { Time } from "../../lib/machine.ts";
import { timeOf } from "../../lib/protowire.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { EndingParts } from "./endings.ts";
import { newestHlc } from "./endings.ts";

export interface PutParts extends Pick<EndingParts, "gate" | "hlc" | "leases" | "loads" | "replica" | "undo"> {
  readonly stamper: EntryStamper;
  /** A lease has lost its last key to another lease. */
  readonly onEmptied: (leaseId: string) => void;
  /** An own entry goes by these orders from this time on. */
  readonly onOrders: (key: KeyText, orders: MaintenanceOrders, time: Time) => void;
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
    const isOwn = isLive && own.principal === caller.principal && this.#isSeen(own);
    this.attach(stamped.key, lease, isLive);
    const { principal } = caller;
    const orders = ordersFor(principal, newestOrders(this.#replica, stamped.key));
    const put = this.#asShown(stamped, isLive ? own : undefined, shownOf(orders, principal, time));
    const isSame = isOwn && own.orders === orders && this.#replica.slab.equals(own.at, own.contentBytes, put.content);
    if (!isSame) this.#stage(put, { before: isLive ? own : undefined, principal, load: put.load, orders }, time);
  }

  /**
   * Whether an own record is what readers see, or what they will see when it is on disk. A staged one that keeps its stamp may be behind a record of another
   * node.
   */
  #isSeen(own: StoredRecord): boolean {
    if (own.revision !== 0) return this.#replica.view(own.key) === own;
    return this.#replica.records(own.key).every((record) => record.origin === own.origin || compareForView(own, record) < 0);
  }

  /** Puts the entry again as it is, with a current stamp: its client renewed it although it was hidden. */
  again(key: KeyText, time: Time): void {
    this.#again(key, time, { change: unchanged, keepsStamp: false });
  }

  // Of what follows nothing registers the entry, so the record keeps its stamp. The key may have been registered at another node since, of which this node
  // may not have heard, and a later stamp would take it back.

  /** Puts the entry again with the load that its client reported, and with its health if that is given. */
  reported(key: KeyText, health: Health | undefined, time: Time): void {
    const change = (own: StoredRecord) => (health === undefined ? undefined : { ...this.#saidOf(own), reported: health });
    this.#again(key, time, { change });
  }

  /** Puts the entry again by these orders, or by the newest that are known about its key, and by the time. */
  reordered(key: KeyText, time: Time, orders?: MaintenanceOrders): void {
    this.#again(key, time, { change: unchanged, orders });
  }

  /** Puts an entry with checks again, with what these have found: a state for each check. */
  found(key: KeyText, states: readonly CheckState[], time: Time): void {
    const change = (own: StoredRecord) => {
      const said = this.#saidOf(own);
      return said.checkCount === states.length ? { ...said, states } : undefined;
    };
    this.#again(key, time, { change });
  }

  /** The health that the client of an own record last reported. Neither its checks nor an order have a part in it. */
  healthOf(own: StoredRecord): Health {
    return this.#saidOf(own).reported;
  }

  #again(key: KeyText, time: Time, { change, orders: given, keepsStamp = true }: Again): void {
    const { stamper, loads } = this.#parts;
    const own = this.#replica.own(key);
    if (own === undefined || own.body !== BODY.ENTRY) return;
    const stored = stamper.entryOfStored(this.#bytesOf(own));
    const orders = given ?? ordersOf(own, newestOrders(this.#replica, key));
    const changed = change(own);
    const said =
      changed === undefined && own.orders === undefined && orders === undefined
        ? stored
        : withCondition(stored, { ...(changed ?? this.#saidOf(own)), maintenance: shownOf(orders, own.principal, time) });
    this.#stage(said, { before: own, principal: own.principal, load: loads.of(key) ?? stored.load, orders, keepsStamp }, time);
  }

  /**
   * A client's entry as readers see it: with what its checks have found before, as far as they are the same, and in the maintenance that is ordered
   * for its key. A registration must hide neither.
   */
  #asShown(stamped: StampedEntry, own: StoredRecord | undefined, maintenance: Condition["maintenance"]): StampedEntry {
    const before = stamped.hasChecks && own?.mayHaveChecks === true ? checksOf(this.#bytesOf(own)) : undefined;
    const hasStates = before !== undefined && before.checks.length > 0;
    if (!hasStates && maintenance === undefined) return stamped;
    const states = hasStates ? carriedStates(checksOf(stamped.content), before) : [];
    return withCondition(stamped, { reported: stamped.health, states, maintenance });
  }

  /** What an own record says of its entry beside its maintenance. HOT: mostly it only reads two bits. */
  #saidOf(own: StoredRecord): Omit<Condition, "maintenance"> & { readonly checkCount: number } {
    if (!own.mayHaveChecks && own.orders === undefined && own.health !== HEALTH.MAINTENANCE)
      return { reported: own.health, states: [], checkCount: 0 };
    const checked = checksOf(this.#bytesOf(own));
    return { reported: reportedOf(checked), states: checked.checkStates, checkCount: checked.checks.length };
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

  #stage(stamped: StampedEntry, { before, principal, load, orders, keepsStamp = false }: Put, time: Time): void {
    const { gate, hlc, onOrders } = this.#parts;
    const { slab } = this.#replica;
    const sinceMs = before === undefined ? time.wallMs : readRegisteredMs(slab.view(before.at, before.sizeBytes), before.contentBytes);
    const bytes = finishEntry(stamped.content, { registeredWallMs: sinceMs, updatedWallMs: time.wallMs, load });
    gate.stage(stamped.key, stamped);
    if (orders !== undefined) onOrders(stamped.key, orders, time);
    this.#replica.stagePut({
      key: stamped.key,
      namespace: stamped.namespace,
      name: stamped.name,
      kind: stamped.kind,
      hlc: keepsStamp && before !== undefined ? before.hlc : hlc.stampAbove(newestHlc(this.#replica, stamped.key), time.wallMs),
      scope: stamped.scope,
      health: stamped.health,
      traits: stamped.traits,
      principal,
      hasAliases: stamped.hasAliases,
      hasChecks: stamped.hasChecks,
      orders,
      contentBytes: stamped.content.length,
      bytes,
      isFilterChange: before === undefined || !sameFilter(before, stamped),
    });
  }
}

/** What a put says beside the entry. */
interface Put {
  /** The live own record of the key. */
  readonly before: StoredRecord | undefined;
  readonly principal: string;
  readonly load: LoadView | undefined;
  readonly orders: MaintenanceOrders | undefined;
  /** The stamp is that of the record before. */
  readonly keepsStamp?: boolean;
}

/** How an entry is put again. */
interface Again {
  /** What is said of the entry from now on, if that is something else than before. */
  readonly change: (own: StoredRecord) => Omit<Condition, "maintenance"> | undefined;
  /** By these orders; otherwise by the newest that are known. */
  readonly orders?: MaintenanceOrders | undefined;
  /** Not set means that it does. */
  readonly keepsStamp?: boolean;
}

function unchanged(): undefined {
  return undefined;
}

/** The maintenance that an entry shows. Undefined when none lasts. */
function shownOf(orders: MaintenanceOrders | undefined, principal: string, { wallMs }: Time): Condition["maintenance"] {
  const order = lastingOrder(orders, principal, wallMs);
  if (order === undefined) return undefined;
  return { reason: order.reason, until: order.untilMs === 0 ? undefined : timeOf(order.untilMs) };
}
