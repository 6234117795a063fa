/** What operators do to the cache of a resolver: fetch namespaces again, or before somebody asks, or let them go (semantics.md, Resolver 21). */

import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { FetchedCache } from "../fetching/fetched-cache.ts";
import type { UpstreamWatches, WatchOrders } from "../watching/upstream-watches.ts";
import type { WatchSelection } from "../watching/watch-selection.ts";
import { type OwnReason, ResyncNotes, type ResyncOrders, type ResyncReason } from "./resync-notes.ts";

export type CacheOperation = "resync" | "prewarm" | "evict";

/** The number of entries that were fetched, or that were let go. */
export type OperationOutcome = { readonly entryCount: number } | { readonly error: WaymarkError };

export interface OperationRequest {
  readonly act: CacheOperation;
  /** Each with all that are below it. None stands for all, which `prewarm` is never asked for: the contract's rules refuse it. */
  readonly namespaces: readonly string[];
  /** Called once, maybe later. */
  readonly told: (outcome: OperationOutcome) => void;
}

export interface CacheOperationsParts {
  /** What is followed. */
  readonly lookup: EntryIndex;
  readonly fetched: FetchedCache;
  readonly following: WatchSelection;
  readonly watches: UpstreamWatches;
}

interface PendingOperation {
  readonly untilMonoMs: number;
  /** What has become of it. Undefined: it goes on. */
  readonly look: (monoMs: number) => OperationOutcome | undefined;
  readonly told: (outcome: OperationOutcome) => void;
}

/** Most calls that wait at once. */
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

  /** Begins what is asked for. `isCutOff`: no upstream answers. */
  begin({ act, namespaces, told }: OperationRequest, isCutOff: boolean, time: Time, out: WatchOrders): void {
    const prefixes = new NamespacePrefixes(namespaces.length === 0 ? [""] : namespaces);
    try {
      if (act === "evict") told({ entryCount: this.#evict(prefixes) });
      else {
        if (isCutOff)
          throw new WaymarkError("not_ready", "this resolver reaches no server from which it could fetch", { retryMs: RETRY_MS });
        if (this.#waiting.length >= MAX_WAITING)
          throw new WaymarkError("not_ready", `${MAX_WAITING} such calls are under way already; try again`, { retryMs: RETRY_MS });
        const look = act === "resync" ? this.#resync(prefixes, time, out) : this.#prewarm(prefixes, time);
        this.#waiting = [...this.#waiting, { untilMonoMs: time.monoMs + MAX_WAIT_MS, look, told }];
      }
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      told({ error });
    }
  }

  /** These prefixes differ from what the upstream has. */
  repair(prefixes: readonly string[], time: Time, out: WatchOrders): void {
    if (prefixes.length === 0) return;
    this.resynced("digest", prefixes);
    this.#parts.watches.fetchAgain(prefixes, time, out);
  }

  /** Namespaces below these prefixes are fetched whole again, and no operator asked for it. */
  resynced(reason: OwnReason, prefixes: readonly string[]): void {
    this.resyncs[reason] += 1;
    this.#notes.note(reason, prefixes);
  }

  /** Tells what was fetched whole again, and was not told yet. `upstream`: from which the last input came. */
  tell(upstream: string | undefined, { monoMs }: Time, out: ResyncOrders): void {
    this.#notes.tell(upstream ?? "", monoMs, out);
  }

  /** Tells those that waited for what is there now, or that waited for too long. */
  adjust({ monoMs }: Time): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      const outcome = one.look(monoMs) ?? (monoMs >= one.untilMonoMs ? { error: tooLong() } : undefined);
      if (outcome === undefined) this.#waiting = [...this.#waiting, one];
      else one.told(outcome);
    }
  }

  /** The upstream is lost, and with it what was being fetched. */
  fail(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const error = new WaymarkError("not_ready", "the server was lost from which this was being fetched; try again", { retryMs: RETRY_MS });
    for (const { told } of waiting) told({ error });
  }

  #resync(prefixes: NamespacePrefixes, time: Time, out: WatchOrders): PendingOperation["look"] {
    const { fetched, watches } = this.#parts;
    fetched.outdateBelow(prefixes);
    watches.fetchAgain(prefixes.list, time, out);
    // Of what is not followed nothing is fetched again.
    if (watches.isFetchingAgain) this.resyncs.operator += 1;
    return () => (watches.isFetchingAgain ? undefined : { entryCount: this.#entriesBelow(prefixes) });
  }

  #prewarm(prefixes: NamespacePrefixes, time: Time): PendingOperation["look"] {
    const { following, watches } = this.#parts;
    const { list } = prefixes;
    const added = following.prewarm(list, time.monoMs);
    return (monoMs) => {
      // What was let go will not come.
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
  return new WaymarkError("not_ready", `not everything was here after ${MAX_WAIT_MS / 1000} s; fetching goes on`);
}

/** Why namespaces are followed no more before they were there. `roomless`: those of them that did not fit. */
function goneError(gone: readonly string[], roomless: readonly string[]): WaymarkError {
  if (roomless.length === 0)
    return new WaymarkError("not_ready", `${named(gone)} was let go before it was here; try again`, { retryMs: RETRY_MS });
  const rule = "does not fit this resolver (resolver.max_entries, resolver.max_bytes), so that nothing is followed anew; prewarm less";
  return new WaymarkError("quota_exceeded", `${named(roomless)} ${rule}`);
}

/** The first of some namespaces, and how many others there are. */
function named([first = "", ...others]: readonly string[]): string {
  return others.length === 0 ? `"${first}"` : `"${first}" (and ${others.length} more)`;
}
