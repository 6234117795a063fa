/** What operators do to the cache of a resolver: fetch namespaces again, or before somebody asks, or let them go (semantics.md, Resolver 21). */

import type { Lookup } from "../../catalog/query/lookup.ts";
import { Prefixes } from "../../catalog/query/prefixes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Fetched } from "../fetched.ts";
import type { Following } from "../following.ts";
import type { Watches, WatchOrders } from "../watches.ts";

/**
 * Why namespaces that were there were fetched whole again. `operator`: by a call. `digest`: count or digest differed from the upstream's. `gap`: an upstream
 * could not go on from our place. `policy`: the policy of the upstream changed, and it sent what that concerns anew.
 */
export const RESYNC_REASONS = ["operator", "digest", "gap", "policy"] as const;
export type ResyncReason = (typeof RESYNC_REASONS)[number];

export const CACHE_ACTS = ["resync", "prewarm", "evict"] as const;
export type CacheAct = (typeof CACHE_ACTS)[number];

/** The number of entries that were fetched, or that were let go. */
export type ActOutcome = { readonly entryCount: number } | { readonly error: WaymarkError };

export interface ActRequest {
  readonly act: CacheAct;
  /** Each with all that are below it. None stands for all. */
  readonly namespaces: readonly string[];
  /** Called once, maybe later. */
  readonly told: (outcome: ActOutcome) => void;
}

export interface CacheActsParts {
  /** What is followed. */
  readonly lookup: Lookup;
  readonly fetched: Fetched;
  readonly following: Following;
  readonly watches: Watches;
}

interface Waiting {
  readonly prefixes: Prefixes;
  readonly untilMonoMs: number;
  readonly isDone: () => boolean;
  readonly told: (outcome: ActOutcome) => void;
}

/** Most calls that wait at once. */
const MAX_WAITING = 100;
const MAX_WAIT_MS = 60_000;
const RETRY_MS = 1000;

export class CacheActs {
  readonly resyncs: Record<ResyncReason, number> = { operator: 0, digest: 0, gap: 0, policy: 0 };
  readonly #parts: CacheActsParts;
  #waiting: readonly Waiting[] = [];

  constructor(parts: CacheActsParts) {
    this.#parts = parts;
  }

  nextDeadlineMs(): number {
    return Math.min(NEVER, ...this.#waiting.map(({ untilMonoMs }) => untilMonoMs));
  }

  /** Begins what is asked for. `isCutOff`: no upstream answers. */
  begin({ act, namespaces, told }: ActRequest, isCutOff: boolean, time: Time, out: WatchOrders): void {
    const prefixes = new Prefixes(namespaces.length === 0 ? [""] : namespaces);
    try {
      if (act === "evict") told({ entryCount: this.#evict(prefixes) });
      else {
        if (isCutOff)
          throw new WaymarkError("not_ready", "this resolver reaches no server from which it could fetch", { retryMs: RETRY_MS });
        if (this.#waiting.length >= MAX_WAITING)
          throw new WaymarkError("not_ready", `${MAX_WAITING} such calls are under way already; try again`, { retryMs: RETRY_MS });
        const isDone = act === "resync" ? this.#resync(prefixes, time, out) : this.#prewarm(prefixes, time);
        this.#waiting = [...this.#waiting, { prefixes, untilMonoMs: time.monoMs + MAX_WAIT_MS, isDone, told }];
      }
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      told({ error });
    }
  }

  /** These prefixes differ from what the upstream has. */
  repair(prefixes: readonly string[], time: Time, out: WatchOrders): void {
    if (prefixes.length === 0) return;
    this.resyncs.digest += 1;
    this.#parts.watches.fetchAgain(prefixes, time, out);
  }

  /** Tells those that waited for what is there now, or that waited for too long. */
  adjust({ monoMs }: Time): void {
    if (this.#waiting.length === 0) return;
    const isOver = ({ untilMonoMs, isDone }: Waiting) => isDone() || monoMs >= untilMonoMs;
    const over = this.#waiting.filter(isOver);
    this.#waiting = this.#waiting.filter((waiting) => !over.includes(waiting));
    for (const { isDone, prefixes, told } of over)
      if (isDone()) told({ entryCount: this.#entriesBelow(prefixes) });
      else told({ error: new WaymarkError("not_ready", `not everything was here after ${MAX_WAIT_MS / 1000} s; fetching goes on`) });
  }

  /** The upstream is lost, and with it what was being fetched. */
  fail(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const error = new WaymarkError("not_ready", "the server was lost from which this was being fetched; try again", { retryMs: RETRY_MS });
    for (const { told } of waiting) told({ error });
  }

  #resync(prefixes: Prefixes, time: Time, out: WatchOrders): () => boolean {
    const { fetched, watches } = this.#parts;
    this.resyncs.operator += 1;
    fetched.outdateBelow(prefixes);
    watches.fetchAgain(prefixes.list, time, out);
    return () => !watches.isFetchingAgain;
  }

  #prewarm({ list }: Prefixes, { monoMs }: Time): () => boolean {
    const { following, watches } = this.#parts;
    following.prewarm(list, monoMs);
    // What was let go meanwhile will not come.
    return () => list.every((namespace) => watches.isComplete(namespace) || !following.prefixes.covers(namespace));
  }

  #evict(prefixes: Prefixes): number {
    const { fetched, following, lookup, watches } = this.#parts;
    const fetchedCount = fetched.drop(prefixes);
    const before = following.prefixes;
    following.evict(prefixes);
    watches.letGo();
    const isGone = (namespace: string) => before.covers(namespace) && !following.prefixes.covers(namespace);
    return fetchedCount + countIn(lookup, isGone);
  }

  #entriesBelow(prefixes: Prefixes): number {
    return countIn(this.#parts.lookup, (namespace) => prefixes.covers(namespace));
  }
}

function countIn(lookup: Lookup, isIn: (namespace: string) => boolean): number {
  return lookup.namespaces.list().reduce((sum, namespace) => sum + (isIn(namespace) ? lookup.namespaceCount(namespace) : 0), 0);
}
