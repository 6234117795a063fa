/** What a call for names at a resolver is told, and when, over a machine whose every answer the test gives. */
import { expect, test } from "vitest";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import type { AnswerQuality } from "../../src/resolver/io-types.ts";
import { AnswerCounts } from "../../src/resolver/maintenance/statistics.ts";
import { NameCalls, type NameCallsParts, type NamesOutcome } from "../../src/services/resolving/name-calls.ts";

const AT = { monoMs: 1000, wallMs: 5000 };
const CALLER = anonymousCaller("c1", "127.0.0.1");
const fetched = (ageMs: number, isStale = false): AnswerQuality => ({ source: "fetched", isStale, ageMs });
const AWAY = new WaymarkError("not_ready", "no server answers");

/** A machine that follows nothing. What `known` has is answered at once, or refused; everything else is waited for. */
function calls(known: Readonly<Record<string, AnswerQuality | WaymarkError>> = {}) {
  const held = new Map<string, AnswerQuality>();
  const last = new Map<string, AnswerQuality>();
  const waiting = new Map<string, (error: WaymarkError | undefined) => void>();
  const asked: string[] = [];
  const state = { isReady: true, isSeen: true };
  const machine: NameCallsParts["machine"] = {
    get policy() {
      return state as never;
    },
    counts: new AnswerCounts(),
    isComplete: () => false,
    hasFetched: ({ name }) => held.has(name),
    fetchedAnswer: ({ name }) => held.get(name),
    lastAnswer: ({ name }) => last.get(name),
    followedAnswer: () => ({ source: "followed", isStale: false, ageMs: 7 }),
    hiddenAnswer: () => fetched(0),
  };
  const parts: NameCallsParts = {
    machine,
    ask: ({ name }, _asked, told) => {
      asked.push(name);
      const said = known[name];
      if (said instanceof WaymarkError) throw said;
      if (said === undefined) waiting.set(name, told);
      return said;
    },
    isSeen: () => state.isSeen,
    now: () => AT,
  };
  const outcomes: NamesOutcome[] = [];
  const ask = (names: readonly string[], { namespace = "svc", maxAgeMs = undefined as number | undefined } = {}) =>
    new NameCalls(parts).ask(
      { caller: CALLER, names: names.map((name) => nameOf(namespace, name)), maxAgeMs },
      { isAgain: false, time: AT },
      (outcome) => outcomes.push(outcome),
    );
  const arrives = (name: string, answer: AnswerQuality | WaymarkError) => {
    if (!(answer instanceof WaymarkError)) held.set(name, answer);
    waiting.get(name)?.(answer instanceof WaymarkError ? answer : undefined);
  };
  return { ask, arrives, asked, counts: machine.counts, held, last, outcomes, state };
}

const nameOf = (namespace: string, name: string): InstanceName => ({ kind: KIND.SERVICE, namespace, name });

test("what is known is told at once, as old and as stale as the worst of it", () => {
  const { ask, outcomes } = calls({ a: fetched(10), b: fetched(900, true) });
  expect(ask(["a", "b"])).toEqual({ kind: "here", answer: fetched(900, true) });
  expect(outcomes).toEqual([]);
});

test("nothing is asked for before the policy is here, except in namespaces of the control plane, nor for a caller that may not see the namespace", () => {
  const { ask, asked, state } = calls({ a: fetched(10) });
  state.isReady = false;
  expect([ask(["a"]), asked]).toEqual([{ kind: "again" }, []]);
  expect(ask(["a"], { namespace: "discovery.nodes" })).toEqual({ kind: "here", answer: fetched(10) });
  const hidden = calls({ a: fetched(10) });
  hidden.state.isSeen = false;
  expect([hidden.ask(["a"]), hidden.asked]).toEqual([{ kind: "here", answer: fetched(0) }, []]);
});

test("who waits is told once, when the last name is here", () => {
  const { ask, arrives, outcomes } = calls({ b: fetched(10) });
  expect(ask(["a", "b", "c"])).toBeUndefined();
  arrives("c", fetched(1));
  expect(outcomes).toEqual([]);
  arrives("a", fetched(2));
  // Meanwhile `b` was evicted.
  expect(outcomes).toEqual([{ kind: "refused", error: expect.objectContaining({ reason: "not_ready" }) as Error }]);
});

