/**
 * How long rules and reaches may be, of whomever they come, and what is told or counts in their place: everything, and then nothing ends by it. A neighbour, or a
 * member, would else decide what each look at it costs.
 */
import type { HeardRule, Reach } from "../../wire/messages.ts";
import { EVERYTHING } from "./patterns.ts";

/** Export rules that are too long to be told. */
export const ALL: readonly string[] = [EVERYTHING];
/** Told where nobody knows, or what is known is too long. */
export const ANY_REACH: readonly Reach[] = [{ hops: 1, regions: [], patterns: ALL }];

const MAX_ROWS = 64;
/** Of a rule, or of a row of a reach. */
const MAX_PATTERNS = 64;
/** Characters of all rules, and of all rows of reaches. Members are not told more. */
const MAX_LENGTH = 2048;
/** Of all rows, regions times patterns: short names could else cost each reader a look at 30,000 of them. */
const MAX_PAIRS = 1024;

/** Rules as other nodes are told them. */
export function shortRules(rows: readonly HeardRule[]): readonly HeardRule[] {
  const isLong = exportsLength(rows) > MAX_LENGTH || rows.some(({ exports }) => exports.length > MAX_PATTERNS);
  return isLong ? rows.map((row) => (row.isHeard ? { ...row, exports: ALL } : row)) : rows;
}

/** The same with reaches that may be told together. */
export function shortReaches(rows: readonly HeardRule[]): readonly HeardRule[] {
  return isShort(reachesOf(rows)) ? rows : rows.map((row) => (row.reached === undefined ? row : { ...row, reached: ANY_REACH }));
}

/** Whether members take rows of this length. */
export function areRulesShort(rows: readonly HeardRule[]): boolean {
  return exportsLength(rows) <= MAX_LENGTH && isShort(reachesOf(rows));
}

/** What one of many told, or any reach where it is too long: an honest teller tells that itself. */
export function fitting(rows: readonly Reach[]): readonly Reach[] {
  const isLong = rows.length > MAX_ROWS || rows.some(({ regions, patterns }) => Math.max(regions.length, patterns.length) > MAX_PATTERNS);
  return isLong || !isShort(rows) ? ANY_REACH : rows;
}

function exportsLength(rows: readonly HeardRule[]): number {
  return rows.reduce((sum, { exports }) => sum + exports.join("").length, 0);
}

function reachesOf(rows: readonly HeardRule[]): readonly Reach[] {
  return rows.flatMap(({ reached = [] }) => reached);
}

/** Whether it may be told in one message, and looked at often. */
function isShort(rows: readonly Reach[]): boolean {
  const length = rows.reduce((sum, { regions, patterns }) => sum + regions.join("").length + patterns.join("").length, 0);
  const pairs = rows.reduce((sum, { regions, patterns }) => sum + Math.max(1, regions.length) * Math.max(1, patterns.length), 0);
  return length <= MAX_LENGTH && pairs <= MAX_PAIRS;
}
