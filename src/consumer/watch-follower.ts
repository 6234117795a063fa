/**
 * Follows a watch across broken streams. This state machine applies messages to the set of keys that the reader has, and emits each change once,
 * even if the server repeats it. The caller opens the streams and waits (`client/follow.io.ts`).
 */
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { type DiscoveryDelta, DiscoveryDelta_Action, DiscoveryDelta_Cause } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { type Entry, type EntryKey, EntryKeySchema, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { ServiceSummary } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { Snapshot, type UnreachableNodes } from "../../gen/waymark/catalog/v1/watch_pb.js";
import type { CatalogWatchResponse } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { returnMs } from "../lib/backoff.ts";
import { UnconfirmedKeys } from "./unconfirmed-keys.ts";

/** An event in a watch of entries or summaries. */
export type FollowEvent<Item = Entry> =
  /**
   * The entry is new or has changed. `isStaged`: whether it is part of an incomplete snapshot. A `synced` event follows when the snapshot is
   * complete.
   */
  | {
      readonly kind: "put";
      readonly isNew: boolean;
      readonly isStaged: boolean;
      readonly key: EntryKey;
      readonly entry: Item;
      readonly deltaId: string;
      readonly revision: bigint;
      /** In the operator's view: the rule that hides the entry otherwise. Absent if it is not hidden. */
      readonly hiddenBy?: string;
    }
  /** The entry was removed. */
  | {
      readonly kind: "remove";
      readonly cause: RemovalCause;
      readonly isStaged: boolean;
      readonly key: EntryKey;
      readonly deltaId: string;
      readonly revision: bigint;
    }
  /**
   * All changes up to this point have been sent. This event follows each snapshot and each bookmark. From this point, a watch can resume with
   * `cursor` on any server.
   */
  | {
      readonly kind: "synced";
      readonly isSnapshot: boolean;
      readonly cursor: string;
      readonly revision: bigint;
      readonly heldCount: number;
      /**
       * Upper bound of the age of the server's data at this message, in ms. Infinite if the server does not report one, as in the first version.
       */
      readonly ageMs: number;
      /** Whether the server reports a problem with its data, for example because it is partitioned. */
      readonly isStale: boolean;
      /** Nodes that are not included in the age, because the server cannot reach them. Absent if there are none. */
      readonly unreachable?: UnreachableSample | undefined;
      /** The node or resolver that sent the message. */
      readonly servedBy: string;
    };

/** Nodes that a server cannot reach but that may still accept writes: their total number, and the first few IDs. */
export type UnreachableSample = Pick<UnreachableNodes, "count" | "nodeIds">;

/**
 * Why an entry was removed: it was unregistered; it expired; its source node is unreachable (`origin_away`); it no longer matches the filter; a full
 * snapshot does not list it (`absent`); or a snapshot of its namespace does not list it (`withdrawn`, for example after a policy change). Older
 * servers do not send a cause.
 */
export type RemovalCause = "unregistered" | "expired" | "origin_away" | "no_match" | "absent" | "withdrawn" | "unknown";

interface HeldItem {
  readonly key: EntryKey;
  readonly deltaId: string;
  /** Distinguishes a repetition from a change with the same delta ID (`ReadItem`). */
  readonly state: number;
}

/** The key and item of a delta that puts an item. */
export interface ReadItem<Item> {
  readonly key: EntryKey;
  readonly item: Item;
  /**
   * A value that can change without a new delta: the health of an entry whose source node is unreachable, or the staleness of a summary
   * whose source is lost.
   */
  readonly state: number;
}

/** Reads the payload of a delta that puts an item. Returns undefined for other deltas. */
export type PayloadReader<Item> = (payload: DiscoveryDelta["payload"]) => ReadItem<Item> | undefined;

/** The fields of a watch message, of entries or of summaries. */
export type WatchMessage = Pick<
  CatalogWatchResponse,
  | "age"
  | "bookmark"
  | "cursor"
  | "deltas"
  | "portableCursor"
  | "replaces"
  | "revision"
  | "servedBy"
  | "snapshot"
  | "stale"
  | "unreachableNodes"
> &
  Partial<Pick<CatalogWatchResponse, "hiddenBy">>;

export const readEntryPayload: PayloadReader<Entry> = (payload) => {
  if (payload.case !== "entry" || payload.value.key === undefined) return undefined;
  return { key: payload.value.key, item: payload.value, state: payload.value.health };
};

/** By number. */
const CHANNELS: Readonly<Record<number, string>> = { [Scope.ZONE]: "zone", [Scope.REGION]: "region", [Scope.GLOBAL]: "global" };

/** As in a REMOVE, the instance ID of the key is the channel, and the cluster ID is the source. */
export const readSummaryPayload: PayloadReader<ServiceSummary> = (payload) => {
  if (payload.case !== "summary") return undefined;
  const { kind, namespace, serviceId, scope, sourceCluster, stale } = payload.value;
  const key = create(EntryKeySchema, { kind, namespace, name: serviceId, instanceId: CHANNELS[scope] ?? "", clusterId: sourceCluster });
  return { key, item: payload.value, state: stale ? 1 : 0 };
};

interface StagedSnapshot {
  /** Namespaces that the snapshot covers. Undefined for all. */
  readonly replaces: ReadonlySet<string> | undefined;
  readonly seen: Set<string>;
}

type Removal = Omit<Extract<FollowEvent, { kind: "remove" }>, "kind" | "key">;

export class WatchFollower<Item = Entry> {
  /** The reader's items by key, with only the fields needed to recognize a repetition. */
  readonly #held = new Map<string, HeldItem>();
  #staged: StagedSnapshot | undefined;
  /** Whether all of the reader's items were emitted by this follower. False after a start from a cursor. */
  #knowsAll: boolean;
  /** A cursor that every server accepts. Empty requests a snapshot. */
  #portable: string;
  /** A cursor that only the server that issued it accepts, until that server restarts. */
  #short: { readonly server: string; readonly cursor: string } | undefined;
  #server = "";
  readonly #unconfirmed = new UnconfirmedKeys();
  #isDoubtful = false;
  #failures = 0;

  readonly #tellsUnknown: boolean;
  readonly #seen: PayloadReader<Item>;

  /**
   * `cursor` is from an earlier run, or is empty. `tellsUnknown` means that removals of unknown keys are also emitted. A reader that holds lost
   * entries needs these events to detect that one of them was unregistered. `seen` is `readEntryPayload` or `readSummaryPayload`.
   */
  constructor(cursor: string, { tellsUnknown = false, seen }: { readonly tellsUnknown?: boolean; readonly seen: PayloadReader<Item> }) {
    this.#portable = cursor;
    this.#seen = seen;
    this.#tellsUnknown = tellsUnknown;
    this.#knowsAll = cursor === "";
  }

  /** Returns the cursor for the next stream on this server. Empty requests a snapshot. */
  open(server: string): string {
    this.#server = server;
    this.#isDoubtful = false;
    if (this.#short?.server === server) return this.#short.cursor;
    this.#short = undefined;
    if (!this.#unconfirmed.switchServer()) this.#portable = "";
    return this.#portable;
  }

  /** Whether the reader has entries that are unknown to this server. If so, the stream must be opened again with a snapshot. */
  get hasUnconfirmed(): boolean {
    return this.#isDoubtful;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** Applies one message, and appends the events for the reader to `out`. */
  message(message: WatchMessage, out: FollowEvent<Item>[]): void {
    this.#failures = 0;
    const { snapshot } = message;
    if (snapshot === Snapshot.BEGIN) {
      this.#staged = { replaces: message.replaces.length > 0 ? new Set(message.replaces) : undefined, seen: new Set() };
    }
    for (const delta of message.deltas) this.#delta(delta, message.hiddenBy?.[delta.namespace], out);
    const isEnd = snapshot === Snapshot.END;
    if (isEnd) this.#swap(message.revision, out);
    // A cursor from the middle of a snapshot would resume without the rest of it.
    if (this.#staged !== undefined) return;
    const isSynced = isEnd || message.bookmark;
    if (isSynced && this.#unconfirmed.hasUnconfirmed) {
      this.#portable = "";
      this.#short = undefined;
      this.#isDoubtful = true;
      return;
    }
    if (message.cursor !== "") this.#short = { server: this.#server, cursor: message.cursor };
    if (message.portableCursor !== "") {
      this.#portable = message.portableCursor;
      this.#unconfirmed.checkpoint();
    }
    if (!isSynced) return;
    const { revision, servedBy, age, stale: isStale, unreachableNodes: unreachable } = message;
    const ageMs = age === undefined ? Number.POSITIVE_INFINITY : durationMs(age);
    const heldCount = this.#held.size;
    out.push({ kind: "synced", isSnapshot: isEnd, cursor: this.#portable, revision, heldCount, ageMs, isStale, unreachable, servedBy });
  }

  /**
   * Records that the stream has ended or failed. An unfinished snapshot is discarded. `isAway` means that the server may return as another process,
   * for which its short cursors are invalid. Returns the delay before the next attempt, in ms.
   */
  broken(chance: number, { retryMs, isAway }: { readonly retryMs?: number | undefined; readonly isAway: boolean }): number {
    this.#staged = undefined;
    if (isAway) this.#short = undefined;
    const waitMs = Math.max(returnMs(this.#failures, chance), retryMs ?? 0);
    this.#failures += 1;
    return waitMs;
  }

  #delta(delta: DiscoveryDelta, hiddenBy: string | undefined, out: FollowEvent<Item>[]): void {
    const { payload, deltaId, revision, action } = delta;
    const seen = action === DiscoveryDelta_Action.REMOVE ? undefined : this.#seen(payload);
    if (seen !== undefined) {
      const { key, item, state } = seen;
      const text = entryKeyText(key);
      this.#unconfirmed.confirm(text);
      this.#staged?.seen.add(text);
      const before = this.#held.get(text);
      if (before?.deltaId === deltaId && before.state === state) return;
      this.#unconfirmed.noteChange(text);
      this.#held.set(text, { key, deltaId, state });
      const isStaged = this.#staged !== undefined;
      const mark = hiddenBy === undefined ? {} : { hiddenBy };
      out.push({ kind: "put", isNew: before === undefined, isStaged, key, entry: item, deltaId, revision, ...mark });
    } else if (payload.case === "removed") {
      this.#forget(payload.value, { cause: causeOf(delta.cause), isStaged: this.#staged !== undefined, deltaId, revision }, out);
    }
  }

  /** A REMOVE of a key that the reader never had is not emitted, unless the reader may have the key from an earlier run. */
  #forget(key: EntryKey, why: Removal, out: FollowEvent<Item>[]): void {
    const text = entryKeyText(key);
    this.#unconfirmed.confirm(text);
    const wasHeld = this.#held.delete(text);
    if (!wasHeld && this.#knowsAll && !this.#tellsUnknown) return;
    this.#unconfirmed.noteChange(text);
    out.push({ kind: "remove", key, ...why });
  }

  /** At the end of a snapshot, removes keys in the snapshot's namespaces that the snapshot did not list. */
  #swap(revision: bigint, out: FollowEvent<Item>[]): void {
    const staged = this.#staged;
    this.#staged = undefined;
    if (staged === undefined) return;
    if (staged.replaces === undefined) {
      this.#knowsAll = true;
      this.#unconfirmed.clear();
    }
    const cause = staged.replaces === undefined ? "absent" : "withdrawn";
    for (const [text, { key, deltaId }] of this.#held) {
      const isCovered = staged.replaces === undefined || staged.replaces.has(key.namespace);
      if (isCovered && !staged.seen.has(text)) this.#forget(key, { cause, isStaged: true, deltaId, revision }, out);
    }
  }
}

function causeOf(cause: DiscoveryDelta_Cause): RemovalCause {
  switch (cause) {
    case DiscoveryDelta_Cause.UNREGISTERED:
      return "unregistered";
    case DiscoveryDelta_Cause.EXPIRED:
      return "expired";
    case DiscoveryDelta_Cause.ORIGIN_AWAY:
      return "origin_away";
    case DiscoveryDelta_Cause.NO_MATCH:
      return "no_match";
    case DiscoveryDelta_Cause.UNSPECIFIED:
    default:
      return "unknown";
  }
}

/** Returns a key as one string. */
export function entryKeyText(key: EntryKey): string {
  return [key.namespace, key.name, key.kind, key.instanceId, key.clusterId].join("\0");
}
