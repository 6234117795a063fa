/**
 * Following a watch through breaks, as a state machine: it folds messages into the set of keys the reader holds, and
 * tells the reader each change once, whatever the server repeats. The caller opens the streams and waits (`client/follow.io.ts`).
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

/** What is told of entries, or of summaries. */
export type FollowEvent<Item = Entry> =
  /** The entry is new or has changed. `isStaged`: it is part of a snapshot that is not complete yet; `synced` follows when it is. */
  | {
      readonly kind: "put";
      readonly isNew: boolean;
      readonly isStaged: boolean;
      readonly key: EntryKey;
      readonly entry: Item;
      readonly deltaId: string;
      readonly revision: bigint;
    }
  /** The entry is gone. */
  | {
      readonly kind: "remove";
      readonly cause: RemovalCause;
      readonly isStaged: boolean;
      readonly key: EntryKey;
      readonly deltaId: string;
      readonly revision: bigint;
    }
  /** Everything up to here was told. It comes after a snapshot and with every bookmark. `cursor` resumes from here at any server. */
  | {
      readonly kind: "synced";
      readonly isSnapshot: boolean;
      readonly cursor: string;
      readonly revision: bigint;
      readonly heldCount: number;
      /** Upper bound of the age of the server's data when it said this, in ms. Infinite where the server named none, as the first version does not. */
      readonly ageMs: number;
      /** The server says that something is wrong with its data: it is cut off, for example. */
      readonly isStale: boolean;
      /** Nodes that the age does not include, because the server cannot reach them. Absent: none. */
      readonly unreachable?: UnreachableSample | undefined;
      /** The node or resolver that said it. */
      readonly servedBy: string;
    };

/** The first ids of the nodes that a server cannot reach although they may accept writes, and the number of all these nodes. */
export type UnreachableSample = Pick<UnreachableNodes, "count" | "nodeIds">;

/**
 * Why an entry is gone: it was unregistered; it expired; its node is away; it exists and does not match any more; a full snapshot left it out (`absent`), or
 * one of its namespace (`withdrawn`, as after a change of policy). An older server does not say.
 */
export type RemovalCause = "unregistered" | "expired" | "origin_away" | "no_match" | "absent" | "withdrawn" | "unknown";

interface HeldItem {
  readonly key: EntryKey;
  readonly deltaId: string;
  /** To tell a repetition from a change: what may change without the id of the delta (`ReadItem`). */
  readonly state: number;
}

/** What a delta puts under a key. */
export interface ReadItem<Item> {
  readonly key: EntryKey;
  readonly item: Item;
  /** What may change without another delta: of an entry whose node is away its health, of a summary whose source is lost that it is stale. */
  readonly state: number;
}

/** Reads the payload of a delta that puts something; undefined for another one. */
export type PayloadReader<Item> = (payload: DiscoveryDelta["payload"]) => ReadItem<Item> | undefined;

/** What a message of a watch says, of entries or of summaries. */
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
>;

export const readEntryPayload: PayloadReader<Entry> = (payload) => {
  if (payload.case !== "entry" || payload.value.key === undefined) return undefined;
  return { key: payload.value.key, item: payload.value, state: payload.value.health };
};

/** By number. */
const CHANNELS: Readonly<Record<number, string>> = { [Scope.ZONE]: "zone", [Scope.REGION]: "region", [Scope.GLOBAL]: "global" };

/** Its key names the channel as the instance, and the source as the cluster: as REMOVE names it. */
export const readSummaryPayload: PayloadReader<ServiceSummary> = (payload) => {
  if (payload.case !== "summary") return undefined;
  const { kind, namespace, serviceId, scope, sourceCluster, stale } = payload.value;
  const key = create(EntryKeySchema, { kind, namespace, name: serviceId, instanceId: CHANNELS[scope] ?? "", clusterId: sourceCluster });
  return { key, item: payload.value, state: stale ? 1 : 0 };
};

interface StagedSnapshot {
  /** Namespaces the snapshot speaks for; undefined for all. */
  readonly replaces: ReadonlySet<string> | undefined;
  readonly seen: Set<string>;
}

