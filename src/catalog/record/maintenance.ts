/** Orders about the maintenance of a key, as its records carry them (semantics.md, Maintenance). */
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

/** Longest reason of an order, in bytes of UTF-8. */
const MAX_REASON_BYTES = 256;
/** Longest giver of an order, in UTF-16 units. It is a principal. */
const MAX_GIVER_LENGTH = 512;

/** What somebody ordered about a key. */
export interface MaintenanceOverride {
  /** Stamp of the hybrid logical clock. */
  readonly hlc: number;
  readonly isOn: boolean;
  readonly reason: string;
  /** When it ends by itself, in ms of wall clock since 1970. 0 means that somebody ends it. */
  readonly untilMs: number;
  /** The principal that gave it. Empty for anonymous. An end that follows from a registration keeps it. */
  readonly giver: string;
}

/**
 * What the records of a key carry. Of all orders of operators the one with the greatest stamp counts, and of all orders of owners. Neither replaces the
 * other, because an owner must not end what an operator ordered, not even by an order that crosses it.
 */
export interface MaintenanceOverrides {
  /** For the entries of all principals. */
  readonly operators?: MaintenanceOverride | undefined;
  /** Of the principal of an entry, for entries of that principal alone. */
  readonly owners?: MaintenanceOverride | undefined;
}

/** Whether the maintenance lasts at this time. An order that has ended is still known, so that an older one does not count again. */
export function isInForce(order: MaintenanceOverride | undefined, wallMs: number): order is MaintenanceOverride {
  return order !== undefined && order.isOn && (order.untilMs === 0 || order.untilMs > wallMs);
}

/** The order that an entry of this principal goes by at this time. An operator's comes first. */
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
 * What is left of orders when this principal has registered the key since: an order of another owner has ended. The end is stamped one step above the
 * order, not by the clock, so that all who conclude it say the same, and so that it ends nothing newer.
 */
export function overridesFor(principal: string, orders: MaintenanceOverrides | undefined): MaintenanceOverrides | undefined {
  const owners = orders?.owners;
  if (owners === undefined || !owners.isOn || owners.giver === principal) return orders;
  const end = { hlc: Math.min(owners.hlc + 1, MAX_STAMP), isOn: false, reason: "", untilMs: 0, giver: owners.giver };
  return { ...orders, owners: end };
}

/** The orders that this entry's record carries, where these are known. One of another owner has ended if the entry was registered after it. */
export function overridesOf(
  { principal, hlc }: { readonly principal: string; readonly hlc: number },
  orders: MaintenanceOverrides | undefined,
): MaintenanceOverrides | undefined {
  return hlc > (orders?.owners?.hlc ?? Number.POSITIVE_INFINITY) ? overridesFor(principal, orders) : orders;
}

/** Whether `a` has an order that counts where `b` is known. */
export function hasNewerOverride(a: MaintenanceOverrides | undefined, b: MaintenanceOverrides | undefined): a is MaintenanceOverrides {
  return a !== b && (isNewer(a?.operators, b?.operators) || isNewer(a?.owners, b?.owners));
}

/** All that counts of both. It is `a` itself if `b` adds nothing. */
export function newerOverrides(a: MaintenanceOverrides | undefined, b: MaintenanceOverrides | undefined): MaintenanceOverrides | undefined {
  if (!hasNewerOverride(b, a)) return a;
  if (!hasNewerOverride(a, b)) return b;
  return { operators: newerOrder(a.operators, b.operators), owners: newerOrder(a.owners, b.owners) };
}

/** Whether `a` counts where `b` is known. Two nodes can give out one stamp; then all nodes choose the same order, an end rather than a beginning. */
function isNewer(a: MaintenanceOverride | undefined, b: MaintenanceOverride | undefined): a is MaintenanceOverride {
  if (a === undefined || b === undefined) return a !== undefined;
  return a.hlc === b.hlc ? wordsOf(a) > wordsOf(b) : a.hlc > b.hlc;
}

function newerOrder(a: MaintenanceOverride | undefined, b: MaintenanceOverride | undefined): MaintenanceOverride | undefined {
  return isNewer(b, a) ? b : a;
}

/** Two orders with the same words are equal. */
function wordsOf({ isOn, untilMs, reason, giver }: MaintenanceOverride): string {
  return `${isOn ? 0 : 1} ${String(untilMs).padStart(16, "0")} ${giver.length} ${giver}${reason}`;
}

/** Bytes that surely hold the orders with their tags. */
export function overridesRoom(orders: MaintenanceOverrides | undefined): number {
  return orders === undefined ? 0 : roomOrder(orders.operators) + roomOrder(orders.owners);
}

function roomOrder(order: MaintenanceOverride | undefined): number {
  return order === undefined ? 0 : 45 + 3 * (order.reason.length + order.giver.length);
}

/** Writes the orders as fields of a record. Returns the offset after them. */
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

/** Reads an order after its tag. Throws `invalid_argument` for one that no node may have given. */
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
  if (!isStamp(hlc) || hlc === 0) throw misplaced(`an order with the stamp ${hlc}`);
  if (utf8Size(reason) > MAX_REASON_BYTES) throw misplaced(`an order with a reason of ${utf8Size(reason)} bytes`);
  if (giver.length > MAX_GIVER_LENGTH) throw misplaced(`an order with a giver of ${giver.length} characters`);
  return { hlc, isOn: on !== 0, reason, untilMs, giver };
}
