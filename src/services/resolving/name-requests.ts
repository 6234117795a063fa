/** What a DNS process requests from its resolver: names that are not followed. What it received stands for a second, so that a change shows soon. */
import type { InstanceName } from "../../catalog/query/instances.ts";
import { Prefixes } from "../../catalog/query/prefixes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Answer, Asked } from "../../resolver/io-types.ts";
import type { FollowedFacts, ProcessAnswer, ProcessQuestion } from "./process-exchange.ts";
import type { ReceivedName, ReceivedNames } from "./received-names.ts";

/** What was told of a name is asked for again after this time. In its second half that is done while it is told. */
const RECEIVED_MS = 1000;
/** Most names that are asked for at a time. */
const MAX_ASKED = 1000;
/** Most followed namespaces that are remembered to have been asked for lately. */
const MAX_REMINDED = 1000;
const NOTHING: FollowedFacts = { prefixes: [], doubted: [], isCutOff: true, letGoCount: 0 };

export interface NameRequestsParts {
  readonly names: ReceivedNames;
  /** `told` is called once, later: with nothing if there is no answer in time. */
  readonly ask: (question: ProcessQuestion, told: (answer: ProcessAnswer | undefined) => void) => void;
  readonly now: () => Time;
}

export class NameRequests {
  facts = NOTHING;
  /** Since when no upstream answers. */
  cutOffMonoMs: number | undefined;
  /** Counts what arrived. */
  inputCount = 0;
  readonly #parts: NameRequestsParts;
  #followed = new Prefixes([]);
  readonly #asked = new Map<string, ((error: WaymarkError | undefined) => void)[]>();
  readonly #reminded = new Map<string, number>();

  constructor(parts: NameRequestsParts) {
    this.#parts = parts;
    this.cutOffMonoMs = parts.now().monoMs;
  }

  heard(facts: FollowedFacts): void {
    this.facts = facts;
    this.#followed = new Prefixes([...facts.prefixes]);
    this.cutOffMonoMs = facts.isCutOff ? (this.cutOffMonoMs ?? this.#parts.now().monoMs) : undefined;
    this.inputCount += 1;
  }

  /** As of the machine. Of what is doubted the resolver has more than the feed tells. */
  isComplete(namespace: string): boolean {
    const isDoubted = (doubted: string) => namespace === "" || doubted === namespace || doubted.startsWith(`${namespace}.`);
    return this.#followed.covers(namespace) && !this.facts.doubted.some(isDoubted);
  }

  leftMs(name: InstanceName, { monoMs }: Time): number | undefined {
    const kept = this.#parts.names.find(name);
    if (kept === undefined) return undefined;
    const heldMs = monoMs - kept.arrivedMonoMs;
    return heldMs < RECEIVED_MS ? kept.leftMs - heldMs : 0;
  }

  markOf(name: InstanceName): number | undefined {
    return this.#parts.names.find(name)?.number;
  }

  /** What was told of a name lately. */
  fetchedAnswer(name: InstanceName, { monoMs }: Time): Answer | undefined {
    const kept = this.#parts.names.find(name);
    const heldMs = kept === undefined ? Number.POSITIVE_INFINITY : monoMs - kept.arrivedMonoMs;
    return kept === undefined || heldMs >= RECEIVED_MS ? undefined : answerOf(kept, heldMs, this.facts.isCutOff);
  }

  /** As `ElsewhereParts.ask`. */
  ask(name: InstanceName, { isFurther = false }: Asked, told: (error: WaymarkError | undefined) => void): Answer | undefined {
    const { names, now } = this.#parts;
    const time = now();
    const { monoMs } = time;
    if (this.isComplete(name.namespace)) {
      if (!isFurther) this.#remind(name, monoMs);
      return { source: "followed", isStale: this.facts.isCutOff, ageMs: 0 };
    }
    const answer = this.fetchedAnswer(name, time);
    if (answer !== undefined) {
      const heldMs = monoMs - (names.find(name)?.arrivedMonoMs ?? monoMs);
      if (heldMs > RECEIVED_MS / 2 && this.#asked.size < MAX_ASKED) this.#begin(name, isFurther, () => {});
      return answer;
    }
    if (this.#asked.size >= MAX_ASKED) throw new WaymarkError("not_ready", "this process asks its resolver for too many names already");
    this.#begin(name, isFurther, told);
    return undefined;
  }

  #begin(name: InstanceName, isFurther: boolean, told: (error: WaymarkError | undefined) => void): void {
    const key = `${name.namespace}\0${name.name}\0${name.kind}`;
    const waiting = this.#asked.get(key);
    if (waiting !== undefined) {
      waiting.push(told);
      return;
    }
    this.#asked.set(key, [told]);
    this.#parts.ask({ kind: "fetch", name, isFurther, isReminder: false }, (answer) => {
      const over = this.#asked.get(key) ?? [];
      this.#asked.delete(key);
      this.inputCount += 1;
      if (answer?.name !== undefined) this.#parts.names.put(name, answer.name, this.#parts.now().monoMs);
      const error = answer?.name === undefined ? new WaymarkError("not_ready", "the resolver does not know this name") : undefined;
      for (const tell of over) tell(error);
    });
  }

  /** A resolver goes on following only what is asked for. */
  #remind(name: InstanceName, monoMs: number): void {
    const { namespace } = name;
    if (monoMs - (this.#reminded.get(namespace) ?? Number.NEGATIVE_INFINITY) < RECEIVED_MS) return;
    if (this.#reminded.size >= MAX_REMINDED) this.#reminded.clear();
    this.#reminded.set(namespace, monoMs);
    this.#parts.ask({ kind: "fetch", name, isFurther: false, isReminder: true }, () => {});
  }
}

function answerOf({ ageMs, records }: ReceivedName, heldMs: number, isStale: boolean): Answer {
  return { source: "fetched", isStale, ageMs: ageMs + heldMs, isNegative: records.length === 0 };
}
