/**
 * Rate limits: how often a caller may read and write, how often anybody may in one namespace, and how many watches a
 * caller may hold open (semantics.md, Policy). A namespace's bucket is taken from beside the caller's, never instead of it.
 */
import { WaymarkError } from "../../lib/errors.ts";
import { TokenBuckets } from "../../lib/token-bucket.ts";
import type { Caller } from "../identity/caller.ts";

/** Each 0 means no limit. The names are those of the settings. */
export interface RateLimits {
  readonly readsPerMinute: number;
  readonly writesPerMinute: number;
  /** Of one namespace, whoever asks. */
  readonly namespaceReadsPerMinute: number;
  readonly namespaceWritesPerMinute: number;
  /** Open streams of one caller. */
  readonly watches: number;
  /** What a bucket holds is what comes back in this time. */
  readonly windowMs: number;
  /** Buckets kept of each sort: tenants and principals, addresses, namespaces; for reads and for writes. */
  readonly maxKeys: number;
}

/** What a call takes a token for. */
export type Cost = "read" | "write";

/** A call that was over a limit. */
export interface Refusal {
  readonly caller: Caller;
  readonly action: Cost | "watch";
  /** Empty where no namespace was over its limit, but the caller. */
  readonly namespace: string;
  readonly reason: "rate_limited" | "quota_exceeded";
  /** Which limit, for a person. */
  readonly detail: string;
}

const MINUTE_MS = 60_000;
/** Refusals kept to be thrown again. */
const MAX_ERRORS = 1000;
/** How long to wait before opening a watch again: when another one ends nobody knows. */
const WATCH_RETRY_MS = 5_000;

export class Limits {
  readonly #limits: RateLimits;
  readonly #onRefusal: (refusal: Refusal) => void;
  readonly #callers: Readonly<Record<Cost, CallerBuckets | undefined>>;
  readonly #namespaces: Readonly<Record<Cost, TokenBuckets | undefined>>;
  /** Open watches by caller; a caller without one is not here. */
  readonly #watches = new Map<string, number>();
  /** By what they say. HOT: a flood is refused with the same few again and again; making each anew cost 8 µs. */
  readonly #errors = new Map<string, WaymarkError>();

  constructor(limits: RateLimits, onRefusal: (refusal: Refusal) => void) {
    this.#limits = limits;
    this.#onRefusal = onRefusal;
    this.#callers = {
      read: limits.readsPerMinute > 0 ? new CallerBuckets(limits, limits.readsPerMinute) : undefined,
      write: limits.writesPerMinute > 0 ? new CallerBuckets(limits, limits.writesPerMinute) : undefined,
    };
    this.#namespaces = {
      read: bucketsOf(limits, limits.namespaceReadsPerMinute),
      write: bucketsOf(limits, limits.namespaceWritesPerMinute),
    };
  }

  /** Buckets kept over all sorts. */
  get size(): number {
    const { read, write } = this.#callers;
    return [read, write, this.#namespaces.read, this.#namespaces.write].reduce((sum, buckets) => sum + (buckets?.size ?? 0), 0);
  }

  /** Callers with open watches. */
  get watcherCount(): number {
    return this.#watches.size;
  }

  /** Takes a token of the caller. Throws `discovery_rate_limited`. HOT: once a call, where a limit is set. */
  admit(caller: Caller, cost: Cost, monoMs: number): void {
    const waitMs = this.#callers[cost]?.take(caller, monoMs) ?? 0;
    if (waitMs > 0) throw this.#refused({ caller, action: cost, namespace: "", waitMs });
  }

  /**
   * Takes a token of each namespace a call admitted above concerns; of none, when one has none left: then the caller's
   * token is given back too. Throws `discovery_rate_limited`.
   */
  admitIn(namespaces: Iterable<string>, caller: Caller, cost: Cost, monoMs: number): void {
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

  /** Counts an open watch until what it returns is called. Throws `discovery_rate_limited`. */
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

  #refused(call: { caller: Caller; action: Cost | "watch"; namespace: string; waitMs: number }): WaymarkError {
    const { caller, action, namespace, waitMs } = call;
    const bound = this.#boundOf(action, namespace);
    const who = namespace === "" ? callerText(caller) : `namespace ${JSON.stringify(namespace.slice(0, 256))}`;
    const retryMs = Math.ceil(waitMs);
    this.#onRefusal({ caller, action, namespace, reason: "rate_limited", detail: `${who} has ${bound}` });
    return this.#error(`${who} has ${bound} and used them; try again in ${retryMs} ms`, retryMs);
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

  #boundOf(action: Cost | "watch", namespace: string): string {
    const limits = this.#limits;
    if (action === "watch") return `${limits.watches} open watches`;
    const isRead = action === "read";
    const own = isRead ? limits.readsPerMinute : limits.writesPerMinute;
    const shared = isRead ? limits.namespaceReadsPerMinute : limits.namespaceWritesPerMinute;
    return `${namespace === "" ? own : shared} ${action}s a minute`;
  }
}

