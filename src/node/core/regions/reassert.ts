/**
 * Schedules the reassertion of summaries that other nodes have in the same or a higher version: each is exported again with a higher version
 * (docs/design/summaries.md, Building).
 */

import type { KeyText } from "../../../catalog/record/record.ts";
import { BoundedMap } from "../../../lib/bounded-map.ts";
import { NEVER, type Time } from "../../../lib/machine.ts";
import type { Draft } from "../../../summary/building/drafts.ts";
import type { Exceed } from "../../../summary/held/options.ts";
import type { HeldSummaries } from "../../../summary/held/summaries.ts";
import { recordKey } from "../../../summary/keys.ts";
import type { SaidUnder, Summary, SummaryKey } from "../../../summary/summary.ts";

/** Maximum number of waiting summaries. Above this number the oldest one is dropped, and the next echo schedules it again. */
const MAX_WAITING = 20_000;
/**
 * Delay between nodes, in ms. If the exporter of a service does not reassert within a hold-down, for example because it is paused, the other nodes do
 * so, one after the other.
 */
const APART_MS = 1000;
/** Number of summaries per step. Numbering, signing and storing a summary takes about 0.15 ms. */
const SAID_AT_A_TIME = 20;

interface PendingReassertion {
  readonly key: SummaryKey;
  /** Version that must be exceeded. */
  readonly version: number;
  readonly dueMonoMs: number;
  /** Version of the cluster's own summary when the reassertion was scheduled. */
  readonly saidVersion: number;
  /** Whether the reassertion has already waited for the hold-down of a newer summary by another node. */
  readonly isPutOff: boolean;
}

/** The summaries to reassert in one step. */
export interface ReassertedDrafts {
  readonly drafts: readonly Draft[];
  /** Whether the beacon must be reasserted too. */
  readonly isBeacon: boolean;
}

const NOTHING: ReassertedDrafts = { drafts: [], isBeacon: false };

export interface ReassertQueueParts {
  readonly held: Pick<HeldSummaries, "own" | "restate" | "takeBack" | "takeExceeds">;
  readonly holdDownMs: number;
  /** When this node last exported the summary, as far as it knows. The current summary may be an older export by another node. */
  readonly saidMonoMs: (key: SummaryKey) => number | undefined;
  /** Number of exporters that precede this node; 0 on the exporter of the service. */
  readonly rankOf: (key: SummaryKey) => number;
  /** The policy in force and its rule for a namespace. The policy under which a restored summary was exported is unknown. */
  readonly saidUnder: (namespace: string, time: Time) => SaidUnder;
}

export class ReassertQueue {
  readonly #parts: ReassertQueueParts;
  readonly #waiting = new BoundedMap<KeyText, PendingReassertion>(MAX_WAITING);
  #dueMonoMs = NEVER;

  constructor(parts: ReassertQueueParts) {
    this.#parts = parts;
  }

  /** Deadline for a reassertion on a node that exports. */
  nextDeadlineMs(): number {
    return this.#dueMonoMs;
  }

  /** Accepts new orders and handles some of the orders that are due. Only an exporter may call it. */
  step(time: Time): ReassertedDrafts {
    const exceeds = this.#parts.held.takeExceeds();
    for (const exceed of exceeds) this.#take(exceed, time);
    const isBeacon = exceeds.some(({ key }) => key === undefined);
    if (time.monoMs < this.#dueMonoMs) return isBeacon ? { drafts: [], isBeacon } : NOTHING;
    const drafts: Draft[] = [];
    this.#dueMonoMs = NEVER;
    for (const [text, waiting] of this.#waiting) {
      if (waiting.dueMonoMs > time.monoMs || drafts.length >= SAID_AT_A_TIME) {
        this.#dueMonoMs = Math.min(this.#dueMonoMs, waiting.dueMonoMs);
        continue;
      }
      this.#waiting.delete(text);
      if (this.#putOff(text, waiting, time)) continue;
      const draft = this.#say(waiting, time);
      if (draft !== undefined) drafts.push(draft);
    }
    return { drafts, isBeacon };
  }

  #take({ key, version }: Exceed, time: Time): void {
    if (key === undefined) return;
    const text = recordKey(key);
    const { held, holdDownMs, rankOf } = this.#parts;
    const said = held.own.find(key, time);
    const known = this.#waiting.get(text);
    const rank = rankOf(key);
    const turnMs = rank === 0 ? 0 : holdDownMs + (rank - 1) * APART_MS;
    // The order is checked as soon as this node's own hold-down ends, so a wrong clock cannot delay it further.
    const dueMonoMs = Math.max(known?.dueMonoMs ?? time.monoMs + this.#restMs(said, time) + turnMs, this.#heldDownMonoMs(key));
    const { saidVersion = said?.version ?? 0, isPutOff = false } = known ?? {};
    this.#waiting.set(text, { key, version, dueMonoMs, saidVersion, isPutOff });
    this.#dueMonoMs = Math.min(this.#dueMonoMs, dueMonoMs);
  }

  /** Returns the remaining hold-down time of a summary. */
  #restMs(said: Pick<Summary, "generatedWallMs"> | undefined, { wallMs }: Time): number {
    return said === undefined ? 0 : Math.max(0, this.#parts.holdDownMs - Math.max(0, wallMs - said.generatedWallMs));
  }

  /**
   * If another node has exported a lower version since then, delays the reassertion by the hold-down of that export. A reassertion is delayed in this
   * way only once, so frequent exports cannot block it.
   */
  #putOff(text: KeyText, waiting: PendingReassertion, time: Time): boolean {
    const said = this.#parts.held.own.find(waiting.key, time);
    const restMs = waiting.isPutOff || said === undefined || said.version <= waiting.saidVersion ? 0 : this.#restMs(said, time);
    if (restMs === 0) return false;
    const dueMonoMs = time.monoMs + restMs;
    this.#waiting.set(text, { ...waiting, dueMonoMs, isPutOff: true });
    this.#dueMonoMs = Math.min(this.#dueMonoMs, dueMonoMs);
    return true;
  }

  #heldDownMonoMs(key: SummaryKey): number {
    return (this.#parts.saidMonoMs(key) ?? Number.NEGATIVE_INFINITY) + this.#parts.holdDownMs;
  }

  #say({ key, version }: PendingReassertion, time: Time): Draft | undefined {
    const { held, saidUnder } = this.#parts;
    // Another node has exported a higher version in the meantime.
    if ((held.own.find(key, time)?.version ?? 0) > version) return undefined;
    const above = held.restate(key, time) ?? held.takeBack(key, saidUnder(key.namespace, time), time);
    const facts = above === undefined ? undefined : held.own.find(key, time);
    return facts && { facts, cause: "exceeded" };
  }
}
