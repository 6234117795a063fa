/** Maintenance overrides of a key, as stored in its records (semantics.md, Maintenance). */
import { MAINTENANCE_ORDER_LAST_FIELD, MAINTENANCE_ORDER_TAG, RECORD_TAG } from "../../../gen/waymark/fabric/v1/record_tags.ts";
import { isStamp, MAX_STAMP } from "../../lib/hlc.ts";
import {
  closeLength,
  misplaced,
  openLength,
  utf8Size,
  type WireReader,
  writeNumberField,
  writeTextField,
  writeVarint,
} from "../../lib/protowire.ts";

/** Maximum length of an override's reason, in UTF-8 bytes. */
const MAX_REASON_BYTES = 256;
/** Maximum length of the principal that set an override, in UTF-16 units. */
const MAX_GIVER_LENGTH = 512;

/** One maintenance override of a key, which switches maintenance on or off. */
export interface MaintenanceOverride {
  /** Hybrid logical clock stamp of the override. */
  readonly hlc: number;
  readonly isOn: boolean;
  readonly reason: string;
  /** Time at which the override ends automatically, in ms since 1970. 0 means that it lasts until it is switched off. */
  readonly untilMs: number;
  /** The principal that set the override. Empty for anonymous. If a registration ends the override, this value is kept. */
  readonly giver: string;
}

/**
 * The maintenance overrides in the records of a key. Among the overrides by operators, the one with the highest stamp applies; among the
 * overrides by owners, the newest one applies. Neither group replaces the other, because an owner must not end maintenance that an operator has set,
 * not even by a concurrent override.
 */
export interface MaintenanceOverrides {
  /** Applies to the entries of all principals. */
  readonly operators?: MaintenanceOverride | undefined;
  /** Set by the principal of an entry, for entries of that principal only. */
  readonly owners?: MaintenanceOverride | undefined;
}

/** Whether the maintenance is active at this time. An override that has ended remains stored, so that an older one does not apply again. */
export function isInForce(order: MaintenanceOverride | undefined, wallMs: number): order is MaintenanceOverride {
  return order !== undefined && order.isOn && (order.untilMs === 0 || order.untilMs > wallMs);
}

/** Returns the override that applies to an entry of this principal at this time. An operator's override has precedence. */
export function lastingOverride(
  orders: MaintenanceOverrides | undefined,
  principal: string,
  wallMs: number,
): MaintenanceOverride | undefined {
  if (isInForce(orders?.operators, wallMs)) return orders?.operators;
  const owners = orders?.owners;
  return isInForce(owners, wallMs) && owners.giver === principal ? owners : undefined;
}

/**
 * Returns the overrides that remain after this principal has registered the key. The registration ends an override by another owner. The end is
 * stamped one step above the override, not by the clock, so that all nodes compute the same end, and no newer override is ended.
 */
export function overridesFor(principal: string, orders: MaintenanceOverrides | undefined): MaintenanceOverrides | undefined {
  const owners = orders?.owners;
  if (owners === undefined || !owners.isOn || owners.giver === principal) return orders;
  const end = { hlc: Math.min(owners.hlc + 1, MAX_STAMP), isOn: false, reason: "", untilMs: 0, giver: owners.giver };
  return { ...orders, owners: end };
}

/** Returns the overrides to store in this entry's record, given the known overrides. An override by another owner has ended if the entry is newer. */
export function overridesOf(
  { principal, hlc }: { readonly principal: string; readonly hlc: number },
  orders: MaintenanceOverrides | undefined,
): MaintenanceOverrides | undefined {
  return hlc > (orders?.owners?.hlc ?? Number.POSITIVE_INFINITY) ? overridesFor(principal, orders) : orders;
}

/** Whether `a` has an override that is newer than the corresponding override of `b`. */
export function hasNewerOverride(a: MaintenanceOverrides | undefined, b: MaintenanceOverrides | undefined): a is MaintenanceOverrides {
  return a !== b && (isNewer(a?.operators, b?.operators) || isNewer(a?.owners, b?.owners));
}

