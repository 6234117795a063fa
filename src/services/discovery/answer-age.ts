/** The age of answers: the limit that callers set, and the limit above which an answer is marked stale. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { ShortCursorTexts } from "../../catalog/watch/cursor.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import { isKnownAge } from "../../lib/duration.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { textHash } from "../../lib/hash64.ts";
import type { Time } from "../../lib/machine.ts";
import { durationMs } from "../contract.ts";

/** Retry delay for a client when the data is too old. */
const STALE_RETRY_MS = 1000;
/**
 * Age above which an answer is considered stale, because the node is cut off or still starting. This limit is higher than the largest age in a
 * healthy cluster, and longer than the time until a crashed member is declared dead.
 */
const STALE_AGE_MS = 60_000;

/** `waymark.catalog.v1.Source`: the data from which an answer was made. */
export const SOURCE = { REPLICA: 1, FOLLOWED: 2, FETCHED: 3, DISK: 4 } as const;
export type AnswerSource = (typeof SOURCE)[keyof typeof SOURCE];

/** The age and the source of the data from which an answer is made. */
export interface AnswerAge {
  /** Age in whole ms. If the age is unknown, it is counted from 1970. */
  readonly ageMs: number;
  readonly isStale: boolean;
  readonly source: AnswerSource;
  /** Nodes that are not included in the age. Absent if there are none. */
  readonly unreachable?: UnreachableNodes | undefined;
}

/** The limits in a request for the age of its answer. */
export interface StalenessBound {
  readonly maxStaleness?: Duration | undefined;
  readonly maxStalenessStrict: boolean;
}

/** Returns the age of answers from a node's replica. If the age is unknown, it is counted from 1970, so the answer is also stale. */
export function replicaAge(ageMs: number, unreachable?: UnreachableNodes): AnswerAge {
  return { ageMs: Math.round(ageMs), isStale: ageMs > STALE_AGE_MS, source: SOURCE.REPLICA, unreachable };
}

/** Returns the age of an answer: either the age in the context of the call or, if that has none, the age of this node's replica. */
export function answerAge(
  { mesh }: { readonly mesh: Pick<PeerDirectory, "ageMs" | "unreachable"> },
  { age, time }: { readonly age?: AnswerAge | undefined; readonly time: Time },
): AnswerAge {
  return age ?? replicaAge(mesh.ageMs(time), mesh.unreachable(time));
}

/** Throws `too_stale` if the data may be older than the caller accepts, or if the caller requires writes that the data may lack. */
export function checkAge(age: Pick<AnswerAge, "ageMs" | "source" | "unreachable">, bound: StalenessBound): void {
  if (bound.maxStalenessStrict) checkReachable(age);
  if (bound.maxStaleness === undefined) return;
  const { ageMs } = age;
  const maxStalenessMs = durationMs(bound.maxStaleness);
  if (ageMs <= maxStalenessMs) return;
  const fault = isKnownAge(ageMs) ? `the data may be ${ageMs} ms old` : "the age of the data is not known yet";
  // The age of a resolver's data includes the round trip to its upstream, so it is never 0.
  const remedy =
    maxStalenessMs === 0 && age.source !== SOURCE.REPLICA
      ? "raise max_staleness to a few hundred milliseconds, or send the call to a node"
      : "retry, or use another server";
  throw tooStale(`${fault}, but max_staleness is ${maxStalenessMs} ms: ${remedy}`);
}

function checkReachable({ source, unreachable }: Pick<AnswerAge, "source" | "unreachable">): void {
  if (source === SOURCE.DISK) throw tooStale("max_staleness_strict: this resolver has not reached an upstream since it started");
  if (unreachable === undefined) return;
  const { nodeIds, count } = unreachable;
  const names = `${nodeIds.slice(0, MAX_NAMES).join(", ")}${count > MAX_NAMES ? ` and ${count - MAX_NAMES} more` : ""}`;
  throw tooStale(`max_staleness_strict: the data may lack writes from unreachable nodes: ${names}`);
}

function tooStale(message: string): WaymarkError {
  return new WaymarkError("too_stale", message, { retryMs: STALE_RETRY_MS });
}

/** Largest number of node ids in an error message. */
const MAX_NAMES = 5;

// The revision of an answer, and the cursor from which a watch can continue.

interface AnswerPosition {
  readonly revision: number;
  readonly cursor: string;
}

/** The parts of `CatalogReads` on which cursors depend. */
interface PositionInputs {
  readonly replica: Pick<CatalogReads["replica"], "revision">;
  readonly node: Pick<CatalogReads["node"], "boot">;
}

export class AnswerPositions {
  readonly #reads: PositionInputs;
  #boot = "";
  #texts = new ShortCursorTexts("");

  constructor(reads: PositionInputs) {
    this.#reads = reads;
  }

  /**
   * Returns the current revision and cursor. `readerText` identifies the content of the answer (`CatalogReads.readerText`). Without it, the cursor
   * contains only the revision, and a watch from this cursor begins with a snapshot. HOT: runs once per query. A cache of cursors by text would save
   * 0.2 µs for a thousand names, and cost 2 µs for more names than it holds (bench/growth.ts).
   */
  now(readerText = ""): AnswerPosition {
    const { replica, node } = this.#reads;
    const { revision } = replica;
    const { boot } = node;
    if (this.#boot !== boot) {
      this.#boot = boot;
      this.#texts = new ShortCursorTexts(boot);
    }
    return { revision, cursor: this.#texts.at(revision, revision, readerText === "" ? undefined : textHash(readerText)) };
  }
}

// The information about the mesh that services and feeds need: the live nodes, and the age of this node's data.

/** A node that this node considers alive or suspect. */
export interface LiveNode {
  readonly status: "alive" | "suspect";
  readonly lastSeenWallMs: number;
}

export interface PeerDirectory {
  /** Whether there is another node of this cluster. Nodes in other clusters do not have any data for this cluster. */
  readonly hasPeers: () => boolean;
  /** Whether this node may inform readers that they have all entries. False while many records are being shown or hidden. */
  readonly isWhole: () => boolean;
  /** Largest possible age of this node's data in ms. The value is 0 if the node receives every change immediately, or has only its own data. */
  readonly ageMs: (time: Time) => number;
  /** Nodes that may accept writes that this node does not receive, regardless of the age. Undefined if there are none. */
  readonly unreachable: (time: Time) => UnreachableNodes | undefined;
  /** Undefined if the node left, died or was never a member. */
  readonly presence: (nodeId: string, time: Time) => LiveNode | undefined;
}

/** Returns the directory for a node without a fabric. */
export function lonePeerDirectory(nodeId: string): PeerDirectory {
  return {
    hasPeers: () => false,
    isWhole: () => true,
    ageMs: () => 0,
    unreachable: () => undefined,
    presence: (asked, time) => (asked === nodeId ? { status: "alive", lastSeenWallMs: time.wallMs } : undefined),
  };
}
