/** The health checks of an entry: the rules that the contract cannot express, and the defaults for absent fields. */
import {
  type CheckFields,
  type CheckStateFields,
  type EntryFields,
  readEntry,
  type TargetFields,
} from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { protocolOf } from "../../lib/protocols.ts";
import { type TimeFields, timeMs } from "../../lib/protowire.ts";
import { HEALTH, type Health } from "../record/record.ts";
import type { FieldProblems } from "./names.ts";
import { quoted } from "./names.ts";
import { hasPort } from "./view.ts";

export type Check = CheckFields;
export type Target = TargetFields;
/** The fields of an entry that define its checks. */
export type WithChecks = Pick<EntryFields, "checks" | "targets">;
/** The fields of a stored entry that contain its checks and their results. */
export type CheckResults = WithChecks &
  Pick<EntryFields, "health" | "reportedHealth" | "maintenance"> & { readonly checkStates: readonly CheckState[] };

/** The state of a check. The last health is present only for a check that is no longer run. */
export type CheckState = Omit<CheckStateFields, "lastHealth"> & Partial<Pick<CheckStateFields, "lastHealth">>;

/** A kind of check, which is the field of `Check.probe` that is set. */
export type CheckKind = Exclude<Check["probe"]["case"], undefined>;

interface CheckKindRow {
  /** Whether the check connects to one of its entry's targets, within a timeout. A check without a target has neither `target` nor `timeout`. */
  readonly looksAtTarget: boolean;
  /** Default number of consecutive failures after which the check becomes critical. */
  readonly failing: number;
}

export const CHECK_KINDS = {
  grpc: { looksAtTarget: true, failing: 3 },
  http: { looksAtTarget: true, failing: 3 },
  tcp: { looksAtTarget: true, failing: 3 },
  ttl: { looksAtTarget: false, failing: 1 },
  alias: { looksAtTarget: false, failing: 3 },
} as const satisfies Record<CheckKind, CheckKindRow>;

/** The failures, with the numbers of the contract's enum `CheckFailure`. */
export const FAILURE = {
  NONE: 0,
  TIMEOUT: 1,
  REFUSED: 2,
  STATUS: 3,
  NOT_SERVING: 4,
  MALFORMED: 5,
  NAME: 6,
  NOT_ALLOWED: 7,
  NOT_RENEWED: 8,
  ALIAS: 9,
  NOT_RUN: 10,
} as const;
export type CheckFailure = (typeof FAILURE)[keyof typeof FAILURE];

/** The state of a check that has no result yet, or that is not run by any node. */
export const UNKNOWN_STATE: CheckState = { health: HEALTH.UNSET, failure: FAILURE.NONE, httpStatus: 0, lastHealth: HEALTH.UNSET };

const DEFAULT_INTERVAL_MS = 10_000;
const DEFAULT_TIMEOUT_MS = 5000;
const DEFAULT_PASSING = 1;
const DEFAULT_STATUS_MIN = 200;
const DEFAULT_STATUS_MAX = 299;

/** The times that control a check, and the numbers of consecutive results after which its state changes. */
export interface CheckTimes {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly failing: number;
  readonly passing: number;
}

export function timesOf(check: CheckFields): CheckTimes {
  const intervalMs = msOr(check.interval, DEFAULT_INTERVAL_MS);
  const kind = check.probe.case;
  return {
    intervalMs,
    timeoutMs: msOr(check.timeout, Math.min(DEFAULT_TIMEOUT_MS, intervalMs)),
    failing: check.failing || (kind === undefined ? 1 : CHECK_KINDS[kind].failing),
    passing: check.passing || DEFAULT_PASSING,
  };
}

/** Returns the first and the last HTTP status that passes. */
export function statusesOf(http: { readonly statusMin: number; readonly statusMax: number }): {
  readonly min: number;
  readonly max: number;
} {
  return { min: http.statusMin || DEFAULT_STATUS_MIN, max: http.statusMax || DEFAULT_STATUS_MAX };
}

/** Returns the target of a check. Undefined for checks without a target, and if the entry has no target of that name. */
export function targetOf(check: CheckFields, targets: readonly TargetFields[]): TargetFields | undefined {
  if (!looksAtTarget(check)) return undefined;
  return check.target === "" ? targets[0] : targets.find(({ name }) => name === check.target);
}