type Removal = Omit<Extract<FollowEvent, { kind: "remove" }>, "kind" | "key">;

export class WatchFollower<Item = Entry> {
  /** What the reader holds, by key: only what is needed to recognise a repetition. */
  readonly #held = new Map<string, HeldItem>();
  #staged: StagedSnapshot | undefined;
  /** Whether the reader holds nothing but what was told here. False after a start from a cursor. */
  #knowsAll: boolean;
  /** A cursor that every server accepts; empty for a snapshot. */
  #portable: string;
  /** A cursor that only the server that gave it accepts, until it restarts. */
  #short: { readonly server: string; readonly cursor: string } | undefined;
  #server = "";
  readonly #unconfirmed = new UnconfirmedKeys();
  #isDoubtful = false;
  #failures = 0;

  readonly #tellsUnknown: boolean;
  readonly #seen: PayloadReader<Item>;

  /**
   * `cursor` comes from an earlier run, or is empty. `tellsUnknown`: removals of keys that the reader does not have are told too. A reader that holds lost
   * entries must hear that one of them was unregistered. `seen`: `readEntryPayload` or `readSummaryPayload`.
   */
  constructor(cursor: string, { tellsUnknown = false, seen }: { readonly tellsUnknown?: boolean; readonly seen: PayloadReader<Item> }) {
    this.#portable = cursor;
    this.#seen = seen;
    this.#tellsUnknown = tellsUnknown;
    this.#knowsAll = cursor === "";
  }

  /** Cursor to open the next stream with, at this server; empty for a snapshot. */
  open(server: string): string {
    this.#server = server;
    this.#isDoubtful = false;
    if (this.#short?.server === server) return this.#short.cursor;
    this.#short = undefined;
    if (!this.#unconfirmed.switchServer()) this.#portable = "";
    return this.#portable;
  }

  /** Whether the reader was told entries that this server does not know. Then the stream must be opened again with a snapshot. */
  get hasUnconfirmed(): boolean {
    return this.#isDoubtful;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** Takes one message, and appends the events for the reader to `out`. */
  message(message: WatchMessage, out: FollowEvent<Item>[]): void {
    this.#failures = 0;
    const { snapshot } = message;
    if (snapshot === Snapshot.BEGIN) {
      this.#staged = { replaces: message.replaces.length > 0 ? new Set(message.replaces) : undefined, seen: new Set() };
    }
    for (const delta of message.deltas) this.#delta(delta, out);
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
   * The stream ended or failed. An unfinished snapshot is void. `isAway`: the server may come back as another process,
   * which does not know its short cursors. Returns how long to wait before the next try.
   */
  broken(chance: number, { retryMs, isAway }: { readonly retryMs?: number | undefined; readonly isAway: boolean }): number {
    this.#staged = undefined;
    if (isAway) this.#short = undefined;
    const waitMs = Math.max(returnMs(this.#failures, chance), retryMs ?? 0);
    this.#failures += 1;
    return waitMs;
  }

  #delta(delta: DiscoveryDelta, out: FollowEvent<Item>[]): void {
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
      out.push({ kind: "put", isNew: before === undefined, isStaged, key, entry: item, deltaId, revision });
    } else if (payload.case === "removed") {
      this.#forget(payload.value, { cause: causeOf(delta.cause), isStaged: this.#staged !== undefined, deltaId, revision }, out);
    }
  }

  /** A REMOVE of a key that the reader never had is not told, unless the reader may have it from an earlier run. */
  #forget(key: EntryKey, why: Removal, out: FollowEvent<Item>[]): void {
    const text = entryKeyText(key);
    this.#unconfirmed.confirm(text);
    const wasHeld = this.#held.delete(text);
    if (!wasHeld && this.#knowsAll && !this.#tellsUnknown) return;
    this.#unconfirmed.noteChange(text);
    out.push({ kind: "remove", key, ...why });
  }

  /** The end of a snapshot: keys of its namespaces that it did not list are gone. */
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

/** A key as one text. */
export function entryKeyText(key: EntryKey): string {
  return [key.namespace, key.name, key.kind, key.instanceId, key.clusterId].join("\0");
}
