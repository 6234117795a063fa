/** Ends that the chain gives to calls: what it refuses them with, and when it ends a stream. */
import { WaymarkError } from "../lib/errors.ts";
import type { CallContext } from "../services/service.ts";

/** How long a client of a draining server should wait before it tries (another node). */
const DRAIN_RETRY_MS = 1_000;

export interface StreamEnd {
  readonly afterMs: number;
  readonly error: WaymarkError;
}

/** When an admitted stream is ended by us, and with what; undefined when only its client or its source ends it. */
export function streamEnd(arrival: { readonly timeoutMs: number | undefined }, { caller, time }: CallContext): StreamEnd | undefined {
  const leftMs = caller.untilWallMs === undefined ? Number.POSITIVE_INFINITY : Math.max(0, caller.untilWallMs - time.wallMs);
  const timeoutMs = arrival.timeoutMs ?? Number.POSITIVE_INFINITY;
  if (Math.min(leftMs, timeoutMs) > MAX_STREAM_MS) return undefined;
  return timeoutMs <= leftMs ? { afterMs: timeoutMs, error: expired() } : { afterMs: leftMs, error: outlived() };
}

/** Longest delay a timer takes; a stream that has longer is left alone. */
const MAX_STREAM_MS = 2 ** 31 - 1;

/** The end of a stream whose caller would not be let in any more. */
export function outlived(): WaymarkError {
  return new WaymarkError("unauthenticated", "the credential that this stream was opened with has expired; open it again with a new one");
}

/** Refusal of a call to a server that is going away. */
export function draining(): WaymarkError {
  return new WaymarkError("draining", "this node is draining; use another", { retryMs: DRAIN_RETRY_MS });
}

/** Refusal of a method whose behaviour comes with a later version. */
export function unimplemented(path: string): WaymarkError {
  return new WaymarkError("unimplemented", `${path} comes with a later version of waymark`);
}

/** Refusal of a call that is out of time. */
export function expired(): WaymarkError {
  return new WaymarkError("deadline_exceeded", "the deadline passed before the answer was ready");
}

/** A caller without a credential, where the settings want one; it is told which one. */
export function anonymousRefused(access: "none" | "read", verb: "call" | "write"): WaymarkError {
  return new WaymarkError("unauthenticated", `callers without a credential may not ${verb} here: tenants.anonymous is "${access}"`);
}
