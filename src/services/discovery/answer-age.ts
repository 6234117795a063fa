/** How old an answer may be: what callers accept, and from when on an answer is called stale. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { shortCursorText, shortHolder } from "../../catalog/watch/cursor.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import { isKnownAge } from "../../lib/duration.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { textHash } from "../../lib/hash64.ts";
import type { Time } from "../../lib/machine.ts";
import { durationMs } from "../contract.ts";

/** Time after which a client should try again when the data is too old. */
const STALE_RETRY_MS = 1000;
/**
 * A node whose data may be older is cut off, or is still starting. Longer than the age ever is in a healthy cluster, and than a member that died is
 * waited for.
 */
const STALE_AGE_MS = 60_000;

/** `waymark.catalog.v1.Source`: what an answer was made from. */
export const SOURCE = { REPLICA: 1, FOLLOWED: 2, FETCHED: 3, DISK: 4 } as const;
export type AnswerSource = (typeof SOURCE)[keyof typeof SOURCE];

/** How good what an answer is made from is. */
export interface AnswerAge {
  /** In whole ms. An unknown age is counted from 1970. */
  readonly ageMs: number;
  readonly isStale: boolean;
  readonly source: AnswerSource;
  /** Nodes that the age does not include. Absent: none. */
  readonly unreachable?: UnreachableNodes | undefined;
}

/** The limits in a request on the age of its answer. */
export interface StalenessBound {
  readonly maxStaleness?: Duration | undefined;
  readonly maxStalenessStrict: boolean;
}

/** The age of what a node answers from its replica. An unknown age is counted from 1970, so it is stale too. */
export function replicaAge(ageMs: number, unreachable?: UnreachableNodes): AnswerAge {
  return { ageMs: Math.round(ageMs), isStale: ageMs > STALE_AGE_MS, source: SOURCE.REPLICA, unreachable };
}

/** How good the data of an answer is: what the call says of it, or else the age of this node's replica. */
export function answerAge(
  { mesh }: { readonly mesh: Pick<PeerDirectory, "ageMs" | "unreachable"> },
  { age, time }: { readonly age?: AnswerAge | undefined; readonly time: Time },
): AnswerAge {
  return age ?? replicaAge(mesh.ageMs(time), mesh.unreachable(time));
}

/** Throws `too_stale` if the data may be older than the caller accepts, or if it may lack writes and the caller requires them. */
export function checkAge(age: Pick<AnswerAge, "ageMs" | "source" | "unreachable">, bound: StalenessBound): void {
  if (bound.maxStalenessStrict) checkReachable(age);
  if (bound.maxStaleness === undefined) return;
  const { ageMs } = age;
  const maxStalenessMs = durationMs(bound.maxStaleness);
  if (ageMs <= maxStalenessMs) return;
  const message = isKnownAge(ageMs)
    ? `the data may be ${ageMs} ms old, and the request accepts at most ${maxStalenessMs} ms`
    : `the age of the data is not known yet, and the request accepts at most ${maxStalenessMs} ms`;
  throw tooStale(message);
}

function checkReachable({ source, unreachable }: Pick<AnswerAge, "source" | "unreachable">): void {
  if (source === SOURCE.DISK) throw tooStale("max_staleness_strict: this resolver has not reached a server since it started");
  if (unreachable === undefined) return;
  const { nodeIds, count } = unreachable;
  const names = `${nodeIds.slice(0, MAX_NAMES).join(", ")}${count > MAX_NAMES ? ` and ${count - MAX_NAMES} more` : ""}`;
  throw tooStale(`max_staleness_strict: the data may lack writes of unreachable nodes: ${names}`);
}

function tooStale(message: string): WaymarkError {
  return new WaymarkError("too_stale", message, { retryMs: STALE_RETRY_MS });
}

/** Maximum number of node ids in an error message. */
const MAX_NAMES = 5;

// The revision of an answer, and the cursor that a watch can continue from.

/** Most cursors kept for one revision. Readers of the same content get the same cursor. */
const MAX_CURSORS = 1000;
/** Longest reader text that is kept. A filter with a thousand names has a long one. */
const MAX_KEPT_TEXT = 1000;

interface AnswerPosition {
  readonly revision: number;
  readonly cursor: string;
}

/** The parts of `CatalogReads` that places depend on. */
interface PositionInputs extends Pick<CatalogReads, "policyRevision"> {
  readonly replica: Pick<CatalogReads["replica"], "revision">;
  readonly node: Pick<CatalogReads["node"], "boot">;
}

export class AnswerPositions {
  readonly #reads: PositionInputs;
  #revision = -1;
  #policyRevision = -1;
  #boot = "";
  /** Cursors by reader text. The empty text has the cursor of no reader. */
  readonly #cursors = new Map<string, string>();

  constructor(reads: PositionInputs) {
    this.#reads = reads;
  }

  /**
   * The current place. `readerText` names the content of the answer (`CatalogReads.readerText`). Without it the cursor has only the revision, and a
   * watch from it begins with a snapshot. HOT: once a query. Each cursor is made once for a revision and a reader.
   */
  now(readerText = ""): AnswerPosition {
    const { replica, node, policyRevision } = this.#reads;
    const { revision } = replica;
    if (this.#revision !== revision || this.#policyRevision !== policyRevision) {
      this.#revision = revision;
      this.#policyRevision = policyRevision;
      this.#boot = node.boot;
      this.#cursors.clear();
    }
    let cursor = this.#cursors.get(readerText);
    if (cursor === undefined) {
      cursor = shortCursorText(shortHolder(this.#boot, readerText === "" ? undefined : textHash(readerText)), revision);
      if (this.#cursors.size >= MAX_CURSORS) this.#cursors.clear();
      if (readerText.length <= MAX_KEPT_TEXT) this.#cursors.set(readerText, cursor);
    }
    return { revision, cursor };
  }
}

// What services and feeds need to know of the mesh: which nodes are there, and how old the data of this node may be.

/** A node that this node believes to be alive or suspects. */
export interface LiveNode {
  readonly status: "alive" | "suspect";
  readonly lastSeenWallMs: number;
}

export interface PeerDirectory {
  /** Whether there is another node of this cluster. Nodes of other clusters hold no data for it. */
  readonly hasPeers: () => boolean;
  /** Whether readers may be told that they have everything. False while many records are being shown or hidden. */
  readonly isWhole: () => boolean;
  /** How old the data of this node may be, in ms. 0 if the node hears of every change at once, or holds only its own data. */
  readonly ageMs: (time: Time) => number;
  /** Nodes that may accept writes that this node does not receive, whatever the age. Undefined when there are none. */
  readonly unreachable: (time: Time) => UnreachableNodes | undefined;
  /** Undefined for a node that left, died or was never a member. */
  readonly presence: (nodeId: string, time: Time) => LiveNode | undefined;
}

/** The directory of a node without a fabric. */
export function lonePeerDirectory(nodeId: string): PeerDirectory {
  return {
    hasPeers: () => false,
    isWhole: () => true,
    ageMs: () => 0,
    unreachable: () => undefined,
    presence: (asked, time) => (asked === nodeId ? { status: "alive", lastSeenWallMs: time.wallMs } : undefined),
  };
}
