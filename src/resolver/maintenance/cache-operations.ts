/**
 * Cache operations for operators: `resync` fetches namespaces again, `prewarm` fetches them before callers request them, and `evict` releases them
 * (semantics.md, Resolver 21).
 */

import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { FetchedCache } from "../fetching/fetched-cache.ts";
import type { UpstreamWatches, WatchOrders } from "../watching/upstream-watches.ts";
import type { WatchSelection } from "../watching/watch-selection.ts";
import { type OwnReason, ResyncNotes, type ResyncOrders, type ResyncReason } from "./resync-notes.ts";

export type CacheOperation = "resync" | "prewarm" | "evict";

/** The number of entries that were fetched or released. */
export type OperationOutcome = { readonly entryCount: number } | { readonly error: WaymarkError };

export interface OperationRequest {
  readonly act: CacheOperation;
  /**
   * Namespaces, each including the namespaces below it. An empty list means all namespaces. Request validation rejects an empty list for `prewarm`.
   */
  readonly namespaces: readonly string[];
  /** Called once, possibly later. */
  readonly onOutcome: (outcome: OperationOutcome) => void;
}

export interface CacheOperationsParts {
  /** The followed entries. */
  readonly lookup: EntryIndex;
  readonly fetched: FetchedCache;
  readonly following: WatchSelection;
  readonly watches: UpstreamWatches;
}

interface PendingOperation {
  readonly untilMonoMs: number;
  /** Returns the outcome. Undefined while the operation continues. */
  readonly look: (monoMs: number) => OperationOutcome | undefined;
  readonly onOutcome: (outcome: OperationOutcome) => void;
}

/** Maximum number of operations that can wait at the same time. */
const MAX_WAITING = 100;
const MAX_WAIT_MS = 60_000;
const RETRY_MS = 1000;

export class CacheOperations {
  readonly resyncs: Record<ResyncReason, number> = { operator: 0, digest: 0, gap: 0, policy: 0 };
  readonly #parts: CacheOperationsParts;
  readonly #notes = new ResyncNotes();
  #waiting: readonly PendingOperation[] = [];

  constructor(parts: CacheOperationsParts) {
    this.#parts = parts;
  }

