/** When a cluster says something of its services: at once, held down, at the instants of windows, and under random churn. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { HEALTH, KIND, viewHealth } from "../../src/catalog/record/record.ts";
import { type CutoverWindow, exportScopesAt, type NamespaceRule } from "../../src/policy/set/rules.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import type { BuilderOptions, Standing } from "../../src/summary/building/builder.ts";
import { recordKey } from "../../src/summary/keys.ts";
import { BAND, type Band, type Channel, type SummaryFacts } from "../../src/summary/summary.ts";
import { runs } from "../fakes/effort.ts";
import { rule, set, span } from "../fakes/policies.ts";
import { WALL } from "../fakes/registry.ts";
import { OPTIONS, type SummaryNode, SummaryWorld, wordsOf } from "../fakes/summary-world.ts";

const { ZONE, REGION, GLOBAL } = SCOPE;
const { HEALTHY, CRITICAL } = HEALTH;
const HOLD_MS = OPTIONS.holdDownMs;

function policyOf(fields: Partial<NamespaceRule>, number = 1): Policy {
  return new Policy(set([rule("svc", { allowSummaries: true, ...fields })]), number);
}
const DENIED = policyOf({ allowSummaries: false }, 2);

type Act = readonly [atMs: number, act: (world: SummaryWorld) => void];

/** Does each act at its time; returns what was sent by the end, with the time in tenths of a second, rounded down. */
function played(acts: readonly Act[], untilMs: number, world = new SummaryWorld()): readonly string[] {
  for (const [atMs, does] of acts) {
    world.run(atMs - world.ms);
    does(world);
  }
  world.run(untilMs - world.ms);
  return world.drafts.map((draft) => `${Math.floor(draft.atMs / 100) / 10} ${wordsOf(draft)}`);
}

const put =
  (id: string, health: typeof HEALTHY | typeof CRITICAL = HEALTHY, scope: Scope = GLOBAL) =>
  (world: SummaryWorld) =>
    world.put({ id, health, scope });
const remove = (id: string) => (world: SummaryWorld) => world.remove({ id });
const policy = (next: Policy) => (world: SummaryWorld) => world.setPolicy(next);
const many = (healthy: number) => (world: SummaryWorld) => world.putMany({ healthy });

