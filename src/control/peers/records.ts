/** The operators' records of nodes in the control store: their keys and their JSON. */
import { count, decoderOf, type Fields, flag, read, text, wordOf } from "../leadership/records.ts";

/** Prefix of the keys of the records; a node id follows. */
export const PEERS = "peers/";
/** The key of the guard. Each change that removes a node from service writes it, so that two such changes cannot happen at the same time. */
export const PEER_GUARD = "peers/*";

export const DESIRED_STATES = ["active", "cordoned", "drained"] as const;
export type DesiredState = (typeof DESIRED_STATES)[number];

/** Number of request ids that a record keeps. */
const MAX_REQUESTS = 8;
/** Maximum number of labels in a record. */
export const MAX_RECORD_LABELS = 64;

export interface DrainTerms {
  readonly sinceWallMs: number;
  /** The drain is stuck after this time, by the clock of the node. */
  readonly deadlineWallMs: number;
  /** Whether everything that is left after the deadline ends. */
  readonly isForced: boolean;
}

/** The part of a record that its node follows. */
export type DesiredNode = Pick<PeerRecord, "desired" | "drain" | "labels">;

export const ACTIVE_NODE: DesiredNode = { desired: "active", drain: undefined, labels: {} };

/** An operators' record: the desired state of a node. A node without a record is active and has no labels of operators. */
export interface PeerRecord {
  readonly desired: DesiredState;
  /** When and why `desired` last changed. */
  readonly desiredWallMs: number;
  readonly desiredReason: string;
  /** Undefined unless `desired` is `drained`. */
  readonly drain: DrainTerms | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** Whether all nodes drop the entries of the node, which is dead or has left. */
  readonly isForgotten: boolean;
  /** The last operation. */
  readonly reason: string;
  readonly ticket: string;
  readonly actor: string;
  readonly atWallMs: number;
  /** The last requests, newest first: `<kind of the operation> <request id>`. */
  readonly requestIds: readonly string[];
}

const DRAIN: Fields<DrainTerms> = { sinceWallMs: count, deadlineWallMs: count, isForced: flag };

const PEER: Fields<PeerRecord> = {
  desired: wordOf(DESIRED_STATES),
  desiredWallMs: count,
  desiredReason: text,
  drain: (value) => (value === undefined ? undefined : read(value, DRAIN)),
  labels: (value) => Object.fromEntries(Object.entries(value ?? {}).map(([key, label]) => [key, text(label)])),
  isForgotten: flag,
  reason: text,
  ticket: text,
  actor: text,
  atWallMs: count,
  requestIds: (value) => {
    if (!Array.isArray(value)) throw new TypeError("no list");
    return value.slice(0, MAX_REQUESTS).map(text);
  },
};

export const decodePeer = decoderOf(PEER);

/** The ids of requests with one more. */
export function withRequest(ids: readonly string[], kind: string, id: string): readonly string[] {
  return id === "" ? ids : [`${kind} ${id}`, ...ids].slice(0, MAX_REQUESTS);
}

/** The kind of the operation that had this request id. Undefined if none of the last operations had it. */
export function requestKind(ids: readonly string[] | undefined, id: string): string | undefined {
  const used = ids?.find((each) => each.slice(each.indexOf(" ") + 1) === id);
  return used?.slice(0, used.indexOf(" "));
}