/** Merges the overrides of both, keeping the newest ones. If `b` adds nothing, returns `a` itself. */
export function newerOverrides(a: MaintenanceOverrides | undefined, b: MaintenanceOverrides | undefined): MaintenanceOverrides | undefined {
  if (!hasNewerOverride(b, a)) return a;
  if (!hasNewerOverride(a, b)) return b;
  return { operators: newerOrder(a.operators, b.operators), owners: newerOrder(a.owners, b.owners) };
}

/** Whether `a` replaces `b`. If two nodes assign the same stamp, all nodes choose the same override, with an end preferred to a start. */
function isNewer(a: MaintenanceOverride | undefined, b: MaintenanceOverride | undefined): a is MaintenanceOverride {
  if (a === undefined || b === undefined) return a !== undefined;
  return a.hlc === b.hlc ? wordsOf(a) > wordsOf(b) : a.hlc > b.hlc;
}

function newerOrder(a: MaintenanceOverride | undefined, b: MaintenanceOverride | undefined): MaintenanceOverride | undefined {
  return isNewer(b, a) ? b : a;
}

/** Returns a string for comparing overrides. Two overrides with the same string are equal. */
function wordsOf({ isOn, untilMs, reason, giver }: MaintenanceOverride): string {
  return `${isOn ? 0 : 1} ${String(untilMs).padStart(16, "0")} ${giver.length} ${giver}${reason}`;
}

/** Returns an upper bound for the encoded size of the overrides, including their tags. */
export function overridesRoom(orders: MaintenanceOverrides | undefined): number {
  return orders === undefined ? 0 : roomOrder(orders.operators) + roomOrder(orders.owners);
}

function roomOrder(order: MaintenanceOverride | undefined): number {
  return order === undefined ? 0 : 45 + 3 * (order.reason.length + order.giver.length);
}

/** Writes the overrides as fields of an encoded record. Returns the offset at which they end. */
export function writeOverrides(out: Uint8Array, start: number, { operators, owners }: MaintenanceOverrides): number {
  const at = operators === undefined ? start : writeOrder(out, start, RECORD_TAG.order, operators);
  return owners === undefined ? at : writeOrder(out, at, RECORD_TAG.ownerOrder, owners);
}

function writeOrder(out: Uint8Array, start: number, tag: number, { hlc, isOn, reason, untilMs, giver }: MaintenanceOverride): number {
  const inner = openLength(writeVarint(out, start, tag));
  let at = writeNumberField(out, inner, MAINTENANCE_ORDER_TAG.hlc, hlc);
  at = writeNumberField(out, at, MAINTENANCE_ORDER_TAG.on, isOn ? 1 : 0);
  at = writeTextField(out, at, MAINTENANCE_ORDER_TAG.reason, reason);
  at = writeNumberField(out, at, MAINTENANCE_ORDER_TAG.untilMs, untilMs);
  return closeLength(out, inner, writeTextField(out, at, MAINTENANCE_ORDER_TAG.giver, giver));
}

/** Reads an override whose tag has already been read. Throws `invalid_argument` for an override that cannot have been set by any node. */
export function readOverride(reader: WireReader): MaintenanceOverride {
  let [hlc, on, untilMs, reason, giver] = [0, 0, 0, "", ""];
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === MAINTENANCE_ORDER_TAG.hlc) hlc = reader.varint();
    else if (tag === MAINTENANCE_ORDER_TAG.on) on = reader.varint();
    else if (tag === MAINTENANCE_ORDER_TAG.untilMs) untilMs = reader.varint();
    else if (tag === MAINTENANCE_ORDER_TAG.reason) reason = reader.text();
    else if (tag === MAINTENANCE_ORDER_TAG.giver) giver = reader.text();
    else reader.skipUnknown(tag, MAINTENANCE_ORDER_LAST_FIELD);
  }
  reader.leave(outer);
  if (!isStamp(hlc) || hlc === 0) throw misplaced(`the maintenance override has an invalid timestamp: ${hlc}`);
  if (utf8Size(reason) > MAX_REASON_BYTES)
    throw misplaced(`the maintenance override has a reason of ${utf8Size(reason)} bytes; at most ${MAX_REASON_BYTES} are allowed`);
  if (giver.length > MAX_GIVER_LENGTH)
    throw misplaced(`the maintenance override has a principal of ${giver.length} characters; at most ${MAX_GIVER_LENGTH} are allowed`);
  return { hlc, isOn: on !== 0, reason, untilMs, giver };
}
