/** How old an answer may be: what callers accept, and from when on an answer is called stale. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { isKnownAge } from "../../lib/duration.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { PeerDirectory } from "../peer-directory.ts";
import { durationMs } from "../request-checks.ts";

/** Time after which a client should try again when the data is too old. */
const STALE_RETRY_MS = 1000;
/**
 * A node whose data may be older is cut off, or is still starting. Longer than the age ever is in a healthy cluster, and than a member that died is
 * waited for.
 */
const STALE_AGE_MS = 60_000;

/** `waymark.catalog.v1.Source`: what an answer was made from. */
export const SOURCE = { REPLICA: 1, FOLLOWED: 2, FETCHED: 3, DISK: 4 } as const;
export type Source = (typeof SOURCE)[keyof typeof SOURCE];

/** How good what an answer is made from is. */
export interface AnswerAge {
  /** In whole ms. An unknown age is counted from 1970. */
  readonly ageMs: number;
  readonly isStale: boolean;
  readonly source: Source;
  /** Nodes that the age does not include. Absent: none. */
  readonly unreachable?: UnreachableNodes | undefined;
}

/** The limits in a request on the age of its answer. */
export interface StalenessBound {
  readonly maxStaleness?: Duration | undefined;
  readonly maxStalenessStrict: boolean;
}

/** The age of what a node answers from its replica. An unknown age is counted from 1970, so it is stale too. */
export function replicaAge(ageMs: number, unreachable?: UnreachableNodes): AnswerAge {
  return { ageMs: Math.round(ageMs), isStale: ageMs > STALE_AGE_MS, source: SOURCE.REPLICA, unreachable };
}

/** How good the data of an answer is: what the call says of it, or else the age of this node's replica. */
export function answerAge(
  { mesh }: { readonly mesh: Pick<PeerDirectory, "ageMs" | "unreachable"> },
  { age, time }: { readonly age?: AnswerAge | undefined; readonly time: Time },
): AnswerAge {
  return age ?? replicaAge(mesh.ageMs(time), mesh.unreachable(time));
}

/** Throws `too_stale` if the data may be older than the caller accepts, or if it may lack writes and the caller requires them. */
export function checkAge(age: Pick<AnswerAge, "ageMs" | "source" | "unreachable">, bound: StalenessBound): void {
  if (bound.maxStalenessStrict) checkReachable(age);
  if (bound.maxStaleness === undefined) return;
  const { ageMs } = age;
  const maxStalenessMs = durationMs(bound.maxStaleness);
  if (ageMs <= maxStalenessMs) return;
  const message = isKnownAge(ageMs)
    ? `the data may be ${ageMs} ms old, and the request accepts at most ${maxStalenessMs} ms`
    : `the age of the data is not known yet, and the request accepts at most ${maxStalenessMs} ms`;
  throw tooStale(message);
}

function checkReachable({ source, unreachable }: Pick<AnswerAge, "source" | "unreachable">): void {
  if (source === SOURCE.DISK) throw tooStale("max_staleness_strict: this resolver has not reached a server since it started");
  if (unreachable === undefined) return;
  const { nodeIds, count } = unreachable;
  const names = `${nodeIds.slice(0, MAX_NAMES).join(", ")}${count > MAX_NAMES ? ` and ${count - MAX_NAMES} more` : ""}`;
  throw tooStale(`max_staleness_strict: the data may lack writes of unreachable nodes: ${names}`);
}

function tooStale(message: string): WaymarkError {
  return new WaymarkError("too_stale", message, { retryMs: STALE_RETRY_MS });
}

/** Maximum number of node ids in an error message. */
const MAX_NAMES = 5;