/** Whether any limit is set: without one nothing needs to ask. */
export function areLimitsSet(limits: RateLimits): boolean {
  const { readsPerMinute, writesPerMinute, namespaceReadsPerMinute, namespaceWritesPerMinute, watches } = limits;
  return [readsPerMinute, writesPerMinute, namespaceReadsPerMinute, namespaceWritesPerMinute, watches].some((limit) => limit > 0);
}

/** Buckets of callers. Strangers are kept apart: a crowd of addresses must not make this forget what a tenant used. */
class CallerBuckets {
  readonly #known: TokenBuckets;
  readonly #strangers: TokenBuckets;

  constructor(limits: RateLimits, perMinute: number) {
    const options = bucketOptions(limits, perMinute);
    this.#known = new TokenBuckets(options);
    this.#strangers = new TokenBuckets(options);
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

  #of(caller: Caller): TokenBuckets {
    return caller.tenant === "" && caller.principal === "" ? this.#strangers : this.#known;
  }
}

/** Whose allowance a call uses: the tenant's, else the principal's, else the address's. */
export function callerKey(caller: Caller): string {
  if (caller.tenant !== "") return `tenant ${caller.tenant}`;
  return caller.principal === "" ? `address ${networkOf(caller.address)}` : `principal ${caller.principal}`;
}

/**
 * The part of an address that one stranger cannot choose: all of an IPv4 address, the first 64 bits of an IPv6 one, as
 * that much is what one customer gets.
 */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped?.[1] !== undefined) return mapped[1];
  if (!address.includes(":")) return address;
  const [head = "", tail] = (address.split("%")[0] ?? "").split("::");
  const first = head === "" ? [] : head.split(":");
  const last = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array.from({ length: zeros }, () => "0"), ...last];
  const network = groups.slice(0, 4).map((group) => group.toLowerCase().replace(/^0+(?=.)/, ""));
  return `${network.join(":")}::/64`;
}

function callerText(caller: Caller): string {
  if (caller.tenant !== "") return `tenant ${JSON.stringify(caller.tenant)}`;
  return caller.principal === "" ? "this address" : "this principal";
}

function bucketsOf(limits: RateLimits, perMinute: number): TokenBuckets | undefined {
  return perMinute > 0 ? new TokenBuckets(bucketOptions(limits, perMinute)) : undefined;
}

/** A bucket holds what comes back in a window, and at least the one token without which it would never give any. */
function bucketOptions({ windowMs, maxKeys }: RateLimits, perMinute: number) {
  const limit = Math.max(1, (perMinute * windowMs) / MINUTE_MS);
  return { limit, windowMs: (limit * MINUTE_MS) / perMinute, maxKeys };
}

/** For a watch that was never counted. */
const NOTHING = (): void => undefined;

/** Runs `act` the first time only. */
export function once(act: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    act();
  };
}
