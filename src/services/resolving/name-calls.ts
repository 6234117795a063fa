/**
 * Answers calls that request names from a resolver. Each call first checks the policy version and the verdict on the namespace, and then reads
 * watched or fetched data. After a wait, all steps are repeated, because the received data may have changed their results (semantics.md, Resolver).
 * The code itself never waits, so the simulator can run it too.
 */
import { askedCount, type QueriedName } from "../../catalog/query/instances.ts";
import { joinUnreachable } from "../../catalog/unreachable-nodes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { AnswerQuality } from "../../resolver/io-types.ts";
import { isPolicyHere } from "./policy-gate.ts";
import type { ResolverPorts } from "./ports.ts";

const RETRY_MS = 500;

/** Error reasons from a server that currently cannot answer any request. */
export const AWAY: ReadonlySet<string> = new Set(["not_ready", "deadline_exceeded", "draining", "store_unavailable"]);

/** A request for names in one namespace. */
export interface NamesRequest {
  readonly caller: Caller;
  readonly names: readonly QueriedName[];
  /** Largest age that the caller accepts for the answer, in ms. Undefined if the caller does not set a limit. */
  readonly maxAgeMs: number | undefined;
}

export interface NameCallsParts extends Pick<ResolverPorts, "ask"> {
  readonly machine: Pick<
    ResolverPorts["machine"],
    "counts" | "fetchedAnswer" | "followedAnswer" | "hasFetched" | "hiddenAnswer" | "isComplete" | "lastAnswer" | "policy"
  >;
  readonly isSeen: (caller: Caller, namespace: string) => boolean;
  readonly now: () => Time;
}

export type NamesOutcome =
  /** The entries are available in this turn of the event loop, but possibly not in the next. Hidden entries are reported as absent. */
  | { readonly kind: "here"; readonly answer: AnswerQuality }
  /**
   * The policy is missing, or the received data is already outdated. The call must not be answered now. The caller repeats the call when the policy
   * has arrived.
   */
  | { readonly kind: "again" }
  | { readonly kind: "refused"; readonly error: WaymarkError };

const AGAIN: NamesOutcome = { kind: "again" };

export class NameCalls {
  readonly #parts: NameCallsParts;

  constructor(parts: NameCallsParts) {
    this.#parts = parts;
  }

