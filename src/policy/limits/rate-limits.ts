/**
 * Rate limits: how often one caller may read and write, how often all callers together may read and write in one namespace, and how many
 * watches a caller may have open (semantics.md, Policy). Each call uses one token from its caller's bucket, and one from the bucket of each namespace
 * that it affects.
 */

import { networkOf } from "../../lib/addresses.ts";
import type { BucketOptions, KeyedBuckets } from "../../lib/buckets/token-bucket.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../identity/caller.ts";
import { type MakeBuckets, ownBuckets } from "./shared-limits.ts";

/** The limits, with the same names as in the settings. 0 means no limit. */
export interface RateLimits {
  readonly readsPerMinute: number;
  readonly writesPerMinute: number;
  /** In one namespace, for all callers together. */
  readonly namespaceReadsPerMinute: number;
  readonly namespaceWritesPerMinute: number;
  /** Maximum number of open streams per caller. */
  readonly watches: number;
  /** A full bucket contains the number of tokens that are added in this time. */
  readonly windowMs: number;
  /** Maximum number of buckets of each kind: tenants and principals, addresses, and namespaces, each for reads and for writes. */
  readonly maxKeys: number;
}

/** The kind of bucket from which a call uses a token. */
export type CallCost = "read" | "write";

/** A call that was refused because it was over a limit. */
export interface LimitRefusal {
  readonly caller: Caller;
  readonly action: CallCost | "watch";
  /** The namespace whose limit was exceeded. Empty if the caller itself was over its limit. */
  readonly namespace: string;
  readonly reason: "rate_limited" | "quota_exceeded";
  /** Describes the limit, for people to read. */
  readonly detail: string;
}

const MINUTE_MS = 60_000;
/** Maximum number of errors that are cached. */
const MAX_ERRORS = 1000;
/** Time to wait before a client should try to open a watch again. The node cannot know when another watch will end. */
const WATCH_RETRY_MS = 5_000;

export class RateLimiter {
  readonly #limits: RateLimits;
  readonly #onRefusal: (refusal: LimitRefusal) => void;
  readonly #callers: Readonly<Record<CallCost, CallerBuckets | undefined>>;
  readonly #namespaces: Readonly<Record<CallCost, KeyedBuckets | undefined>>;
  /** The number of open watches of each caller. The map contains only callers with open watches. */
  readonly #watches = new Map<string, number>();
  /** Cached errors, by their message. HOT: a flood of calls produces the same few errors repeatedly, and creating each error cost 8 µs. */
  readonly #errors = new Map<string, WaymarkError>();

