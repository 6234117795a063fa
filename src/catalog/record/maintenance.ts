/** Orders about the maintenance of a key, as its records carry them (semantics.md, Maintenance). */
import { MAINTENANCE_ORDER_LAST_FIELD, MAINTENANCE_ORDER_TAG } from "../../../gen/waymark/fabric/v1/record_tags.ts";
import { isStamp } from "../../lib/hlc.ts";
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

/** What somebody ordered about a key. Of all orders that the records of a key carry, the one with the greatest stamp counts. */
export interface MaintenanceOrder {
  /** Stamp of the hybrid logical clock. */
  readonly hlc: number;
  readonly isOn: boolean;
  readonly reason: string;
  /** When it ends by itself, in ms of wall clock since 1970. 0 means that somebody ends it. */
  readonly untilMs: number;
}

/** Whether the maintenance lasts at this time. An order that has ended is still known, so that an older one does not count again. */
export function isInForce(order: MaintenanceOrder | undefined, wallMs: number): order is MaintenanceOrder {
  return order !== undefined && order.isOn && (order.untilMs === 0 || order.untilMs > wallMs);
}

/** Whether `a` counts where `b` is known. Two nodes can give out one stamp; then all nodes choose the same order, an end rather than a beginning. */
export function isNewerOrder(a: MaintenanceOrder | undefined, b: MaintenanceOrder | undefined): a is MaintenanceOrder {
  if (a === undefined || b === undefined) return a !== undefined;
  return a.hlc === b.hlc ? wordsOf(a) > wordsOf(b) : a.hlc > b.hlc;
}

/** The one of two orders that counts. */
export function newerOrder(a: MaintenanceOrder | undefined, b: MaintenanceOrder | undefined): MaintenanceOrder | undefined {
  return isNewerOrder(b, a) ? b : a;
}

function wordsOf({ isOn, untilMs, reason }: MaintenanceOrder): string {
  return `${isOn ? 0 : 1} ${String(untilMs).padStart(16, "0")} ${reason}`;
}

/** Bytes that surely hold an order with its tag. */
export function roomOrder({ reason }: MaintenanceOrder): number {
  return 40 + 3 * reason.length;
}

/** Writes an order as a field. Returns the offset after it. */
export function writeOrder(out: Uint8Array, start: number, tag: number, { hlc, isOn, reason, untilMs }: MaintenanceOrder): number {
  const inner = openLength(writeVarint(out, start, tag));
  let at = writeNumberField(out, inner, MAINTENANCE_ORDER_TAG.hlc, hlc);
  at = writeNumberField(out, at, MAINTENANCE_ORDER_TAG.on, isOn ? 1 : 0);
  at = writeTextField(out, at, MAINTENANCE_ORDER_TAG.reason, reason);
  return closeLength(out, inner, writeNumberField(out, at, MAINTENANCE_ORDER_TAG.untilMs, untilMs));
}

/** Reads an order after its tag. Throws `invalid_argument` for one that no node may have given. */
export function readOrder(reader: WireReader): MaintenanceOrder {
  let [hlc, on, untilMs, reason] = [0, 0, 0, ""];
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === MAINTENANCE_ORDER_TAG.hlc) hlc = reader.varint();
    else if (tag === MAINTENANCE_ORDER_TAG.on) on = reader.varint();
    else if (tag === MAINTENANCE_ORDER_TAG.untilMs) untilMs = reader.varint();
    else if (tag === MAINTENANCE_ORDER_TAG.reason) reason = reader.text();
    else reader.skipUnknown(tag, MAINTENANCE_ORDER_LAST_FIELD);
  }
  reader.leave(outer);
  if (!isStamp(hlc) || hlc === 0) throw misplaced(`an order with the stamp ${hlc}`);
  if (utf8Size(reason) > MAX_REASON_BYTES) throw misplaced(`an order with a reason of ${utf8Size(reason)} bytes`);
  return { hlc, isOn: on !== 0, reason, untilMs };
}