/** Returns the checks and their results from a finished entry or from its content. Cost: one decode. */
export function checksOf(sealed: Uint8Array): CheckResults {
  return readEntry(sealed).entry;
}

/**
 * Returns the worst of the health that the client reported and the check results, in the order MAINTENANCE, CRITICAL, DEGRADED, HEALTHY. For a check
 * that is no longer run, its last known health is used.
 */
export function worstOf(reported: number, states: readonly CheckState[]): number {
  let worst = reported;
  for (const { health, lastHealth = HEALTH.UNSET } of states) worst = Math.max(worst, health, lastHealth);
  return worst;
}

/** Returns the health that the client reported. Versions of Waymark without checks set only the health that readers see. */
export function reportedOf({ reportedHealth, health }: Pick<CheckResults, "health" | "reportedHealth">): Health {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- from an own record, which this node wrote
  return (reportedHealth === HEALTH.UNSET ? health : reportedHealth) as Health;
}

/** Returns the check states in the form in which an entry stores them: one for each check, or an empty list while no state is known. */
export function storedStates(states: readonly CheckState[]): readonly CheckState[] {
  return states.every(({ health, failure }) => health === HEALTH.UNSET && failure === FAILURE.NONE) ? [] : states;
}

/**
 * Returns the identity of a check as a string: its fields and the address of its target. A new registration keeps a check's results if the identity
 * is unchanged.
 */
export function identityOf(check: Check, targets: readonly TargetFields[]): string {
  const { host, port } = targetOf(check, targets) ?? {};
  const { probe, ...times } = check;
  return JSON.stringify([timesOf({ ...times, probe }), probe.case, probe.value, host, port], (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
}

/** Returns, for each check, the state of the earlier check with the same identity. The state of each earlier check is used only once. */
export function carriedStates(now: WithChecks, before: Pick<CheckResults, "checks" | "targets" | "checkStates">): readonly CheckState[] {
  const known = before.checks.map((check) => identityOf(check, before.targets));
  return now.checks.map((check) => {
    const at = known.indexOf(identityOf(check, now.targets));
    if (at < 0) return UNKNOWN_STATE;
    known[at] = "";
    return before.checkStates[at] ?? UNKNOWN_STATE;
  });
}

/** Adds the problems found in the checks of a client's entry. */
export function checkChecks({ checks, targets }: WithChecks, problems: FieldProblems): void {
  checks.forEach((check, i) => {
    const before = problems.count;
    if (check.probe.case === undefined) problems.add("probe", `is required: one of ${Object.keys(CHECK_KINDS).join(", ")}`);
    else if (looksAtTarget(check)) checkTarget(check, targets, problems);
    else checkNoTarget(check, problems);
    if (problems.count !== before) problems.under(before, `checks[${i}].`);
  });
}

function looksAtTarget({ probe }: CheckFields): boolean {
  return probe.case !== undefined && CHECK_KINDS[probe.case].looksAtTarget;
}

function checkTarget(check: CheckFields, targets: readonly TargetFields[], problems: FieldProblems): void {
  const { probe } = check;
  const target = targetOf(check, targets);
  if (target === undefined)
    problems.add("target", check.target === "" ? "the entry has no targets" : `${quoted(check.target)} is not the name of a target`);
  else if (protocolOf(target.protocol).transport !== "tcp")
    problems.add("target", `uses protocol ${target.protocol.toLowerCase()}, but checks connect over TCP`);
  else if (!hasPort(target)) problems.add("target", "has no port; a check needs a port to connect to");
  const { timeoutMs, intervalMs } = timesOf(check);
  if (timeoutMs > intervalMs) problems.add("timeout", `${timeoutMs / 1000} s is longer than the interval of ${intervalMs / 1000} s`);
  if (probe.case !== "http") return;
  const { min, max } = statusesOf(probe.value);
  if (min > max) problems.add("http.status_max", `${max} is less than status_min, which is ${min}`);
  if (min < 100) problems.add("http.status_min", `${min} must be 0 or at least 100, the lowest HTTP status`);
}

function checkNoTarget({ target, timeout, probe }: CheckFields, problems: FieldProblems): void {
  if (target !== "") problems.add("target", `must be empty: checks of kind ${probe.case} have no target`);
  if (timeout !== undefined) problems.add("timeout", `must be absent: checks of kind ${probe.case} have no timeout`);
}

function msOr(time: TimeFields | undefined, otherwise: number): number {
  return time === undefined ? otherwise : timeMs(time);
}