test.each<{ name: string; acts: readonly Act[]; want: readonly string[] }>([
  { name: "a first sight goes at once", acts: [[1000, put("1")]], want: ["1 global first 1 healthy r1 0-0"] },
  {
    name: "a change after a quiet time goes at once, and the next is held down; the newest wins",
    acts: [
      [0, put("1")],
      [10_000, put("1", CRITICAL)],
      [11_000, put("1", HEALTHY)],
      [12_000, put("2", CRITICAL)],
    ],
    want: ["0 global first 1 healthy r1 0-0", "10 global changed 1 critical r1 0-0", "15 global changed 2 degraded r1 0-0"],
  },
  {
    name: "what is as before when the hold-down ends is not said",
    acts: [
      [0, put("1")],
      [10_000, put("1", CRITICAL)],
      [11_000, put("1", HEALTHY)],
      [12_000, put("1", CRITICAL)],
    ],
    want: ["0 global first 1 healthy r1 0-0", "10 global changed 1 critical r1 0-0"],
  },
  {
    name: "vanishing and coming back are held down",
    acts: [
      [0, put("1")],
      [1000, remove("1")],
      [6000, put("1")],
    ],
    want: ["0 global first 1 healthy r1 0-0", "5 global vanished gone", "10 global changed 1 healthy r1 0-0"],
  },
  {
    name: "who comes back within the hold-down was not away",
    acts: [
      [0, put("1")],
      [1000, remove("1")],
      [2000, put("1")],
    ],
    want: ["0 global first 1 healthy r1 0-0"],
  },
  {
    name: "a count alone waits for the export interval",
    acts: [
      [0, put("1")],
      [6000, many(2)],
      [12_000, many(3)],
    ],
    want: ["0 global first 1 healthy r1 0-0", "30 global measured 3 healthy r1 0-0"],
  },
  {
    name: "a band takes the count along",
    acts: [
      [0, put("1")],
      [6000, many(2)],
      [12_000, put("1", CRITICAL)],
    ],
    want: ["0 global first 1 healthy r1 0-0", "12 global changed 2 degraded r1 0-0"],
  },
  {
    name: "a first sight on a wider channel goes at once, and does not take along what is held down",
    acts: [
      [0, policy(policyOf({ exportScopes: [ZONE, GLOBAL] }))],
      [0, put("1", HEALTHY, ZONE)],
      [1000, put("2", CRITICAL, ZONE)],
      [2000, put("3", CRITICAL, REGION)],
    ],
    want: ["0 zone first 1 healthy r1 0-0", "2 global first 1 critical r1 0-0", "5 zone changed 3 degraded r1 0-0"],
  },
  {
    name: "what the policy denies is taken back at once, and comes back held down",
    acts: [
      [0, put("1")],
      [1000, policy(DENIED)],
      [2000, policy(NO_POLICY)],
    ],
    want: ["0 global first 1 healthy r1 0-0", "1 global denied gone", "6 global changed 1 healthy r1 0-0"],
  },
  {
    name: "what the policy denied and allowed before it was seen is not told again",
    acts: [
      [0, put("1")],
      [1000, policy(policyOf({}, 2))],
    ],
    want: ["0 global first 1 healthy r1 0-0"],
  },
  {
    name: "a channel that a rule adds is told at once, and one that it takes is taken back at once",
    acts: [
      [0, policy(policyOf({ exportScopes: [GLOBAL] }))],
      [0, put("1")],
      [1000, policy(policyOf({ exportScopes: [REGION] }, 2))],
    ],
    want: ["0 global first 1 healthy r1 0-0", "1 global denied gone", "1 region first 1 healthy r1 0-0"],
  },
])("$name", ({ acts, want }) => {
  expect(played(acts, 59_000)).toEqual(want);
});

test("what a node says again, because others know it better, begins its hold-down anew", () => {
  const world = new SummaryWorld();
  const { builder, sent } = world.node("a");
  const acts: readonly Act[] = [
    [0, put("1")],
    [10_000, () => builder.saidAgain([...sent.values()][0] ?? expect.fail(), world.time)],
    [11_000, put("1", CRITICAL)],
  ];
  expect(played(acts, 60_000, world)).toEqual(["0 global first 1 healthy r1 0-0", "15 global changed 1 critical r1 0-0"]);
});

test("what had to wait is counted", () => {
  const world = new SummaryWorld();
  played(
    [
      [0, put("1")],
      [1000, put("1", CRITICAL)],
      [2000, put("2")],
      [60_000, put("1")],
    ],
    61_000,
    world,
  );
  expect(world.node("a").builder.heldDownCount).toBe(1);
});

const second = (n: number) => WALL + n * 1000;
const windows = (...cutoverWindows: readonly CutoverWindow[]) => policyOf({ cutoverWindows });