test.each([
  { what: "the policy is not here any more", change: ({ state }: ReturnType<typeof calls>) => (state.isReady = false) },
  { what: "more was heard than arrived", change: ({ held }: ReturnType<typeof calls>) => held.set("b", undefined as never) },
])("who waited asks again when $what", ({ change }) => {
  const call = calls();
  call.ask(["a", "b"]);
  call.arrives("b", fetched(1));
  change(call);
  call.arrives("a", fetched(2));
  expect(call.outcomes).toEqual([{ kind: "again" }]);
});

test("only a name that no server told of is answered from before: one whose answer was outdated meanwhile is asked for again", () => {
  const call = calls();
  for (const name of ["a", "b"]) call.last.set(name, fetched(900_000, true));
  call.ask(["a", "b"]);
  call.arrives("b", fetched(1));
  call.held.set("b", undefined as never);
  call.held.set("a", undefined as never);
  call.arrives("a", AWAY);
  expect(call.outcomes).toEqual([{ kind: "again" }]);
});

test("of several refusals a caller is told the first, and no answer after it", () => {
  const { ask, arrives, outcomes } = calls();
  ask(["a", "b", "c"]);
  arrives("a", AWAY);
  arrives("b", AWAY);
  arrives("c", fetched(1));
  expect(outcomes).toEqual([{ kind: "refused", error: AWAY }]);
  const later = calls({ b: AWAY });
  expect(later.ask(["a", "b"])).toEqual({ kind: "refused", error: AWAY });
  later.arrives("a", fetched(1));
  expect(later.outcomes).toEqual([]);
});

test("where no server answers, who waited is told what there was before, as stale; a refusal of another kind, and a bound for the age, are kept", () => {
  const before = fetched(900_000, true);
  const call = () => {
    const made = calls();
    made.held.set("b", fetched(1));
    made.last.set("a", before);
    return made;
  };
  const waits = call();
  waits.held.set("a", undefined as never);
  waits.ask(["a", "b"]);
  waits.arrives("b", fetched(1));
  waits.arrives("a", AWAY);
  expect(waits.outcomes).toEqual([{ kind: "here", answer: before }]);
  const denied = call();
  const error = new WaymarkError("discovery_access_denied", "no");
  denied.ask(["a"]);
  denied.arrives("a", error);
  expect(denied.outcomes).toEqual([{ kind: "refused", error }]);
  const bounded = call();
  bounded.ask(["a"], { maxAgeMs: 1000 });
  bounded.arrives("a", AWAY);
  expect(bounded.outcomes).toMatchObject([{ kind: "refused" }]);
});

test("a call for several names is counted once: as a hit where it waited for nobody, and as a negative one where none of them exists", () => {
  const absent = { ...fetched(10), isNegative: true };
  const { ask, counts } = calls({ a: fetched(10, true), none: absent, nothing: absent, gone: AWAY });
  const count = () => [counts.hitCount, counts.missCount, counts.staleCount, counts.negativeCount];
  ask(["none", "a"]);
  expect(count()).toEqual([1, 0, 1, 0]);
  ask(["none", "nothing"]);
  expect(count()).toEqual([2, 0, 1, 1]);
  ask(["a", "b", "c"]);
  ask(["a", "gone"]);
  expect(count()).toEqual([2, 2, 1, 1]);
});

test("a caller with a bound is told that what is held is too old, and not so of what is not held at all", () => {
  const { ask, arrives, outcomes, held } = calls();
  held.set("a", fetched(900));
  ask(["a"], { maxAgeMs: 100 });
  arrives("a", AWAY);
  ask(["b"], { maxAgeMs: 100 });
  arrives("b", AWAY);
  expect(outcomes.map((outcome) => outcome.kind === "refused" && outcome.error.reason)).toEqual(["too_stale", "not_ready"]);
});
