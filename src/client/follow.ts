/**
 * Following a watch through breaks, as a state machine: it folds messages into the set of keys the reader holds, and
 * tells the reader each change once, whatever the server repeats. `follow.io.ts` gives it streams and time.
 */
import type { DiscoveryDelta } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { DiscoveryDelta_Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import type { Entry, EntryKey, HealthStatus } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type CatalogWatchResponse, CatalogWatchResponse_Snapshot } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { backoffMs } from "../lib/backoff.ts";

export type FollowEvent =
  /** The entry is new or has changed. */
  | {
      readonly kind: "put";
      readonly isNew: boolean;
      readonly key: EntryKey;
      readonly entry: Entry;
      readonly deltaId: string;
      readonly revision: bigint;
    }
  /** The entry is gone. */
  | { readonly kind: "remove"; readonly key: EntryKey; readonly deltaId: string; readonly revision: bigint }
  /** Everything up to here was told: after a snapshot, and with every bookmark. `cursor` resumes from here at any server. */
  | {
      readonly kind: "synced";
      readonly isSnapshot: boolean;
      readonly cursor: string;
      readonly revision: bigint;
      readonly heldCount: number;
    };

interface Held {
  readonly key: EntryKey;
  readonly deltaId: string;
  /** Tells a repetition from a change: an origin that is away changes the view's health, not the delta's id. */
  readonly health: HealthStatus;
}

interface Staged {
  /** Namespaces the snapshot speaks for; undefined for all. */
  readonly replaces: ReadonlySet<string> | undefined;
  readonly seen: Set<string>;
}

/** Waits between tries to open the watch again. */
const RETRY = { baseMs: 250, maxMs: 10_000 } as const;

export class Follower {
  /** What the reader holds, by key; only the delta's id, to know a repetition. */
  readonly #held = new Map<string, Held>();
  #staged: Staged | undefined;
  /** False after a start from a cursor: then the reader may hold more than was told here. */
  #knowsAll: boolean;
  #cursor: string;
  #failures = 0;

  /** `cursor` is one from an earlier run, or empty. */
  constructor(cursor: string) {
    this.#cursor = cursor;
    this.#knowsAll = cursor === "";
  }

  /** Cursor to open the next stream with; empty for a snapshot. */
  get cursor(): string {
    return this.#cursor;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** Folds one message; what the reader must be told is appended to `out`. */
  message(message: CatalogWatchResponse, out: FollowEvent[]): void {
    this.#failures = 0;
    const { snapshot } = message;
    if (snapshot === CatalogWatchResponse_Snapshot.BEGIN) {
      this.#staged = { replaces: message.replaces.length > 0 ? new Set(message.replaces) : undefined, seen: new Set() };
    }
    for (const delta of message.deltas) this.#delta(delta, out);
    const isEnd = snapshot === CatalogWatchResponse_Snapshot.END;
    if (isEnd) this.#swap(message.revision, out);
    // A cursor taken inside a snapshot would resume without its rest.
    const isWhole = this.#staged === undefined;
    const cursor = message.portableCursor === "" ? message.cursor : message.portableCursor;
    if (isWhole && cursor !== "") this.#cursor = cursor;
    if (isWhole && (isEnd || message.bookmark)) {
      out.push({ kind: "synced", isSnapshot: isEnd, cursor: this.#cursor, revision: message.revision, heldCount: this.#held.size });
    }
  }

  /** The stream ended or failed: a snapshot it was in the middle of is void. Returns how long to wait before the next try. */
  broken(chance: number, retryMs: number | undefined): number {
    this.#staged = undefined;
    const waitMs = Math.max(backoffMs(this.#failures, chance, RETRY), retryMs ?? 0);
    this.#failures += 1;
    return waitMs;
  }

  #delta(delta: DiscoveryDelta, out: FollowEvent[]): void {
    const { payload, deltaId, revision, action } = delta;
    if (payload.case === "entry" && action !== DiscoveryDelta_Action.REMOVE) {
      const { key } = payload.value;
      if (key === undefined) return;
      const text = textOf(key);
      this.#staged?.seen.add(text);
      const before = this.#held.get(text);
      const { health } = payload.value;
      if (before?.deltaId === deltaId && before.health === health) return;
      this.#held.set(text, { key, deltaId, health });
      out.push({ kind: "put", isNew: before === undefined, key, entry: payload.value, deltaId, revision });
    } else if (payload.case === "removed") {
      this.#forget(payload.value, { deltaId, revision }, out);
    }
  }

  /** A REMOVE of what the reader never had is not told, unless it may have it from an earlier run. */
  #forget(key: EntryKey, { deltaId, revision }: { readonly deltaId: string; readonly revision: bigint }, out: FollowEvent[]): void {
    const wasHeld = this.#held.delete(textOf(key));
    if (wasHeld || !this.#knowsAll) out.push({ kind: "remove", key, deltaId, revision });
  }

  /** End of a snapshot: what it speaks for and did not list is gone. */
  #swap(revision: bigint, out: FollowEvent[]): void {
    const staged = this.#staged;
    this.#staged = undefined;
    if (staged === undefined) return;
    if (staged.replaces === undefined) this.#knowsAll = true;
    for (const [text, { key, deltaId }] of this.#held) {
      const isCovered = staged.replaces === undefined || staged.replaces.has(key.namespace);
      if (isCovered && !staged.seen.has(text)) this.#forget(key, { deltaId, revision }, out);
    }
  }
}

function textOf(key: EntryKey): string {
  return [key.namespace, key.name, key.kind, key.instanceId, key.clusterId].join("\0");
}