test.each<{ name: string; policy: Policy; want: readonly (readonly [said: string, notAfter: number | undefined])[] }>([
  {
    name: "opens and closes at the instant",
    policy: windows(span(second(10), second(20))),
    want: [
      ["10 global first 2 healthy r1 0-0", 20],
      ["20 global denied gone", undefined],
    ],
  },
  {
    name: "that follows another does not make a gap",
    policy: windows(span(second(10), second(20)), span(second(20), second(40))),
    want: [
      ["10 global first 2 healthy r1 0-0", 40],
      ["40 global denied gone", undefined],
    ],
  },
  {
    name: "that many others follow without a gap ends with the last of them",
    policy: windows(...Array.from({ length: 20 }, (_, n) => span(second(10 + 2 * n), second(12 + 2 * n)))),
    want: [
      ["10 global first 2 healthy r1 0-0", 50],
      ["50 global denied gone", undefined],
    ],
  },
  {
    name: "that lies over another and denies ends it",
    policy: windows(span(second(10), second(50)), span(second(20), second(30), { allowSummaries: false })),
    want: [
      ["10 global first 2 healthy r1 0-0", 20],
      ["20 global denied gone", undefined],
      ["30 global changed 2 healthy r1 0-0", 50],
      ["50 global denied gone", undefined],
    ],
  },
  {
    name: "with other scopes moves the channel",
    policy: policyOf({
      exportScopes: [REGION],
      cutoverWindows: [span(second(10), undefined), span(second(20), second(30), { exportScopes: [GLOBAL] })],
    }),
    want: [
      ["10 region first 2 healthy r1 0-0", 20],
      ["20 region denied gone", undefined],
      ["20 global first 2 healthy r1 0-0", 30],
      ["30 global denied gone", undefined],
      ["30 region changed 2 healthy r1 0-0", undefined],
    ],
  },
])("a window $name", ({ policy: next, want }) => {
  const world = new SummaryWorld();
  world.setPolicy(next);
  world.put({ id: "1" }, { id: "2" });
  const said = played([], 59_000, world);
  expect(said.map((words, i) => [words, world.drafts[i]?.facts.notAfterWallMs])).toEqual(
    want.map(([words, notAfter]) => [words, notAfter === undefined ? undefined : second(notAfter)]),
  );
  expect(world.drafts.every(({ facts }) => facts.noStale)).toBe(true);
});

test("a rule that gets its first window, which has no end, is said at once: from then on the summary ends with its source", () => {
  const world = new SummaryWorld();
  const open = policyOf({ cutoverWindows: [span(second(0))] }, 2);
  const said = played(
    [
      [0, policy(policyOf({}))],
      [0, put("1")],
      [10_000, policy(open)],
    ],
    59_000,
    world,
  );
  expect(said).toEqual(["0 global first 1 healthy r1 0-0", "10 global changed 1 healthy r1 0-0"]);
  expect(world.drafts.map(({ facts }) => facts.noStale)).toEqual([false, true]);
});

test.each([
  { name: "to the end of the window", aheadMs: 3_590_000 },
  { name: "to before the window", aheadMs: -20_000 },
])("a clock that is set $name closes the window within a second", ({ aheadMs }) => {
  const world = new SummaryWorld();
  world.setPolicy(windows(span(second(0), second(3600))));
  world.put({});
  world.run(10_000);
  world.wallAheadMs = aheadMs;
  world.run(1000);
  expect(world.told()).toEqual(["global first 1 healthy r1 0-0", "global denied gone"]);
});

test("a clock that was set back for an hour holds nothing down for longer", () => {
  const world = new SummaryWorld(["a"]);
  world.put({});
  world.run(10_000);
  world.wallAheadMs = -3_600_000;
  // It starts anew, and knows the time of what is held only from the summary.
  world.node("a").builder.stoodStill();
  world.follow({ members: ["a"], standing: "exporting" });
  world.put({ health: CRITICAL });
  world.run(HOLD_MS + 1000);
  expect(world.told()).toEqual(["global first 1 healthy r1 0-0", "global changed 1 critical r1 0-0"]);
});

// ---- the hold-down, and the truth at rest, beside a model that counts everything anew ----

interface ModelOptions extends Pick<BuilderOptions, "exportScope" | "includeUnscoped"> {}

/** The bands that a share may have, whatever was before. */
function bandsOf(healthyCount: number, fitCount: number): readonly Band[] {
  const share = (healthyCount * 100) / fitCount;
  if (fitCount === 0) return Object.values(BAND);
  const edges: readonly (readonly [number, readonly Band[]])[] = [
    [85, [BAND.HEALTHY]],
    [80, [BAND.HEALTHY, BAND.DEGRADED]],
    [35, [BAND.DEGRADED]],
    [30, [BAND.DEGRADED, BAND.CRITICAL]],
  ];
  return edges.find(([least]) => share >= least)?.[1] ?? [BAND.CRITICAL];
}

