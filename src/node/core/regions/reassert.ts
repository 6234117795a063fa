/** What others know in a version that is as high as ours or higher is said again, above it: when each goes, and what the audit is told (docs/design/summaries.md, Building). */

import type { KeyText } from "../../../catalog/record/record.ts";
import { BoundedMap } from "../../../lib/bounded-map.ts";
import { NEVER, type Time } from "../../../lib/machine.ts";
import type { Draft } from "../../../summary/building/drafts.ts";
import type { Exceed } from "../../../summary/held/options.ts";
import type { HeldSummaries } from "../../../summary/held/summaries.ts";
import { recordKey } from "../../../summary/keys.ts";
import type { SaidUnder, Summary, SummaryKey } from "../../../summary/summary.ts";

/** Summaries that wait. The oldest goes; its order comes again with the next echo. */
const MAX_WAITING = 20_000;
/** Who is not the exporter of a service says it when that one did not for a hold-down, as if it stood still; one after the other, so that one is enough. */
const APART_MS = 1000;
/** Said in one step: each is numbered, signed and held in some 0.15 ms. */
const SAID_AT_A_TIME = 20;

interface PendingReassertion {
  readonly key: SummaryKey;
  /** To be exceeded. */
  readonly version: number;
  readonly dueMonoMs: number;
  /** What the cluster said when the order came. */
  readonly saidVersion: number;
  /** It waited once more, for the hold-down of what somebody said meanwhile. */
  readonly isPutOff: boolean;
}

/** What is said again in one step. */
export interface ReassertedDrafts {
  readonly drafts: readonly Draft[];
  /** The beacon is to be said again too. */
  readonly isBeacon: boolean;
}

const NOTHING: ReassertedDrafts = { drafts: [], isBeacon: false };

export interface ReassertQueueParts {
  readonly held: Pick<HeldSummaries, "own" | "restate" | "takeBack" | "takeExceeds">;
  readonly holdDownMs: number;
  /** When this node said it last, as far as it knows. What counts now may be an older word of another node. */
  readonly saidMonoMs: (key: SummaryKey) => number | undefined;
  /** How many exporters come before this node; 0 at the exporter of the service. */
  readonly rankOf: (key: SummaryKey) => number;
  /** The policy that is in force, and its rule for a namespace: of what is taken back nothing is known under which it was said. */
  readonly saidUnder: (namespace: string, time: Time) => SaidUnder;
}

export class ReassertQueue {
  readonly #parts: ReassertQueueParts;
  readonly #waiting = new BoundedMap<KeyText, PendingReassertion>(MAX_WAITING);
  #dueMonoMs = NEVER;

  constructor(parts: ReassertQueueParts) {
    this.#parts = parts;
  }

  /** Of a node that exports. */
  nextDeadlineMs(): number {
    return this.#dueMonoMs;
  }

  /** Takes the orders that came, and does a slice of what is due. Only an exporter may. */
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
    // It is looked at once when that was said, so that no clock can hold it down for longer.
    const dueMonoMs = Math.max(known?.dueMonoMs ?? time.monoMs + this.#restMs(said, time) + turnMs, this.#heldDownMonoMs(key));
    const { saidVersion = said?.version ?? 0, isPutOff = false } = known ?? {};
    this.#waiting.set(text, { key, version, dueMonoMs, saidVersion, isPutOff });
    this.#dueMonoMs = Math.min(this.#dueMonoMs, dueMonoMs);
  }

  /** Of the hold-down of what was said. */
  #restMs(said: Pick<Summary, "generatedWallMs"> | undefined, { wallMs }: Time): number {
    return said === undefined ? 0 : Math.max(0, this.#parts.holdDownMs - Math.max(0, wallMs - said.generatedWallMs));
  }

  /** Another node said something below it since the order came: it waits for that hold-down too, but once only, because else who says something again and again would keep it back. */
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
    // Somebody said something newer meanwhile, above it.
    if ((held.own.find(key, time)?.version ?? 0) > version) return undefined;
    const above = held.restate(key, time) ?? held.takeBack(key, saidUnder(key.namespace, time), time);
    const facts = above === undefined ? undefined : held.own.find(key, time);
    return facts && { facts, cause: "exceeded" };
  }
}
