/**
 * Calls that ask a resolver for names: the policy first, then the verdict on the namespace, then what is followed or fetched; and after a wait all of that
 * again, because what arrived may have changed it (semantics.md, Resolver). It waits for nothing itself. The simulator runs it too.
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

/** Reasons of a server that cannot answer now, whatever is asked. */
export const AWAY: ReadonlySet<string> = new Set(["not_ready", "deadline_exceeded", "draining", "store_unavailable"]);

/** A request for names of one namespace. */
export interface NamesRequest {
  readonly caller: Caller;
  readonly names: readonly QueriedName[];
  /** What is told may not be older, in ms. Undefined: as old as it may be served. */
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
  /** The entries are here in this turn, and may not be in the next one. What the caller may not see is told as absent. */
  | { readonly kind: "here"; readonly answer: AnswerQuality }
  /** The policy is not here, or more was heard meanwhile than what arrived tells. Nothing may be told; ask again when the policy is here. */
  | { readonly kind: "again" }
  | { readonly kind: "refused"; readonly error: WaymarkError };

const AGAIN: NamesOutcome = { kind: "again" };

export class NameCalls {
  readonly #parts: NameCallsParts;

  constructor(parts: NameCallsParts) {
    this.#parts = parts;
  }

  /**
   * Undefined: `told` is called once, later, in the turn in which the last name arrives. `isAgain`: the same call asked before. It counts once, and so does
   * its namespace.
   */
  ask(asked: NamesRequest, { isAgain, time }: { readonly isAgain: boolean; readonly time: Time }, told: (outcome: NamesOutcome) => void) {
    const { machine, isSeen } = this.#parts;
    const { caller, names, maxAgeMs } = asked;
    const namespace = names[0]?.namespace ?? "";
    if (!isPolicyHere(machine, namespace)) return AGAIN;
    // A caller that may not see the namespace is answered as if nothing were there, and changes nothing.
    if (names.length === 0 || !isSeen(caller, namespace)) return here([machine.hiddenAnswer(namespace, time)]);
    // A query is one answer, of however many names and kinds.
    const isOne = names.length === 1;
    const isWhole = !isOne && !isAgain;
    const known: AnswerQuality[] = [];
    let waitCount = 0;
    let isOver = false;
    const tell = (outcome: NamesOutcome): void => {
      // Where a later name is refused, nobody waits for the others.
      if (!isOver) told(outcome);
      isOver = true;
    };
    /** Names that no server told of in time, and of which there are older answers. */
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

  /** The refusal of a caller that no server answers in time, if all names are known and too old for it. */
  tooOld({ names, maxAgeMs }: NamesRequest): WaymarkError | undefined {
    if (!names.every((name) => this.#isHere(name))) return undefined;
    return tooStale(new WaymarkError("deadline_exceeded", "no server answers in time"), maxAgeMs);
  }

  /** What is told of these names now that the last one is here. */
  #arrived(names: readonly QueriedName[], unheard: ReadonlySet<QueriedName> | undefined): NamesOutcome {
    const { machine, now } = this.#parts;
    if (!isPolicyHere(machine, names[0]?.namespace ?? "")) return AGAIN;
    // What was evicted while another name arrived is unknown again, and not absent.
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

  /** While no server answers nothing expires: whoever waits is told what there was, as stale. */
  #isTellable({ reason }: WaymarkError, name: QueriedName, maxAgeMs: number | undefined): boolean {
    const { machine, now } = this.#parts;
    if (maxAgeMs !== undefined || !AWAY.has(reason)) return false;
    return machine.isComplete(name.namespace) || machine.lastAnswer(name, now()) !== undefined;
  }

  /** What is not known at all is not too old. */
  #refused(error: WaymarkError, name: QueriedName, maxAgeMs: number | undefined): NamesOutcome {
    return { kind: "refused", error: this.#isHere(name) ? tooStale(error, maxAgeMs) : error };
  }

  /** Whether anything is known of a name, however old that is. */
  #isHere(name: QueriedName): boolean {
    const { machine } = this.#parts;
    return machine.isComplete(name.namespace) || machine.hasFetched(name);
  }
}

/** A caller with a bound for the age is told that the data is too old, whatever the reason. */
export function tooStale(error: WaymarkError, maxAgeMs: number | undefined): WaymarkError {
  if (maxAgeMs === undefined || !AWAY.has(error.reason)) return error;
  const message = `what this resolver holds is older than ${maxAgeMs} ms, and no server answers that could tell more`;
  return new WaymarkError("too_stale", message, { retryMs: RETRY_MS });
}

function noRoom(): WaymarkError {
  return new WaymarkError("not_ready", "the cache of this resolver has no room for the answer; ask for fewer names", {
    retryMs: RETRY_MS,
  });
}

/** Of several answers what is true of all together. */
function here(answers: readonly AnswerQuality[]): NamesOutcome {
  const [one] = answers;
  if (one !== undefined && answers.length === 1) return { kind: "here", answer: one };
  const ageMs = Math.max(...answers.map((answer) => answer.ageMs));
  const source = answers.some((answer) => answer.source === "fetched") ? "fetched" : (answers[0]?.source ?? "followed");
  const unreachable = answers.reduce<AnswerQuality["unreachable"]>((all, answer) => joinUnreachable(all, answer.unreachable), undefined);
  return { kind: "here", answer: { source, isStale: answers.some(({ isStale }) => isStale), ageMs, unreachable } };
}