/** Whether the policy and the settings let the service out on the channel, by the rule as it is written. */
function isLetOut(now: Policy, channel: Channel, wallMs: number, options: ModelOptions): boolean {
  const found = now.ruleOf("svc");
  const listed = found === undefined ? [] : exportScopesAt(found, wallMs);
  const asks =
    listed.length === 0
      ? options.includeUnscoped && channel === options.exportScope
      : listed.includes(channel) && channel <= options.exportScope;
  return asks && now.exportSummary("svc", OPTIONS.source, { scope: channel, wallMs }).allowed;
}

/** The entries that count on a channel. */
function countedOf({ catalog, policies }: SummaryNode, name: string, channel: Channel, wallMs: number) {
  const found = policies.policy.ruleOf("svc");
  const least = channel === GLOBAL && found !== undefined && exportScopesAt(found, wallMs).includes(GLOBAL) ? REGION : channel;
  const cursor = catalog.lookup.cursor();
  const counted = [];
  for (let record = cursor.next(); record !== undefined; record = cursor.next())
    if (record.name === name && record.traits.clusterId === "c1" && record.scope >= least) counted.push(record);
  return counted;
}

const someScopes = fc.subarray<Scope>([ZONE, REGION, GLOBAL]);
const somePolicy = fc.oneof(
  { weight: 1, arbitrary: fc.constant(undefined) },
  {
    weight: 4,
    arbitrary: fc.record({
      exportScopes: someScopes,
      allowSummaries: fc.boolean(),
      cutoverWindows: fc.array(
        fc.record({
          from: fc.nat(90),
          length: fc.integer({ min: 1, max: 40 }),
          exportScopes: someScopes,
          allowSummaries: fc.constantFrom(true, false, undefined),
        }),
        { maxLength: 2 },
      ),
    }),
  },
);
const someAct = fc.record({
  waitMs: fc.constantFrom(0, 0, 20, 700, 2500, 4999, 5001, 12_000),
  kind: fc.constantFrom("put", "put", "put", "put", "remove", "remove", "life", "policy", "foreign", "exporters", "still", "key"),
  name: fc.constantFrom("web", "db"),
  id: fc.nat(5),
  scope: fc.constantFrom<Scope>(ZONE, REGION, GLOBAL, GLOBAL),
  health: fc.constantFrom(HEALTH.HEALTHY, HEALTH.HEALTHY, HEALTH.CRITICAL, HEALTH.MAINTENANCE),
  at: fc.constantFrom("a", "b"),
  life: fc.constantFrom("live", "orphaned", "hidden"),
  policy: somePolicy,
  exporters: fc.subarray(["a", "b"]),
  idle: fc.constantFrom<Standing>("withholding", "silent"),
} as const);
type SomeAct = typeof someAct extends fc.Arbitrary<infer T> ? T : never;

function act(world: SummaryWorld, { kind, name, id, scope, health, at, life, policy: next, exporters, idle }: SomeAct): void {
  // An id belongs to one node, as the lease of a program does.
  const spec = { id: `${id}${at}`, name, scope, health, at };
  switch (kind) {
    case "put":
      return world.put(spec);
    case "remove":
      return world.remove(spec);
    case "life":
      return world.setLife("b", life);
    case "foreign":
      return world.put({ ...spec, clusterId: "c2" });
    case "exporters":
      world.follow({ members: exporters, standing: idle });
      return world.follow({ members: exporters, standing: "exporting" }, exporters);
    case "key":
      world.node(at).keyId = `key-${id}`;
      return;
    case "still": {
      const { builder, following } = world.node(at);
      builder.stoodStill();
      return builder.follow(following);
    }
    case "policy": {
      const from = second(world.ms / 1000);
      const spans = next?.cutoverWindows.map(({ from: start, length, ...rest }) =>
        span(from + start * 1000, from + (start + length) * 1000, rest),
      );
      return world.setPolicy(next === undefined ? NO_POLICY : policyOf({ ...next, cutoverWindows: spans ?? [] }, world.ms + 1));
    }
  }
}