  constructor(limits: RateLimits, onRefusal: (refusal: LimitRefusal) => void, makeBuckets: MakeBuckets = ownBuckets) {
    this.#limits = limits;
    this.#onRefusal = onRefusal;
    const make = (sort: string, perMinute: number) => makeBuckets(sort, bucketOptions(limits, perMinute));
    const { readsPerMinute, writesPerMinute, namespaceReadsPerMinute, namespaceWritesPerMinute } = limits;
    this.#callers = {
      read: readsPerMinute > 0 ? new CallerBuckets((who) => make(`read ${who}`, readsPerMinute)) : undefined,
      write: writesPerMinute > 0 ? new CallerBuckets((who) => make(`write ${who}`, writesPerMinute)) : undefined,
    };
    this.#namespaces = {
      read: namespaceReadsPerMinute > 0 ? make("read namespaces", namespaceReadsPerMinute) : undefined,
      write: namespaceWritesPerMinute > 0 ? make("write namespaces", namespaceWritesPerMinute) : undefined,
    };
  }

  /** Number of buckets of all kinds together. */
  get size(): number {
    const { read, write } = this.#callers;
    return [read, write, this.#namespaces.read, this.#namespaces.write].reduce((sum, buckets) => sum + (buckets?.size ?? 0), 0);
  }

  /** Number of callers with open watches. */
  get watcherCount(): number {
    return this.#watches.size;
  }

  /** Uses a token from the caller's bucket. Throws `discovery_rate_limited` if the bucket is empty. HOT: runs once per call if a limit is set. */
  admit(caller: Caller, cost: CallCost, monoMs: number): void {
    const waitMs = this.#callers[cost]?.take(caller, monoMs) ?? 0;
    if (waitMs > 0) throw this.#refused({ caller, action: cost, namespace: "", waitMs });
  }

  /**
   * Uses a token from the bucket of each namespace that an admitted call affects. If one of these buckets is empty, uses no token, returns the
   * caller's token to its bucket, and throws `discovery_rate_limited`.
   */
  admitIn(namespaces: Iterable<string>, caller: Caller, cost: CallCost, monoMs: number): void {
    const buckets = this.#namespaces[cost];
    if (buckets === undefined) return;
    const taken = new Set<string>();
    for (const namespace of namespaces) {
      if (taken.has(namespace)) continue;
      const waitMs = buckets.take(namespace, monoMs);
      if (waitMs === 0) {
        taken.add(namespace);
        continue;
      }
      for (const other of taken) buckets.giveBack(other);
      this.#callers[cost]?.giveBack(caller);
      throw this.#refused({ caller, action: cost, namespace, waitMs });
    }
  }

  /** Counts an open watch until the returned function is called. Throws `discovery_rate_limited`. */
  openWatch(caller: Caller): () => void {
    const { watches } = this.#limits;
    if (watches === 0) return NOTHING;
    const key = callerKey(caller);
    const open = this.#watches.get(key) ?? 0;
    if (open >= watches) throw this.#refused({ caller, action: "watch", namespace: "", waitMs: WATCH_RETRY_MS });
    this.#watches.set(key, open + 1);
    return once(() => {
      const left = (this.#watches.get(key) ?? 1) - 1;
      if (left === 0) this.#watches.delete(key);
      else this.#watches.set(key, left);
    });
  }

  #refused(call: { caller: Caller; action: CallCost | "watch"; namespace: string; waitMs: number }): WaymarkError {
    const { caller, action, namespace, waitMs } = call;
    const bound = this.#boundOf(action, namespace);
    const who = namespace === "" ? callerText(caller) : `namespace ${JSON.stringify(namespace.slice(0, 256))}`;
    const retryMs = Math.ceil(waitMs);
    this.#onRefusal({ caller, action, namespace, reason: "rate_limited", detail: `${who} has a limit of ${bound}` });
    const retry = retryMs > 10_000 ? `${Math.ceil(retryMs / 1000)} s` : `${retryMs} ms`;
    return this.#error(`limit exceeded: ${who} has a limit of ${bound}; try again in ${retry}`, retryMs);
  }

  #error(message: string, retryMs: number): WaymarkError {
    let error = this.#errors.get(message);
    if (error === undefined) {
      error = new WaymarkError("discovery_rate_limited", message, { retryMs });
      if (this.#errors.size >= MAX_ERRORS) this.#errors.clear();
      this.#errors.set(message, error);
    }
    return error;
  }

  #boundOf(action: CallCost | "watch", namespace: string): string {
    const limits = this.#limits;
    if (action === "watch") return `${limits.watches} open watches`;
    const isRead = action === "read";
    const own = isRead ? limits.readsPerMinute : limits.writesPerMinute;
    const shared = isRead ? limits.namespaceReadsPerMinute : limits.namespaceWritesPerMinute;
    return `${namespace === "" ? own : shared} ${action}s per minute`;
  }
}

/** Whether any limit is set. If not, calls need not be checked. */
export function areLimitsSet(limits: RateLimits): boolean {
  const { readsPerMinute, writesPerMinute, namespaceReadsPerMinute, namespaceWritesPerMinute, watches } = limits;
  return [readsPerMinute, writesPerMinute, namespaceReadsPerMinute, namespaceWritesPerMinute, watches].some((limit) => limit > 0);
}

/**
 * Buckets of callers. Anonymous callers have separate buckets, so that calls from a large number of addresses cannot displace the tenants' buckets.
 */
class CallerBuckets {
  readonly #known: KeyedBuckets;
  readonly #strangers: KeyedBuckets;

  constructor(make: (who: string) => KeyedBuckets) {
    this.#known = make("known");
    this.#strangers = make("strangers");
  }

  get size(): number {
    return this.#known.size + this.#strangers.size;
  }

  take(caller: Caller, monoMs: number): number {
    return this.#of(caller).take(callerKey(caller), monoMs);
  }

  giveBack(caller: Caller): void {
    this.#of(caller).giveBack(callerKey(caller));
  }

  #of(caller: Caller): KeyedBuckets {
    return caller.tenant === "" && caller.principal === "" ? this.#strangers : this.#known;
  }
}

/** Returns the key of a caller's bucket: the caller's tenant, or else its principal, or else its address. */
export function callerKey(caller: Caller): string {
  if (caller.tenant !== "") return `tenant ${caller.tenant}`;
  return caller.principal === "" ? `address ${networkOf(caller.address)}` : `principal ${caller.principal}`;
}

/** Names a caller in errors, as `callerKey` identifies it. */
export function callerText(caller: Caller): string {
  if (caller.tenant !== "") return `tenant ${JSON.stringify(caller.tenant)}`;
  return caller.principal === "" ? "this address" : "this principal";
}

/**
 * Returns the options for a bucket that holds the tokens of one window. It holds at least one token, because otherwise it would never admit a call.
 */
function bucketOptions({ windowMs, maxKeys }: RateLimits, perMinute: number): BucketOptions {
  const limit = Math.max(1, (perMinute * windowMs) / MINUTE_MS);
  return { limit, windowMs: (limit * MINUTE_MS) / perMinute, maxKeys };
}

/** Does nothing, because the watch was never counted. */
const NOTHING = (): void => undefined;

/** Returns a function that calls `act` only once, however often it is called. */
export function once(act: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    act();
  };
}
