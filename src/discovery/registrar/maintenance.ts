/**
 * Maintenance of this node's entries (semantics.md, Maintenance): executes override requests, adopts overrides from other nodes' records, and ends
 * expired overrides. Overrides are part of the key's newest record on this node, whether that is an entry or a tombstone.
 */
import { hasNewerOverride, isInForce, type MaintenanceOverrides, overridesOf } from "../../catalog/record/maintenance.ts";
import { BODY, HEALTH, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { type ErrorReason, WaymarkError } from "../../lib/errors.ts";
import { type Hlc, MAX_STAMP } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { EntryPuts } from "./entry-puts.ts";
import type { UndoLog } from "./undo-log.ts";

/** The maintenance override that a call requests, or a request to end one. */
export interface RequestedOverride {
  readonly isOn: boolean;
  /** At most 256 bytes of UTF-8. Empty if an override is to end. */
  readonly reason: string;
  /** As in `MaintenanceOverride`. 0 if an override is to end. */
  readonly untilMs: number;
  /** The principal that requests the override. */
  readonly giver: string;
  /** Whether the principal acts as an operator and may change the entries of all principals. If not, it may change only its own entries. */
  readonly isOperator: boolean;
}

/** The outcome of an override request for one key. */
export type OverrideOutcome =
  | { readonly kind: "changed" }
  /** The override was already in force. */
  | { readonly kind: "unchanged" }
  | { readonly kind: "refused"; readonly reason: ErrorReason; readonly detail: string };

export interface MaintenanceParts {
  readonly replica: Replica;
  readonly hlc: Hlc;
  readonly undo: UndoLog;
  readonly puts: Pick<EntryPuts, "rewrite" | "rewriteWithOverrides">;
}

const CHANGED: OverrideOutcome = { kind: "changed" };
const UNCHANGED: OverrideOutcome = { kind: "unchanged" };

/** Maximum number of overrides that one tick ends, so that the node is not blocked if many end at the same time. */
const TICK_COUNT = 1000;

export class MaintenanceWriter {
  readonly #parts: MaintenanceParts;
  /**
   * For each of this node's entries, the time at which its next override ends, in wall-clock ms. The index may contain keys whose override has been
   * replaced.
   */
  readonly #ends = new Map<KeyText, number>();
  #nextEndMs = Number.POSITIVE_INFINITY;
  /** Keys that may have newer overrides than this node's records contain. */
  readonly #adopting = new Set<KeyText>();

  constructor(parts: MaintenanceParts) {
    this.#parts = parts;
  }

  /**
   * Records when the overrides of one of this node's entries end. The overrides may still be staged. End times up to `sinceMs` have already been
   * processed.
   */
  note(key: KeyText, orders: MaintenanceOverrides, sinceMs: number): void {
    const endMs = nextEndMs(orders, sinceMs);
    if (endMs === undefined) return;
    this.#ends.set(key, endMs);
    this.#nextEndMs = Math.min(this.#nextEndMs, endMs);
  }

  /** Must be called after the journal's rows have been restored. Reads each record of this node. */
  restored(): void {
    const { replica } = this.#parts;
    for (const { key, orders } of replica.self.log.list()) if (orders !== undefined) this.note(key, orders, 0);
  }

  /**
   * Stages an override for keys that are, or were last, registered on this node. Throws `clock_skew` if the override cannot be stamped.
   */
  order(keys: readonly KeyText[], ordered: RequestedOverride, time: Time): readonly OverrideOutcome[] {
    return keys.map((key) => this.#order(key, ordered, time));
  }

  #order(key: KeyText, ordered: RequestedOverride, time: Time): OverrideOutcome {
    const { replica } = this.#parts;
    const own = replica.own(key);
    const refusal = refusalOf(own, replica, key, ordered);
    if (own === undefined || refusal !== undefined) return refusal ?? NOT_HERE;
    const known = replica.newestOrders(key);
    const { isOn, reason, untilMs, giver } = ordered;
    const wanted = isOn ? begun(known, own, ordered, time) : ended(known, own, ordered, time);
    if (wanted === undefined) return UNCHANGED;
    if ("kind" in wanted) return wanted;
    const order = { hlc: this.#stampOf(own, known, time), isOn, reason, untilMs, giver };
    const orders = {
      operators: wanted.isOperators ? order : known?.operators,
      owners: wanted.isOwners ? order : known?.owners,
    };
    try {
      if (own.body === BODY.ENTRY) this.#parts.puts.rewriteWithOverrides(key, time, orders);
      else replica.stageTombstone(own, own.body, own.hlc, orders);
      return CHANGED;
    } catch (error) {
      // If a quota is exceeded, an error is thrown before anything is staged.
      if (!(error instanceof WaymarkError) || error.reason !== "quota_exceeded") throw error;
      return { kind: "refused", reason: error.reason, detail: error.message };
    }
  }

  /**
   * Returns the stamp for a new override. It is above all known overrides of the key and above the record, because a registration may have ended an
   * older override.
   */
  #stampOf(own: StoredRecord, known: MaintenanceOverrides | undefined, time: Time): number {
    const knownHlc = Math.max(known?.operators?.hlc ?? 0, known?.owners?.hlc ?? 0);
    return this.#parts.hlc.stampAbove(Math.max(knownHlc, Math.min(own.hlc, MAX_STAMP - 1)), time.wallMs);
  }

  /** Adopts newer overrides for this node's live entries from records received from other nodes. */
  adopt(keys: readonly KeyText[], time: Time): void {
    if (!this.#parts.replica.hasOrders) return;
    for (const key of keys) this.#adopting.add(key);
    this.#adoptNewer(time);
  }

  /** Records the overrides of an entry that was taken over from another node. This node may know newer overrides. */
  taken(key: KeyText, orders: MaintenanceOverrides): void {
    this.note(key, orders, 0);
    this.#adopting.add(key);
  }

  /** Ends expired overrides, at most 1000 per call. Called about once per second. */
  tick(time: Time): void {
    this.#adoptNewer(time);
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
    this.#ends.delete(key);
    if (own?.body !== BODY.ENTRY || own.orders === undefined) return;
    const { orders } = own;
    if (own.health === HEALTH.MAINTENANCE && endsOf(orders).includes(untilMs)) {
      puts.rewriteWithOverrides(key, time);
      // If the batch that ends the maintenance fails, the entry is still in maintenance.
      undo.push(() => this.note(key, orders, 0));
    }
    this.note(key, orders, time.wallMs);
  }

  #adoptNewer(time: Time): void {
    const { replica, undo, puts } = this.#parts;
    for (const key of this.#adopting) {
      const own = replica.own(key);
      if (own?.body === BODY.ENTRY && hasNewerOverride(overridesOf(own, replica.newestOrders(key)), own.orders)) {
        puts.rewriteWithOverrides(key, time);
        undo.push(() => this.#adopting.add(key));
      }
      this.#adopting.delete(key);
    }
  }
}

const NOT_HERE: OverrideOutcome = { kind: "refused", reason: "not_found", detail: "no such entry is registered" };

function refusalOf(own: StoredRecord | undefined, replica: Replica, key: KeyText, ordered: RequestedOverride): OverrideOutcome | undefined {
  const seen = replica.view(key);
  if (own !== undefined && own.revision === 0 && own.body === BODY.ENTRY) return refusalOfOwner(own, ordered);
  // The client has registered the entry on another node since the caller's node looked it up.
  if (seen !== undefined && seen.origin !== replica.self)
    return {
      kind: "refused",
      reason: "version_conflict",
      detail: `the entry is now registered on node ${seen.origin.nodeId}: send the request again`,
    };
  return own === undefined ? NOT_HERE : refusalOfOwner(own, ordered);
}

function refusalOfOwner(own: StoredRecord, { giver, isOperator }: RequestedOverride): OverrideOutcome | undefined {
  if (isOperator || own.principal === giver) return undefined;
  return { kind: "refused", reason: "discovery_access_denied", detail: "the entry is registered by another principal" };
}

/** The overrides that the request replaces. */
interface ReplacedOverrides {
  readonly isOperators: boolean;
  readonly isOwners: boolean;
}

/** Returns the overrides that a request to begin maintenance replaces. Returns undefined if the request does not change anything. */
function begun(
  known: MaintenanceOverrides | undefined,
  own: StoredRecord,
  { reason, untilMs, giver, isOperator }: RequestedOverride,
  { wallMs }: Time,
): ReplacedOverrides | undefined {
  const current = isOperator ? known?.operators : known?.owners;
  const isSame =
    isInForce(current, wallMs) && current.reason === reason && current.untilMs === untilMs && (isOperator || current.giver === giver);
  return isSame && own.orders === known ? undefined : { isOperators: isOperator, isOwners: !isOperator };
}

/**
 * Returns the overrides that a request to end maintenance replaces: an operator ends all overrides in force, but an owner ends only owners'
 * overrides. Returns undefined if the request does not change anything.
 */
function ended(
  known: MaintenanceOverrides | undefined,
  own: StoredRecord,
  { isOperator }: RequestedOverride,
  { wallMs }: Time,
): ReplacedOverrides | OverrideOutcome | undefined {
  const isOwners = isInForce(known?.owners, wallMs);
  const isOperators = isInForce(known?.operators, wallMs);
  if (isOperator ? isOperators || isOwners : isOwners) return { isOperators: isOperator && isOperators, isOwners };
  if (isOperators) return OF_OPERATOR;
  // An older version of Waymark that does not support overrides may have written the entry in a state that an override had set.
  const isLeft = known === undefined && own.body === BODY.ENTRY && own.health === HEALTH.MAINTENANCE;
  return isLeft ? { isOperators: isOperator, isOwners: !isOperator } : undefined;
}

const OF_OPERATOR: OverrideOutcome = {
  kind: "refused",
  reason: "discovery_access_denied",
  detail: "an operator put the entry into maintenance: only callers with the role mesh.operate can end it",
};

/** Returns the times at which the overrides expire, in wall-clock ms. */
function endsOf({ operators, owners }: MaintenanceOverrides): readonly number[] {
  return [operators, owners].flatMap((order) => (order?.isOn === true && order.untilMs > 0 ? [order.untilMs] : []));
}

/** Returns the first of these times after `sinceMs`. */
function nextEndMs(orders: MaintenanceOverrides, sinceMs: number): number | undefined {
  const ends = endsOf(orders).filter((endMs) => endMs > sinceMs);
  return ends.length === 0 ? undefined : Math.min(...ends);
}
