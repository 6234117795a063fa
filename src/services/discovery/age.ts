/** How old an answer may be: what callers accept, and from when on an answer is called stale. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import { isKnownAge } from "../../lib/duration.ts";
import { WaymarkError } from "../../lib/errors.ts";
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
}

/** The age of what a node answers from its replica. An unknown age is counted from 1970, so it is stale too. */
export function replicaAge(ageMs: number): AnswerAge {
  return { ageMs: Math.round(ageMs), isStale: ageMs > STALE_AGE_MS, source: SOURCE.REPLICA };
}

/** Throws `too_stale` when the data may be older than the caller accepts. */
export function checkAge(ageMs: number, maxStaleness: Duration): void {
  const maxStalenessMs = durationMs(maxStaleness);
  if (ageMs <= maxStalenessMs) return;
  const message = isKnownAge(ageMs)
    ? `the data may be ${ageMs} ms old, and the request accepts at most ${maxStalenessMs} ms`
    : `the age of the data is not known yet, and the request accepts at most ${maxStalenessMs} ms`;
  throw new WaymarkError("too_stale", message, { retryMs: STALE_RETRY_MS });
}