  nextDeadlineMs(): number {
    return Math.min(NEVER, this.#notes.nextDeadlineMs(), ...this.#waiting.map(({ untilMonoMs }) => untilMonoMs));
  }

  /** Begins an operation. `isCutOff` means that no upstream responds. */
  begin({ act, namespaces, onOutcome }: OperationRequest, isCutOff: boolean, time: Time, out: WatchOrders): void {
    const prefixes = new NamespacePrefixes(namespaces.length === 0 ? [""] : namespaces);
    try {
      if (act === "evict") onOutcome({ entryCount: this.#evict(prefixes) });
      else {
        if (isCutOff) throw new WaymarkError("not_ready", "this resolver cannot reach any upstream; retry", { retryMs: RETRY_MS });
        if (this.#waiting.length >= MAX_WAITING)
          throw new WaymarkError("not_ready", `${MAX_WAITING} resync and prewarm calls are already running; retry`, { retryMs: RETRY_MS });
        const look = act === "resync" ? this.#resync(prefixes, time, out) : this.#prewarm(prefixes, time);
        this.#waiting = [...this.#waiting, { untilMonoMs: time.monoMs + MAX_WAIT_MS, look, onOutcome }];
      }
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      onOutcome({ error });
    }
  }

  /** Fetches these prefixes again, because a digest check found differences from the upstream. */
  repair(prefixes: readonly string[], time: Time, out: WatchOrders): void {
    if (prefixes.length === 0) return;
    this.resynced("digest", prefixes);
    this.#parts.watches.fetchAgain(prefixes, time, out);
  }

  /** Counts and records that namespaces below these prefixes are fetched again without an operator request. */
  resynced(reason: OwnReason, prefixes: readonly string[]): void {
    this.resyncs[reason] += 1;
    this.#notes.note(reason, prefixes);
  }

  /** Reports the resyncs that have not been reported yet. `upstream` is the source of the last input. */
  report(upstream: string | undefined, { monoMs }: Time, out: ResyncOrders): void {
    this.#notes.report(upstream ?? "", monoMs, out);
  }

  /** Completes operations whose entries have arrived, and fails operations that waited too long. */
  adjust({ monoMs }: Time): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      const outcome = one.look(monoMs) ?? (monoMs >= one.untilMonoMs ? { error: tooLong() } : undefined);
      if (outcome === undefined) this.#waiting = [...this.#waiting, one];
      else one.onOutcome(outcome);
    }
  }

  /** Fails all waiting operations, because the upstream was lost. */
  fail(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const error = new WaymarkError("not_ready", "the upstream was lost during the fetch; retry", { retryMs: RETRY_MS });
    for (const { onOutcome } of waiting) onOutcome({ error });
  }

  #resync(prefixes: NamespacePrefixes, time: Time, out: WatchOrders): PendingOperation["look"] {
    const { fetched, watches } = this.#parts;
    fetched.outdateBelow(prefixes);
    watches.fetchAgain(prefixes.list, time, out);
    // Only followed prefixes are fetched again.
    if (watches.isFetchingAgain) this.resyncs.operator += 1;
    return () => (watches.isFetchingAgain ? undefined : { entryCount: this.#entriesBelow(prefixes) });
  }

  #prewarm(prefixes: NamespacePrefixes, time: Time): PendingOperation["look"] {
    const { following, watches } = this.#parts;
    const { list } = prefixes;
    const added = following.prewarm(list, time.monoMs);
    return (monoMs) => {
      // Namespaces that were released will not arrive.
      const gone = list.filter((namespace) => !following.prefixes.covers(namespace));
      if (gone.length === 0) return list.every((one) => watches.isComplete(one)) ? { entryCount: this.#entriesBelow(prefixes) } : undefined;
      following.release(added);
      watches.release();
      return {
        error: goneError(
          gone,
          gone.filter((namespace) => following.isRoomless(namespace, monoMs)),
        ),
      };
    };
  }

  #evict(prefixes: NamespacePrefixes): number {
    const { fetched, following, lookup, watches } = this.#parts;
    const fetchedCount = fetched.drop(prefixes);
    const before = following.prefixes;
    following.evict(prefixes);
    watches.release();
    const isGone = (namespace: string) => before.covers(namespace) && !following.prefixes.covers(namespace);
    return fetchedCount + countIn(lookup, isGone);
  }

  #entriesBelow(prefixes: NamespacePrefixes): number {
    return countIn(this.#parts.lookup, (namespace) => prefixes.covers(namespace));
  }
}

function countIn(lookup: EntryIndex, isIn: (namespace: string) => boolean): number {
  return lookup.namespaces.list().reduce((sum, namespace) => sum + (isIn(namespace) ? lookup.namespaceCount(namespace) : 0), 0);
}

function tooLong(): WaymarkError {
  return new WaymarkError("not_ready", `not all entries arrived within ${MAX_WAIT_MS / 1000} s; fetching continues`);
}

/** Explains why namespaces stopped being followed before they were complete. `roomless` contains the namespaces that did not fit. */
function goneError(gone: readonly string[], roomless: readonly string[]): WaymarkError {
  if (roomless.length === 0)
    return new WaymarkError("not_ready", `${namesText(gone)} was released before it was complete; retry`, { retryMs: RETRY_MS });
  const rule =
    "does not fit into this resolver (resolver.max_entries, resolver.max_bytes), so none of these namespaces was added; prewarm fewer";
  return new WaymarkError("quota_exceeded", `${namesText(roomless)} ${rule}`);
}

/** Formats namespaces as the first namespace and the number of other namespaces. */
function namesText([first = "", ...others]: readonly string[]): string {
  return others.length === 0 ? `"${first}"` : `"${first}" (and ${others.length} more)`;
}
