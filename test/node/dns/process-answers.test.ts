/** What a resolver answers its DNS processes: each question once, whatever becomes of it. */
import { expect, test } from "vitest";
import { BODY, KIND, keyParts, keyText } from "../../../src/catalog/record/record.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { ProcessAnswers, type ProcessAnswersParts } from "../../../src/node/dns/process-answers.ts";
import type { ProcessAnswer, ProcessQuestion } from "../../../src/services/resolving/process-exchange.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

const name = { kind: KIND.SERVICE, namespace: "svc.other", name: "db" };
const NAME: ProcessQuestion = { kind: "fetch", name, isFurther: false, isReminder: false };
const HOST: ProcessQuestion = { kind: "carriers", name: "shop.example", zone: "waymark", viewer: { cluster: "c1", tenant: "" } };
const refused = new WaymarkError("not_ready", "nobody");

async function answered(question: ProcessQuestion, parts: Partial<ProcessAnswersParts>): Promise<readonly ProcessAnswer[]> {
  const { rooms, now } = new ResolverWorld(["a"]);
  const fails = { ask: () => undefined, askCarriers: () => Promise.reject(refused) };
  const answers: ProcessAnswer[] = [];
  new ProcessAnswers({ rooms, now: () => now, ...fails, ...parts }).answer(question, (answer) => answers.push(answer));
  await new Promise(setImmediate);
  return answers;
}

const telling =
  (error: WaymarkError | undefined): ProcessAnswersParts["ask"] =>
  (_, __, told) => {
    told(error);
    return undefined;
  };

const NONE = { entries: [], ageMs: 7, leftMs: 0 };
test.each<{ what: string; question: ProcessQuestion; parts: Partial<ProcessAnswersParts>; answers: readonly ProcessAnswer[] }>([
  {
    what: "a name that is here",
    question: NAME,
    parts: { ask: () => ({ source: "fetched", isStale: false, ageMs: 7 }) },
    answers: [{ name: NONE }],
  },
  {
    what: "a name that arrives",
    question: NAME,
    parts: { ask: telling(undefined) },
    answers: [{ name: { ...NONE, ageMs: 0 } }],
  },
  { what: "a name that does not", question: NAME, parts: { ask: telling(refused) }, answers: [{}] },
  {
    what: "a name for which nobody can be asked",
    question: NAME,
    parts: {
      ask: () => {
        throw refused;
      },
    },
    answers: [{}],
  },
  {
    what: "a name that is only to count",
    question: { ...NAME, isReminder: true },
    parts: { ask: () => ({ source: "followed", isStale: false, ageMs: 0 }) },
    answers: [{}],
  },
  {
    what: "an alias",
    question: HOST,
    parts: { askCarriers: () => Promise.resolve({ entries: [], isMore: true }) },
    answers: [{ carriers: { entries: [], isMore: true } }],
  },
  { what: "an alias that nobody can tell", question: HOST, parts: {}, answers: [{}] },
])("$what is answered once", async ({ question, parts, answers }) => {
  expect(await answered(question, parts)).toEqual(answers);
});

test("what is followed is the same object until something of it changes, so that it is said once", () => {
  const world = new ResolverWorld(["a"]);
  const told = new ProcessAnswers({
    rooms: world.rooms,
    now: () => world.now,
    ask: () => undefined,
    askCarriers: () => Promise.reject(refused),
  });
  const { facts } = told;
  expect([facts.prefixes, facts.isCutOff, told.facts === facts]).toEqual([[], true, true]);
  world.run(5000);
  expect(told.facts).not.toBe(facts);
  expect(told.facts.isCutOff).toBe(false);
});

test("the resolver does not count what a process asks it for: the process counts its own questions", async () => {
  const counted: (boolean | undefined)[] = [];
  const ask: ProcessAnswersParts["ask"] = (_, { isCounted }) => {
    counted.push(isCounted);
    return { source: "fetched", isStale: false, ageMs: 7 };
  };
  for (const isReminder of [false, true]) await answered({ ...NAME, isReminder }, { ask });
  expect(counted).toEqual([false, false]);
});

test("that a namespace was let go is said, also when it is followed again before anybody asked", () => {
  const world = new ResolverWorld(["a"]);
  const { rooms } = world;
  const told = new ProcessAnswers({ rooms, now: () => world.now, ask: () => undefined, askCarriers: () => Promise.reject(refused) });
  const { following } = world.machine;
  following.watch("other");
  world.run(5000);
  const { facts } = told;
  expect(facts.prefixes).toContain("other");
  following.unwatch("other");
  world.act("evict", "nothing.here");
  world.run(200);
  following.watch("other");
  world.run(5000);
  const { letGoCount, ...same } = facts;
  expect(told.facts).toEqual({ ...same, letGoCount: letGoCount + 1 });
});

test("entries of a node that is lost are told as such, and others are not", () => {
  const world = new ResolverWorld(["a", "b"]);
  const [lost, live] = [KEYS[12]!, KEYS[14]!];
  world.put("b", lost);
  world.put("a", live);
  const { node } = world.server("a");
  node.setLife(world.server("b").node.replica.self.id, "orphaned");
  world.run(2000);
  const told = new ProcessAnswers({
    rooms: world.rooms,
    now: () => world.now,
    ask: world.port,
    askCarriers: () => Promise.reject(refused),
  });
  const said: (readonly boolean[] | undefined)[] = [];
  for (const key of [lost, live]) {
    const { namespace, name: asked, kind } = keyParts(key);
    const question: ProcessQuestion = { ...NAME, name: { namespace, name: asked, kind } };
    told.answer(question, (answer) => said.push(answer.name?.entries.map(({ isOrphaned }) => isOrphaned)));
    world.run(1000);
  }
  expect(said).toEqual([[true], [false]]);
});

test("of a name that a guard holds nothing is left of its time, so that a process tells it as stale", () => {
  const world = new ResolverWorld(["a"], { namespaces: ["svc"] });
  const keys = ["1", "2", "3"].map((instanceId) => keyText({ ...keyParts(KEYS[0]!), instanceId }));
  for (const key of keys) world.put("a", key);
  world.run(2000);
  const { rooms } = world;
  const processes = new ProcessAnswers({ rooms, now: () => world.now, ask: world.port, askCarriers: () => Promise.reject(refused) });
  const { kind, namespace, name: db } = keyParts(KEYS[0]!);
  const told = () => {
    let said: ProcessAnswer = {};
    const asked = { kind: "fetch", name: { kind, namespace, name: db }, isFurther: false, isReminder: false } as const;
    processes.answer(asked, (answer) => (said = answer));
    return [said.name?.entries.length, said.name?.leftMs];
  };
  expect(told()).toEqual([3, Number.POSITIVE_INFINITY]);
  for (const key of keys) world.end("a", key, BODY.EXPIRED);
  world.run(1000);
  expect(told()).toEqual([3, 0]);
});
