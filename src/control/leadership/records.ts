/** The records of leadership in the control store: their keys, and their JSON, which operators can read with `etcdctl get`. */
import { LEASE_BOUNDS } from "../../lib/bounds.ts";
import type { FenceToken } from "../../lib/fence.ts";

/** The key of the record that says which cluster the store belongs to. */
export const STORE_KEY = "store";
/** Prefix of the keys of leaders; a scope follows. */
export const LEADERS = "leaders/";
/** Prefix of the keys of sessions; the name of a session follows: `<node>/<n>`. */
export const SESSIONS = "sessions/";

/** Maximum number of characters of a text in a record. A longer reason is cut, so that the record stays readable. */
const MAX_TEXT_LENGTH = 1024;
/** Maximum size of a record in bytes. A larger value in the store is not parsed. */
const MAX_RECORD_BYTES = 64 * 1024;

/** The identity of a store. There is one such record in a store. */
export interface StoreRecord {
  readonly clusterId: string;
  /** Random id of the store, made when the store was first used. */
  readonly id: string;
  /** The Unix seconds at which the store was first used. An operator raises the epoch after the store was restored from a backup. */
  readonly epoch: number;
}

/** The leader of a scope, or its last leader if `session` is empty. */
export interface LeaderRecord {
  /** The node, or the program that campaigns through it. */
  readonly holderId: string;
  readonly nodeId: string;
  /** The name of the holder's session. Empty if the holder has resigned. The scope is free if this session does not exist. */
  readonly session: string;
  /** Number of the holder since the record was created: 1, 2, 3, … */
  readonly term: number;
  readonly fence: FenceToken;
  readonly issuedWallMs: number;
  /** Why the holder was elected, or why the scope is free. */
  readonly reason: string;
  readonly correlationId: string;
  /** An operator's request that the holder resigns. Undefined if there is none. */
  readonly resign: string | undefined;
  /** Undefined unless the scope is a shard. */
  readonly shard: ShardFields | undefined;
}

/** The fields of a shard's row in addition to its holder. The controller of shards writes them (`control/shards/`). */
export interface ShardFields {
  /** The epoch of the map in which the row last changed. */
  readonly epoch: number;
  /** Set by operators. The owner of a paused shard finishes its work and accepts no new work. A disabled shard has no owner. */
  readonly mode: (typeof SHARD_MODES)[number];
  /** Whether the owner must finish its work and drop the shard. */
  readonly isDraining: boolean;
  /** Whether the owner accepts only half of its rate for the shard. */
  readonly isThrottled: boolean;
  /** The instance that owns the shard after the hand-over. Empty if there is none. */
  readonly next: string;
  /** The share of the shard in the load of its owner, compared with other shards. */
  readonly weight: number;
  /** `<region>` or `<region>/<zone>` in which the owner should be. Empty if there is none. */
  readonly hint: string;
  /** The operator's ticket for the last change. */
  readonly ticket: string;
  readonly changedWallMs: number;
  /** When the shard last changed its owner. */
  readonly movedWallMs: number;
}

export const SHARD_MODES = ["active", "paused", "disabled"] as const;

/** The session of a process. It lives as long as the process renews it. */
export interface SessionRecord {
  readonly nodeId: string;
  readonly leaseMs: number;
  /** The wall time of the node at the renewal. It is only shown, and never compared. */
  readonly renewedWallMs: number;
}

/** How each field of a record is read from its JSON. Throws `TypeError` for a field that is missing or has the wrong type. */
export type Fields<T> = { readonly [Name in keyof T]: (value: unknown) => T[Name] };

export function text(value: unknown): string {
  if (typeof value !== "string" || value.length > MAX_TEXT_LENGTH) throw new TypeError("no text of a valid length");
  return value;
}

export function count(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw new TypeError("no count");
  return value;
}

export function flag(value: unknown): boolean {
  if (typeof value !== "boolean") throw new TypeError("no boolean");
  return value;
}

/** Reads a finite number above 0. */
export function positive(value: unknown): number {
  if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) throw new TypeError("no positive number");
  return value;
}

/** Returns a reader of one of the words. */
export function wordOf<W extends string>(words: readonly W[]): (value: unknown) => W {
  return (value) => {
    const word = words.find((each) => each === value);
    if (word === undefined) throw new TypeError("no known word");
    return word;
  };
}

const STORE: Fields<StoreRecord> = { clusterId: text, id: text, epoch: count };
const FENCE: Fields<FenceToken> = { failoverVersion: count, storeEpoch: count, number: count };
const SHARD: Fields<ShardFields> = {
  epoch: count,
  mode: wordOf(SHARD_MODES),
  isDraining: flag,
  isThrottled: flag,
  next: text,
  weight: positive,
  hint: text,
  ticket: text,
  changedWallMs: count,
  movedWallMs: count,
};
const LEADER: Fields<LeaderRecord> = {
  holderId: text,
  nodeId: text,
  session: text,
  term: count,
  fence: (value) => read(value, FENCE),
  issuedWallMs: count,
  reason: text,
  correlationId: text,
  resign: (value) => (value === undefined ? undefined : text(value)),
  shard: (value) => (value === undefined ? undefined : read(value, SHARD)),
};
const SESSION: Fields<SessionRecord> = {
  nodeId: text,
  leaseMs: (value) => Math.min(Math.max(count(value), LEASE_BOUNDS.minMs), LEASE_BOUNDS.maxMs),
  renewedWallMs: count,
};

export function encodeRecord(record: object): Uint8Array {
  const cut = (_name: string, value: unknown) => (typeof value === "string" ? value.slice(0, MAX_TEXT_LENGTH) : value);
  return new TextEncoder().encode(JSON.stringify(record, cut));
}

/** The decoder of a record. It returns undefined for bytes that are not a valid record. */
export function decoderOf<T>(fields: Fields<T>): (bytes: Uint8Array) => T | undefined {
  return (bytes) => {
    if (bytes.length > MAX_RECORD_BYTES) return undefined;
    try {
      return read(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)), fields);
    } catch (error) {
      if (error instanceof SyntaxError || error instanceof TypeError) return undefined;
      throw error;
    }
  };
}

export function read<T>(json: unknown, fields: Fields<T>): T {
  const row = new Map<string, unknown>(Object.entries(json ?? {}));
  const readers = Object.entries<(value: unknown) => unknown>(fields);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each field has been read
  return Object.fromEntries(readers.map(([name, field]) => [name, field(row.get(name))])) as T;
}

export const decodeStore = decoderOf(STORE);
const decodeAnyLeader = decoderOf(LEADER);

/**
 * Returns undefined for bytes that are not a valid record. Until a record changes after its election, the number of its fence is at least
 * its version. Each leader therefore has a greater number than all earlier leaders, even if their records were removed. etcd's own election
 * uses the revision of its key in the same way (`concurrency.Election`). The row of a shard changes under one fence, so it states its number.
 */
export function decodeLeader(bytes: Uint8Array, version: number): LeaderRecord | undefined {
  const record = decodeAnyLeader(bytes);
  const isAsElected = record !== undefined && record.session !== "" && record.resign === undefined && record.shard === undefined;
  return isAsElected && version > record.fence.number ? { ...record, fence: { ...record.fence, number: version } } : record;
}
export const decodeSession = decoderOf(SESSION);
