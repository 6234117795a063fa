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
  /** Number of the holder: 1, 2, 3, … */
  readonly term: number;
  readonly fence: FenceToken;
  readonly issuedWallMs: number;
  /** Why the holder was elected, or why the scope is free. */
  readonly reason: string;
  readonly correlationId: string;
  /** An operator's request that the holder resigns. Undefined if there is none. */
  readonly resign: string | undefined;
}

/** The session of a process. It lives as long as the process renews it. */
export interface SessionRecord {
  readonly nodeId: string;
  readonly leaseMs: number;
  /** The wall time of the node at the renewal. It is only shown, and never compared. */
  readonly renewedWallMs: number;
}

export function encodeStore({ clusterId, id, epoch }: StoreRecord): Uint8Array {
  return encodeJson({ cluster_id: clusterId, id, epoch });
}

/** Returns undefined for bytes that are not a valid record. */
export function decodeStore(bytes: Uint8Array): StoreRecord | undefined {
  return decodeJson(bytes, (at) => ({ clusterId: at.text("cluster_id"), id: at.text("id"), epoch: at.count("epoch") }));
}

export function encodeLeader({ fence, ...record }: LeaderRecord): Uint8Array {
  return encodeJson({
    holder_id: record.holderId,
    node_id: record.nodeId,
    session: record.session,
    term: record.term,
    failover_version: fence.failoverVersion,
    store_epoch: fence.storeEpoch,
    number: fence.number,
    issued_at_ms: record.issuedWallMs,
    reason: record.reason.slice(0, MAX_TEXT_LENGTH),
    correlation_id: record.correlationId,
    resign: record.resign?.slice(0, MAX_TEXT_LENGTH) ?? "",
  });
}

/** Returns undefined for bytes that are not a valid record. */
export function decodeLeader(bytes: Uint8Array): LeaderRecord | undefined {
  return decodeJson(bytes, (at) => ({
    holderId: at.text("holder_id"),
    nodeId: at.text("node_id"),
    session: at.text("session"),
    term: at.count("term"),
    fence: { failoverVersion: at.count("failover_version"), storeEpoch: at.count("store_epoch"), number: at.count("number") },
    issuedWallMs: at.count("issued_at_ms"),
    reason: at.text("reason"),
    correlationId: at.text("correlation_id"),
    resign: at.text("resign") || undefined,
  }));
}

export function encodeSession({ nodeId, leaseMs, renewedWallMs }: SessionRecord): Uint8Array {
  return encodeJson({ node_id: nodeId, lease_ms: leaseMs, renewed_at_ms: renewedWallMs });
}

/** Returns undefined for bytes that are not a valid record. */
export function decodeSession(bytes: Uint8Array): SessionRecord | undefined {
  return decodeJson(bytes, (at) => ({
    nodeId: at.text("node_id"),
    leaseMs: Math.min(Math.max(at.count("lease_ms"), LEASE_BOUNDS.minMs), LEASE_BOUNDS.maxMs),
    renewedWallMs: at.count("renewed_at_ms"),
  }));
}

export function encodeJson(record: Readonly<Record<string, string | number>>): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record));
}

/** Reads the fields of a record. Throws `FieldError` for a field that is missing or has the wrong type. */
interface RecordFields {
  text(name: string): string;
  count(name: string): number;
}

class FieldError extends Error {}

/** Returns undefined for bytes that are not the JSON of an object with these fields. */
export function decodeJson<T>(bytes: Uint8Array, read: (fields: RecordFields) => T): T | undefined {
  try {
    const json: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    const row = new Map<string, unknown>(Object.entries(json ?? {}));
    return read({
      text: (name) => {
        const value = row.get(name);
        if (typeof value !== "string" || value.length > MAX_TEXT_LENGTH) throw new FieldError(name);
        return value;
      },
      count: (name) => {
        const value = row.get(name);
        if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw new FieldError(name);
        return value;
      },
    });
  } catch (error) {
    if (error instanceof FieldError || error instanceof SyntaxError || error instanceof TypeError) return undefined;
    throw error;
  }
}