const NAMES = ["web", "db"] as const;
const CHANNELS: readonly Channel[] = [ZONE, REGION, GLOBAL];

/** What is held of each service on each channel, and what the model says of it now. */
function* compared(world: SummaryWorld, options: ModelOptions) {
  const [node] = world.nodes;
  if (node === undefined) return;
  const { wallMs } = world.time;
  for (const name of NAMES)
    for (const channel of CHANNELS) {
      const key = { source: "c1", kind: KIND.SERVICE, namespace: "svc", serviceId: name, channel };
      const held = node.sent.get(recordKey(key));
      const isAllowed = isLetOut(node.policies.policy, channel, wallMs, options);
      yield {
        held,
        live: held?.withdrawn === false ? held : undefined,
        isAllowed,
        counted: isAllowed ? countedOf(node, name, channel, wallMs) : [],
      };
    }
}

function checkHeldDown(world: SummaryWorld): void {
  const last = new Map<string, { readonly atMs: number; readonly facts: SummaryFacts }>();
  for (const { facts, cause, atMs, standing } of world.drafts) {
    expect(standing === "exporting" || (standing === "withholding" && cause === "denied")).toBe(true);
    const key = recordKey(facts);
    const before = last.get(key);
    last.set(key, { atMs, facts });
    expect(before === undefined).toBe(cause === "first");
    if (before === undefined || cause === "denied") continue;
    expect(atMs - before.atMs).toBeGreaterThanOrEqual(cause === "measured" ? OPTIONS.exportIntervalMs : HOLD_MS);
  }
}

test("P14: under random entries, health, lives of nodes, policies, windows, keys and exporters each summary is held down, and at rest it is what a count of everything says", () => {
  fc.assert(
    fc.property(
      fc.array(someAct, { minLength: 5, maxLength: 30 }),
      fc.record({
        exportScope: fc.constantFrom<Channel>(ZONE, REGION, GLOBAL),
        includeUnscoped: fc.boolean(),
        countedAtATime: fc.constantFrom(3, 4096),
      }),
      (acts, options) => {
        const world = new SummaryWorld(["a", "b"], options);
        for (const one of acts) {
          act(world, one);
          // What the policy denies is gone, and what is new is told, at once.
          world.run(600);
          const standings = world.nodes.map(({ following }) => following.standing);
          for (const { held, isAllowed, live, counted } of compared(world, options)) {
            if (!isAllowed && standings.some((standing) => standing !== "silent")) expect(live).toBeUndefined();
            if (held === undefined && standings.includes("exporting")) expect(counted).toEqual([]);
          }
          world.run(one.waitMs);
        }
        world.follow({ members: ["a", "b"], standing: "exporting" });
        for (const node of world.nodes) node.keyId = "key-last";
        world.run(150_000);
        for (const { held, live, counted } of compared(world, options)) {
          expect(held?.keyId ?? "key-last").toBe("key-last");
          expect(live !== undefined).toBe(counted.length > 0);
          if (live === undefined) continue;
          const fit = counted.map(viewHealth).filter((health) => health !== HEALTH.MAINTENANCE && health !== HEALTH.ORPHANED);
          expect(bandsOf(fit.filter((health) => health === HEALTHY).length, fit.length)).toContain(live.band);
          expect(Math.abs(live.endpointCount - counted.length) * 4).toBeLessThanOrEqual(live.endpointCount);
        }
        checkHeldDown(world);
        expect(world.nodes.reduce((sum, { builder }) => sum + builder.serviceCount, 0)).toBeLessThanOrEqual(NAMES.length);
      },
    ),
    { numRuns: runs(150) },
  );
});