  /**
   * Returns the outcome, or undefined if names must be fetched. In that case `told` is called once, in the turn in which the last name arrives.
   * `isAgain` is true for a repeated call, so that the statistics count the call and its namespace only once.
   */
  ask(asked: NamesRequest, { isAgain, time }: { readonly isAgain: boolean; readonly time: Time }, told: (outcome: NamesOutcome) => void) {
    const { machine, isSeen } = this.#parts;
    const { caller, names, maxAgeMs } = asked;
    const namespace = names[0]?.namespace ?? "";
    if (!isPolicyHere(machine, namespace)) return AGAIN;
    // A caller that may not see the namespace gets an empty answer, and its call has no effect on the cache.
    if (names.length === 0 || !isSeen(caller, namespace)) return here([machine.hiddenAnswer(namespace, time)]);
    // The statistics count a query as one answer, regardless of how many names and kinds it requests.
    const isOne = names.length === 1;
    const isWhole = !isOne && !isAgain;
    const known: AnswerQuality[] = [];
    let waitCount = 0;
    let isOver = false;
    const tell = (outcome: NamesOutcome): void => {
      // After an error for one name, the results for the other names are ignored.
      if (!isOver) told(outcome);
      isOver = true;
    };
    /** Names for which no server answered in time but older answers exist. */
    let unheard: Set<QueriedName> | undefined;
    const arrived = (error: WaymarkError | undefined, name: QueriedName): void => {
      waitCount -= 1;
      if (error !== undefined && !this.#isTellable(error, name, maxAgeMs)) return tell(this.#refused(error, name, maxAgeMs));
      if (error !== undefined) (unheard ??= new Set()).add(name);
      if (waitCount === 0) tell(this.#arrived(names, unheard));
    };
    for (const [i, name] of names.entries()) {
      waitCount += 1;
      let found: AnswerQuality | undefined;
      try {
        found = this.#parts.ask(name, { maxAgeMs, isFurther: i > 0 || isAgain, isCounted: isOne && !isAgain }, (error) =>
          arrived(error, name),
        );
      } catch (error) {
        if (!(error instanceof WaymarkError)) throw error;
        isOver = true;
        if (isWhole) machine.counts.miss();
        return this.#refused(error, name, maxAgeMs);
      }
      if (found === undefined) continue;
      waitCount -= 1;
      known.push(found);
    }
    const isWaiting = known.length < names.length;
    if (isWhole && isWaiting) machine.counts.miss();
    else if (isWhole)
      machine.counts.hit({ isStale: known.some(({ isStale }) => isStale), isNegative: known.every((one) => one.isNegative) });
    return isWaiting ? undefined : here(known);
  }

  /** Returns the error for a caller if no server answered in time and the answers for all names exist but are too old. Undefined otherwise. */
  tooOld({ names, maxAgeMs }: NamesRequest): WaymarkError | undefined {
    if (!names.every((name) => this.#isHere(name))) return undefined;
    return tooStale(new WaymarkError("deadline_exceeded", "no server answered in time"), maxAgeMs);
  }

  /** Returns the outcome after the last of the names has arrived. */
  #arrived(names: readonly QueriedName[], unheard: ReadonlySet<QueriedName> | undefined): NamesOutcome {
    const { machine, now } = this.#parts;
    if (!isPolicyHere(machine, names[0]?.namespace ?? "")) return AGAIN;
    // A name that was evicted while another name arrived is unknown again, which is different from absent.
    if (!names.every((name) => this.#isHere(name))) return { kind: "refused", error: noRoom() };
    const time = now();
    const answers = names.map((name) =>
      machine.isComplete(name.namespace)
        ? machine.followedAnswer(time, (held) => askedCount(held, name) > 0)
        : (machine.fetchedAnswer(name, time) ?? (unheard?.has(name) === true ? machine.lastAnswer(name, time) : undefined)),
    );
    const known = answers.filter((answer) => answer !== undefined);
    return known.length < names.length ? AGAIN : here(known);
  }

  /** Returns whether an old answer can be served as stale. Answers do not expire while servers do not respond. */
  #isTellable({ reason }: WaymarkError, name: QueriedName, maxAgeMs: number | undefined): boolean {
    const { machine, now } = this.#parts;
    if (maxAgeMs !== undefined || !AWAY.has(reason)) return false;
    return machine.isComplete(name.namespace) || machine.lastAnswer(name, now()) !== undefined;
  }

  /** Returns the error for the call. The error is `too_stale` only if the name is known. */
  #refused(error: WaymarkError, name: QueriedName, maxAgeMs: number | undefined): NamesOutcome {
    return { kind: "refused", error: this.#isHere(name) ? tooStale(error, maxAgeMs) : error };
  }

  /** Returns whether there is an answer for a name, regardless of the age of the answer. */
  #isHere(name: QueriedName): boolean {
    const { machine } = this.#parts;
    return machine.isComplete(name.namespace) || machine.hasFetched(name);
  }
}

/** Converts an error to `too_stale` if the caller has a limit on the age and no server can answer now. */
export function tooStale(error: WaymarkError, maxAgeMs: number | undefined): WaymarkError {
  if (maxAgeMs === undefined || !AWAY.has(error.reason)) return error;
  const message = `the cached data of this resolver is older than max_staleness (${maxAgeMs} ms), and no upstream answers; retry in ${RETRY_MS} ms`;
  return new WaymarkError("too_stale", message, { retryMs: RETRY_MS });
}

function noRoom(): WaymarkError {
  return new WaymarkError("not_ready", "the cache of this resolver has no room for the answer: request fewer names", {
    retryMs: RETRY_MS,
  });
}

/** Combines several answers: uses the largest age, and marks the result stale if one of them is stale. */
function here(answers: readonly AnswerQuality[]): NamesOutcome {
  const [one] = answers;
  if (one !== undefined && answers.length === 1) return { kind: "here", answer: one };
  const ageMs = Math.max(...answers.map((answer) => answer.ageMs));
  const source = answers.some((answer) => answer.source === "fetched") ? "fetched" : (answers[0]?.source ?? "followed");
  const unreachable = answers.reduce<AnswerQuality["unreachable"]>((all, answer) => joinUnreachable(all, answer.unreachable), undefined);
  return { kind: "here", answer: { source, isStale: answers.some(({ isStale }) => isStale), ageMs, unreachable } };
}
