/**
 * The maintenance of own entries (semantics.md, Maintenance): takes orders, takes up those that records of other nodes carry, and ends what is over. An
 * order is part of the key's newest record here, be it an entry or a tombstone.
 */
import { isInForce, isNewerOrder, type MaintenanceOrder } from "../../catalog/record/maintenance.ts";
import { BODY, HEALTH, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { newestOrder } from "../../catalog/replica/orders.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { type Reason, WaymarkError } from "../../lib/errors.ts";
import type { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { Puts } from "./puts.ts";
import type { UndoLog } from "./undo-log.ts";

/** What somebody orders, and for whose entries. */
export interface OrderedMaintenance {
  readonly isOn: boolean;
  /** At most 256 bytes of UTF-8. Empty for an end. */
  readonly reason: string;
  /** As in `MaintenanceOrder`. 0 for an end. */
  readonly untilMs: number;
  /** Only entries of this principal. Undefined for an operator, who may order it for all. */
  readonly principal: string | undefined;
}

/** What became of an order for one key. */
export type OrderOutcome =
  | { readonly kind: "changed" }
  /** It was so before. */
  | { readonly kind: "unchanged" }
  | { readonly kind: "refused"; readonly reason: Reason; readonly detail: string };

export interface MaintenanceParts {
  readonly replica: Replica;
  readonly hlc: Hlc;
  readonly undo: UndoLog;
  readonly puts: Pick<Puts, "again" | "reordered">;
}

const CHANGED: OrderOutcome = { kind: "changed" };
const UNCHANGED: OrderOutcome = { kind: "unchanged" };

/** Maintenances that a tick ends, so that many which end at once do not stop the node. */
const TICK_COUNT = 1000;

export class Maintenance {
  readonly #parts: MaintenanceParts;
  /** When the maintenance of an own entry ends by itself, in ms of wall clock. A key may be here whose order was replaced meanwhile. */
  readonly #ends = new Map<KeyText, number>();
  #nextEndMs = Number.POSITIVE_INFINITY;
  /** Keys for which a newer order may be known than their own records carry. */
  readonly #adopting = new Set<KeyText>();

  constructor(parts: MaintenanceParts) {
    this.#parts = parts;
  }

  /** An own entry goes by this order, which may be staged. */
  note(key: KeyText, { isOn, untilMs }: MaintenanceOrder): void {
    if (!isOn || untilMs === 0) return;
    this.#ends.set(key, untilMs);
    this.#nextEndMs = Math.min(this.#nextEndMs, untilMs);
  }

  /** To be called when the rows of the journal are back. Cost: a look at each own record. */
  restored(): void {
    const { replica } = this.#parts;
    for (const { key, order } of replica.self.log.list()) if (order !== undefined) this.note(key, order);
  }

  /** Stages an order for keys that are registered here, or were here last. Throws `clock_skew` when it cannot be stamped. */
  order(keys: readonly KeyText[], ordered: OrderedMaintenance, time: Time): readonly OrderOutcome[] {
    return keys.map((key) => this.#order(key, ordered, time));
  }

  #order(key: KeyText, ordered: OrderedMaintenance, time: Time): OrderOutcome {
    const { replica } = this.#parts;
    const own = replica.own(key);
    const refusal = refusalOf(own, replica, key, ordered);
    if (own === undefined || refusal !== undefined) return refusal ?? NOT_HERE;
    const known = newestOrder(replica, key);
    if (isSaid(known, own, ordered, time)) return UNCHANGED;
    const { isOn, reason, untilMs } = ordered;
    const order = { hlc: this.#parts.hlc.stampAbove(known?.hlc ?? 0, time.wallMs), isOn, reason, untilMs };
    try {
      this.#put(own, order, time);
      return CHANGED;
    } catch (error) {
      // It is thrown before anything is staged.
      if (!(error instanceof WaymarkError) || error.reason !== "quota_exceeded") throw error;
      return { kind: "refused", reason: error.reason, detail: error.message };
    }
  }

  #put(own: StoredRecord, order: MaintenanceOrder, time: Time): void {
    const { replica, puts } = this.#parts;
    if (own.body === BODY.ENTRY) puts.again(own.key, time, { order });
    else replica.stageTombstone(own, own.body, own.hlc, order);
  }

  /** Records of other nodes that carry orders have come: own live entries take up those that are newer than theirs. */
  adopt(keys: readonly KeyText[], time: Time): void {
    if (!this.#parts.replica.hasOrders) return;
    for (const key of keys) this.#adopting.add(key);
    this.#takeUp(time);
  }

  /** A record was taken over from another node, with its order. This node may know a newer one. */
  taken(key: KeyText, order: MaintenanceOrder): void {
    this.note(key, order);
    this.#adopting.add(key);
  }

  /** Ends what is over, at most 1000 at once. Called about once a second. */
  tick(time: Time): void {
    this.#takeUp(time);
    if (time.wallMs < this.#nextEndMs) return;
    this.#nextEndMs = Number.POSITIVE_INFINITY;
    let left = TICK_COUNT;
    for (const [key, untilMs] of this.#ends) {
      if (untilMs <= time.wallMs && left > 0) {
        left -= 1;
        this.#end(key, untilMs, time);
      } else this.#nextEndMs = Math.min(this.#nextEndMs, untilMs);
    }
  }

  #end(key: KeyText, untilMs: number, time: Time): void {
    const { replica, undo, puts } = this.#parts;
    const own = replica.own(key);
    if (own?.body === BODY.ENTRY && own.order?.isOn === true && own.order.untilMs === untilMs) {
      const { order } = own;
      puts.reordered(key, time);
      // If the batch is refused, the entry is still in maintenance.
      undo.push(() => this.note(key, order));
    }
    this.#ends.delete(key);
  }

  #takeUp(time: Time): void {
    const { replica, undo, puts } = this.#parts;
    for (const key of this.#adopting) {
      const own = replica.own(key);
      if (own?.body === BODY.ENTRY && isNewerOrder(newestOrder(replica, key), own.order)) {
        puts.reordered(key, time);
        undo.push(() => this.#adopting.add(key));
      }
      this.#adopting.delete(key);
    }
  }
}

const NOT_HERE: OrderOutcome = { kind: "refused", reason: "not_found", detail: "no such entry is registered" };

function refusalOf(
  own: StoredRecord | undefined,
  replica: Replica,
  key: KeyText,
  { principal }: OrderedMaintenance,
): OrderOutcome | undefined {
  const seen = replica.view(key);
  if (own !== undefined && own.revision === 0 && own.body === BODY.ENTRY) return refusalOfOwner(own, principal);
  // Its client registered it elsewhere since the caller's node looked.
  if (seen !== undefined && seen.origin !== replica.self)
    return { kind: "refused", reason: "version_conflict", detail: `is registered at node ${seen.origin.nodeId} by now; order it again` };
  return own === undefined ? NOT_HERE : refusalOfOwner(own, principal);
}

function refusalOfOwner(own: StoredRecord, principal: string | undefined): OrderOutcome | undefined {
  if (principal === undefined || own.principal === principal) return undefined;
  return { kind: "refused", reason: "discovery_access_denied", detail: "is registered by another principal" };
}

/** Whether an order says nothing new. */
function isSaid(
  known: MaintenanceOrder | undefined,
  own: StoredRecord,
  { isOn, reason, untilMs }: OrderedMaintenance,
  { wallMs }: Time,
): boolean {
  const lasts = isInForce(known, wallMs);
  if (isOn) return lasts && own.order === known && known.reason === reason && known.untilMs === untilMs;
  // A version without orders may have written the entry as its order left it.
  return !lasts && (known !== undefined || own.body !== BODY.ENTRY || own.health !== HEALTH.MAINTENANCE);
}
