/** Heads of policy versions as peers tell them: which are heads, and which may follow ours. */
import { NODE_BOUNDS } from "../lib/bounds.ts";
import { isSamePlace } from "../policy/versions/version.ts";
import type { PolicyHead } from "./wire/messages.ts";

/** A node that has no version takes a number below this; far above it there is room for all that follow. */
const FIRST_NUMBER_LIMIT = 2 ** 52;
/** How far above its own number a node takes another: who makes numbers up cannot use up those that follow. */
export const MAX_NUMBER_STEP = 1_000_000;

export function isHead({ number, hlc, nodeId, checksum }: PolicyHead): boolean {
  if (number === 0) return true;
  const isNumber = Number.isSafeInteger(number) && number > 0 && Number.isSafeInteger(hlc) && hlc >= 0;
  return isNumber && nodeId.length <= NODE_BOUNDS.maxIdLength && /^[0-9a-f]{64}$/.test(checksum);
}

/** Whether it is a head, of a number that may follow `ourNumber`. */
export function isWithin(head: PolicyHead, ourNumber: number): boolean {
  return isHead(head) && (ourNumber === 0 ? head.number < FIRST_NUMBER_LIMIT : head.number <= ourNumber + MAX_NUMBER_STEP);
}

export function nameOf({ number, hlc, nodeId, checksum }: PolicyHead): string {
  return `${number} ${hlc} ${nodeId} ${checksum}`;
}

/** How a version differs from the head it was offered under; empty when it does not. */
export function differing(head: PolicyHead, facts: PolicyHead): string {
  return isSamePlace(head, facts)
    ? ""
    : `it is version ${facts.number} of ${facts.nodeId === "" ? "nobody" : facts.nodeId}, not what its head says`;
}
