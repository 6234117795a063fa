/** SummaryQuery and SummaryWatch, through the handlers of the service. */
import { fromBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { ServiceSummarySchema } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { encodeSummary } from "../../../src/summary/codec.ts";
import type { IngressNode, Summary } from "../../../src/summary/summary.ts";
import { runs } from "../../fakes/effort.ts";
import { rule, set } from "../../fakes/policies.ts";
import { askRoute } from "../../fakes/route.ts";
import { SUMMARY } from "../../fakes/summaries.ts";
import { ANYONE, nameOf, SummaryFold, SummaryWorld, stateOf } from "../../fakes/summary-readers.ts";

const HIDING = new Policy(set([rule("svc.b", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);
const BLUE: Caller = { ...ANYONE, tenant: "blue" };
const RED: Caller = { ...ANYONE, tenant: "red" };
const { SERVICE, QUEUE, NODE } = KIND;

/** `namespace service source`, sorted as in pages. */
function filled(options?: ConstructorParameters<typeof SummaryWorld>[0]): SummaryWorld {
  const world = new SummaryWorld(options);
  world.put({ namespace: "svc.a", serviceId: "web", source: "us-1" });
  world.put({ namespace: "svc.a", serviceId: "web", source: "eu-2" });
  world.put({ namespace: "svc.a", serviceId: "web", source: "eu-2", channel: SCOPE.REGION });
  world.put({ namespace: "svc.a", serviceId: "jobs", kind: QUEUE, source: "us-1" });
  world.put({ namespace: "svc.b", serviceId: "web", source: "ap-1" });
  world.put({ namespace: "svc.b", serviceId: "web", source: "c1", channel: SCOPE.ZONE });
  world.put({ namespace: "svc-x", serviceId: "web", source: "ap-1" });
  world.beacon("us-1");
  world.beacon("ap-1");
  return world;
}

const EVERYTHING = [
  "svc-x web 1 4 ap-1",
  "svc.a jobs 4 4 us-1",
  "svc.a web 1 4 eu-2",
  "svc.a web 1 4 us-1",
  "svc.a web 1 3 eu-2",
  "svc.b web 1 4 ap-1",
  "svc.b web 1 2 c1",
];

const names = (world: SummaryWorld, ...request: Parameters<SummaryWorld["query"]>) => world.query(...request).items.map(nameOf);

test.each([
  { asked: {}, want: EVERYTHING },
  { asked: { namespace: "svc.a" }, want: EVERYTHING.slice(1, 5) },
  { asked: { namespacePrefix: "svc" }, want: EVERYTHING.slice(1) },
  { asked: { namespacePrefix: "svc", namespace: "svc.b" }, want: EVERYTHING.slice(5) },
  { asked: { serviceId: "jobs" }, want: EVERYTHING.slice(1, 2) },
  { asked: { kinds: [QUEUE] }, want: EVERYTHING.slice(1, 2) },
  { asked: { kinds: [QUEUE, SERVICE, NODE], namespace: "svc.a" }, want: EVERYTHING.slice(1, 5) },
  { asked: { regions: ["us", "ap"], namespacePrefix: "svc" }, want: [EVERYTHING[1], EVERYTHING[3], EVERYTHING[5]] },
  { asked: { regions: ["nowhere"] }, want: [] },
  { asked: { scope: SCOPE.LOCAL }, want: EVERYTHING },
  { asked: { scope: SCOPE.ZONE }, want: EVERYTHING },
  { asked: { scope: SCOPE.REGION, namespacePrefix: "svc" }, want: EVERYTHING.slice(1, 6) },
  { asked: { scope: SCOPE.GLOBAL, namespacePrefix: "svc" }, want: [...EVERYTHING.slice(1, 4), EVERYTHING[5]] },
  { asked: { scope: SCOPE.GLOBAL, regions: ["eu"] }, want: [EVERYTHING[2]] },
  { asked: { namespace: "none" }, want: [] },
  // Beacons are no summaries, whoever asks for them.
  { asked: { namespacePrefix: "discovery" }, want: [] },
  { asked: { namespace: "discovery.summaries" }, want: [] },
])("a query for $asked", ({ asked, want }) => {
  const world = filled();
  expect(names(world, asked)).toEqual(want);
  expect(world.readNamespaces).toEqual([asked.namespace ?? ""]);
  // The same filter shows the same in a watch, and in pages of one.
  const { serviceId, ...watched } = { serviceId: undefined, ...asked };
  if (serviceId === undefined) expect(new SummaryFold(world, watched).settle()).toEqual(world.query(asked).items.map(stateOf).toSorted());
  expect(world.pages({ ...asked, limit: 1 }).flatMap(({ items }) => items.map(nameOf))).toEqual(want);
});

test.each([
  { asked: { kinds: [NODE] }, fault: "kinds: must include SERVICE" },
  { asked: { namespace: "other", namespacePrefix: "svc" }, fault: "namespace_prefix" },
  { asked: { pageToken: "x" }, fault: "page_token" },
])("a query for $asked is refused", ({ asked, fault }) => {
  expect(() => filled().query(asked)).toThrow(fault);
});

test.each([
  { asked: { withDigest: true, kinds: [SERVICE] }, fault: "with_digest" },
  { asked: { withDigest: true, scope: SCOPE.GLOBAL }, fault: "with_digest" },
  { asked: { withDigest: true, regions: ["eu"] }, fault: "with_digest" },
  { asked: { cursor: "x" }, fault: "cursor" },
  { asked: { bookmarkInterval: durationFromMs(10) }, fault: "" },
])("a watch of $asked: $fault", ({ asked, fault }) => {
  const open = () => filled().watch(asked);
  if (fault === "") expect(open).not.toThrow();
  else expect(open).toThrow(fault);
});

test("an item is what its cluster signed, byte for byte, with the signature, and this node's own word on its age", () => {
  const world = filled();
  const fields: Partial<Summary> = { namespace: "svc.z", source: "us-1", noStale: true, notAfterWallMs: 1_800_000_000_000 };
  world.put(fields);
  for (const isStale of [false, true]) {
    world.turn("us-1", isStale);
    const answer = world.query({ namespace: "svc.z" });
    const [item] = answer.items;
    if (item === undefined) throw new Error("there is no item");
    const signed = encodeSummary({ ...SUMMARY, ...fields });
    expect([item.signedBytes, item.signature, item.stale]).toEqual([signed, new Uint8Array(64).fill(7), isStale]);
    const ofNode = { signature: item.signature, signedBytes: item.signedBytes, stale: isStale };
    expect(item).toEqual({ ...fromBinary(ServiceSummarySchema, signed), ...ofNode });
    expect(answer).toMatchObject({
      servedBy: "a",
      revision: BigInt(world.replica.revision),
      age: durationFromMs(40),
      stale: false,
      source: 1,
    });
    const fold = new SummaryFold(world, { namespace: "svc.z" });
    fold.pull();
    expect(fold.messages.flatMap(({ deltas }) => deltas.map(({ payload }) => payload.value))).toEqual([item]);
  }
});

const NODES: readonly IngressNode[] = [
  { urls: ["grpc://one:1", "grpc://two:1"], scope: SCOPE.REGION, capabilities: ["h2"], tags: ["edge", "old"] },
  { urls: ["grpc://two:1", "grpc://three:1"], scope: SCOPE.GLOBAL, capabilities: ["h2", "h3"], tags: ["edge"] },
  { urls: ["grpc://four:1", "grpc://five:1", "grpc://six:1"], scope: SCOPE.GLOBAL, capabilities: [], tags: [] },
];

test.each([
  { asked: {}, want: undefined },
  { asked: { includeIngress: true }, want: ["one", "two", "three", "four"] },
  { asked: { includeIngress: true, ingressLimit: 100 }, want: ["one", "two", "three", "four", "five", "six"] },
  { asked: { includeIngress: true, ingressLimit: 1 }, want: ["one"] },
  { asked: { includeIngress: true, ingressScope: SCOPE.GLOBAL }, want: ["two", "three", "four", "five"] },
  { asked: { includeIngress: true, ingressScope: SCOPE.REGION, ingressTags: ["edge", "old"] }, want: ["one", "two"] },
  { asked: { includeIngress: true, ingressCapabilities: ["h3"] }, want: ["two", "three"] },
  { asked: { includeIngress: true, ingressCapabilities: ["h3"], ingressTags: ["old"] }, want: undefined },
])("ingress of the clusters of a page: $asked", ({ asked, want }) => {
  const world = filled();
  world.ingress.set("us-1", NODES);
  world.ingress.set("ap-1", NODES);
  const urls = want?.map((host) => `grpc://${host}:1`);
  // Other clusters are on other pages, and eu-2 tells none.
  expect(world.query({ namespace: "svc.a", ...asked }).ingress).toMatchObject(urls === undefined ? {} : { "us-1": { urls } });
  expect(Object.keys(world.query({ namespace: "svc.a", ...asked }).ingress)).toEqual(urls === undefined ? [] : ["us-1"]);
});

test("a page ends early where the ingress of its clusters would be too long, be it that of the last one, and the next one goes on", () => {
  const urls = Array.from({ length: 100 }, (_, i) => `grpc://${String(i).padStart(240, "x")}:1`);
  /** How many clusters there are on each page. */
  const sizes = (count: number) => {
    const world = new SummaryWorld();
    const sources = Array.from({ length: count }, (_, i) => `s${10 + i}`);
    for (const source of sources) {
      world.put({ source });
      world.ingress.set(source, [{ urls, scope: SCOPE.GLOBAL, capabilities: [], tags: [] }]);
    }
    const pages = world.pages({ includeIngress: true, ingressLimit: 100 });
    expect(pages.flatMap(({ items }) => items.map(({ sourceCluster }) => sourceCluster))).toEqual(sources);
    for (const { items, ingress } of pages) expect(Object.keys(ingress)).toEqual(items.map(({ sourceCluster }) => sourceCluster));
    return pages.map(({ items }) => items.length);
  };
  const [fitting = 0, ...others] = sizes(60);
  expect(others.length).toBeGreaterThan(0);
  expect([sizes(fitting), sizes(fitting + 1)]).toEqual([[fitting], [fitting, 1]]);
});

test("a hidden namespace is in no page and no watch, its denial is told once, and a watch of exactly it is refused", () => {
  const world = filled({ allowsViewerOverride: true });
  const { items } = world.query();
  world.change(HIDING);
  const seen = items.map(stateOf).filter((state) => !state.startsWith("svc.b "));
  const asBlue = { viewer: { tenantId: "blue" } };
  expect([names(world, {}, BLUE), names(world, asBlue)]).toEqual([EVERYTHING, EVERYTHING]);
  expect([world.query({}, RED).items.map(stateOf), names(world, { namespace: "svc.b" }, RED)]).toEqual([seen, []]);
  expect(world.denials).toEqual(["red query svc.b viewer_denied", "red query svc.b viewer_denied"]);
  expect(new SummaryFold(world, {}, RED).settle()).toEqual(seen.toSorted());
  expect(() => world.watch({ namespace: "svc.b" }, RED)).toThrow("svc.b is not visible to this caller (viewer_denied)");
  expect(() => world.watch({ namespace: "svc.b", ...asBlue }, RED)).not.toThrow();
  expect(world.denials.at(-1)).toBe("red watch svc.b viewer_denied");
});

test("a source that becomes stale is told in its namespaces, none of them one that the watch may not see", () => {
  const world = filled();
  world.change(HIDING);
  const [red, blue] = [new SummaryFold(world, {}, RED), new SummaryFold(world, { namespacePrefix: "svc" }, BLUE)];
  for (const fold of [red, blue]) fold.settle();
  world.turn("ap-1", true);
  for (const fold of [red, blue]) fold.settle();
  const replaced = [red, blue].map(({ messages }) => messages.length);
  expect(replaced.every((count) => count > 0)).toBe(true);
  expect(red.held).toEqual(world.query({}, RED).items.map(stateOf).toSorted());
  expect(blue.held).toEqual(world.query({ namespacePrefix: "svc" }, BLUE).items.map(stateOf).toSorted());
  world.turn("ap-1", false);
  const before = [red, blue].map((fold) => {
    fold.pull();
    return fold.messages.flatMap(({ replaces }) => replaces);
  });
  expect(before).toEqual([["svc-x"], ["svc.b"]]);
});

test("a watch begins with a snapshot that ends when the node has caught up, and goes on from either cursor", () => {
  const world = filled();
  world.isReady = false;
  const fold = new SummaryFold(world, { withDigest: true });
  fold.pull();
  expect(fold.messages).toMatchObject([{ snapshot: 1, cursor: "", replaces: [] }]);
  world.isReady = true;
  fold.pull();
  expect(fold.messages).toMatchObject([{ snapshot: 3, count: 7n, servedBy: "a", age: durationFromMs(40), source: 1 }]);
  expect(fold.portableCursor.startsWith("p1.")).toBe(true);
  expect(fold.cursor.length).toBeLessThan(64);
  const key = world.put({ namespace: "svc.a", serviceId: "new", source: "us-1" });
  fold.pull();
  expect(fold.messages).toMatchObject([{ deltas: [{ action: 1, namespace: "svc.a", scope: SCOPE.GLOBAL }], snapshot: 0, replaces: [] }]);
  world.hide(key);
  fold.pull();
  const removed = { kind: SERVICE, namespace: "svc.a", name: "new", instanceId: "global", clusterId: "us-1" };
  expect(fold.messages).toMatchObject([{ deltas: [{ action: 3, payload: { case: "removed", value: removed } }] }]);
  world.put({ namespace: "svc.a", serviceId: "web", source: "us-1", version: SUMMARY.version + 1 });
  fold.reconnect();
  fold.pull();
  expect(fold.messages).toMatchObject([{ deltas: [{ action: 2, payload: { case: "summary" } }], snapshot: 0 }]);
  // What was put while the stream was away, and when a source turned stale, which no delta says.
  world.turn("us-1", true);
  fold.reconnect();
  fold.settle();
  expect(fold.held).toEqual(world.query().items.map(stateOf).toSorted());
});

test("a page of JSON says what the call says, and stays the same while only time passes", () => {
  const world = filled();
  world.ingress.set("us-1", NODES);
  const parameters = {
    namespace: "svc.a",
    kind: "service,queue",
    region: "us",
    scope: "global",
    include_ingress: "true",
    ingress_limit: "1",
    limit: "1",
  };
  const ask = (more: Readonly<Record<string, string>> = {}) =>
    askRoute(
      { desc: DiscoveryService, handlers: {}, routes: world.routes },
      { path: "/discovery/summary", parameters: { ...parameters, ...more } },
    );
  const { page, steady } = ask();
  const asked = {
    namespace: "svc.a",
    kinds: [SERVICE, QUEUE],
    regions: ["us"],
    scope: SCOPE.GLOBAL,
    includeIngress: true,
    ingressLimit: 1,
    limit: 1,
  };
  const { items, ingress, nextPageToken } = world.query(asked);
  expect(page).toMatchObject({ items: [{ serviceId: "jobs", kind: "ENTRY_KIND_QUEUE", stale: false }], nextPageToken, servedBy: "a" });
  const urls = ingress["us-1"]?.urls;
  expect([items.map(nameOf), page]).toMatchObject([["svc.a jobs 4 4 us-1"], { ingress: { "us-1": { urls } } }]);
  expect(ask({ page_token: nextPageToken }).page).toMatchObject({ items: [{ serviceId: "web" }], nextPageToken: "" });
  expect(ask().steady).toEqual(steady);
  for (const [name, value] of Object.entries({
    kind: "pod",
    scope: "wide",
    limit: "-1",
    ingress_limit: "1000",
    include_ingress: "1",
    namespace: "A",
  }))
    expect(() => ask({ [name]: value })).toThrow(name === "kind" ? "kind" : name);
});

const SOURCES = ["us-1", "ap-1", "eu-2"] as const;
const someSummary = fc.record({
  namespace: fc.constantFrom("svc.a", "svc.b", "svc.b.c", "other"),
  serviceId: fc.constantFrom("web", "db", "jobs"),
  kind: fc.constantFrom(SERVICE, QUEUE),
  source: fc.constantFrom(...SOURCES),
  channel: fc.constantFrom<Summary["channel"]>(SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL),
});
const someStep = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("put" as const), summary: someSummary }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("hide" as const), summary: someSummary, isHidden: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("turn" as const), source: fc.constantFrom(...SOURCES), isStale: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("policy" as const), pick: fc.nat(2), steps: fc.nat(6) }) },
);
type Step = typeof someStep extends fc.Arbitrary<infer T> ? T : never;
const POLICIES = [
  HIDING,
  new Policy(set([], { defaultAllow: true }), 2),
  new Policy(set([rule("svc.a", { owners: ["us-1", "c1"] })], { defaultAllow: true }), 3),
];
const someFilter = fc.record({
  namespacePrefix: fc.constantFrom("", "svc", "svc.b"),
  kinds: fc.constantFrom<EntryKind[]>([], [SERVICE]),
  scope: fc.constantFrom(SCOPE.UNSET, SCOPE.REGION, SCOPE.GLOBAL),
  regions: fc.constantFrom<string[]>([], ["us"], ["eu", "ap"]),
});

function take(world: SummaryWorld, step: Step, version: number): void {
  if (step.kind === "put") world.hide(world.put({ ...step.summary, version }), false);
  else if (step.kind === "hide") world.hide(world.put({ ...step.summary, version }), step.isHidden);
  else if (step.kind === "turn") world.turn(step.source, step.isStale);
  else if (world.finish()) world.change(POLICIES[step.pick] ?? HIDING, step.steps);
}

test("P2: pages have each summary that is there throughout once, and none twice, while others come, change, go stale and vanish", () => {
  const many = fc.array(someSummary, { minLength: 10, maxLength: 40 });
  fc.assert(
    fc.property(many, someFilter, fc.integer({ min: 1, max: 4 }), fc.array(someStep, { maxLength: 60 }), (first, filter, limit, steps) => {
      const world = new SummaryWorld();
      for (const summary of first) world.put(summary);
      const matching = () => world.query({ ...filter, limit: 1000 }).items;
      let version = SUMMARY.version;
      let always = new Set(matching().map(nameOf));
      const rest = [...steps];
      const states: Set<string>[] = [new Set(matching().map(stateOf))];
      const pages = world.pages({ ...filter, limit }, () => {
        for (const step of rest.splice(0, 4)) {
          take(world, step, ++version);
          always = always.intersection(new Set(matching().map(nameOf)));
        }
        states.push(new Set(matching().map(stateOf)));
      });
      const shown = pages.flatMap(({ items }) => items.map(nameOf));
      expect(new Set(shown).size).toBe(shown.length);
      expect([...always].filter((name) => !shown.includes(name))).toEqual([]);
      for (const [i, { items }] of pages.entries()) expect(items.every((item) => states[i]?.has(stateOf(item)))).toBe(true);
      const [page] = pages;
      if (page !== undefined && page.nextPageToken !== "")
        expect(() => world.query({ ...filter, serviceId: "web", pageToken: page.nextPageToken })).toThrow("a different filter");
    }),
    { numRuns: runs(40) },
  );
});

test("P3: what a watch folds is what a query says, whatever comes, changes, goes stale, vanishes or is hidden, and wherever it goes on", () => {
  const turn = fc.record({ step: someStep, act: fc.constantFrom("nothing", "pull", "reconnect", "settle") });
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 30 }), someFilter, (turns, filter) => {
      const world = new SummaryWorld();
      let version = SUMMARY.version;
      const folds = [new SummaryFold(world, filter), new SummaryFold(world, { withDigest: true }, BLUE)];
      for (const { step, act } of turns) {
        take(world, step, ++version);
        for (const fold of folds) {
          if (act === "pull") fold.pull();
          else if (act === "settle") fold.settle();
          else if (act === "reconnect" && world.finish()) fold.reconnect();
        }
      }
      world.finish();
      const [filtered, all] = folds;
      expect(filtered?.settle()).toEqual(
        world
          .query({ ...filter, limit: 1000 })
          .items.map(stateOf)
          .toSorted(),
      );
      expect(all?.settle()).toEqual(world.query({ limit: 1000 }, BLUE).items.map(stateOf).toSorted());
      expect(all?.messages.at(-1)).toMatchObject({ bookmark: true, count: BigInt(all?.held.length ?? 0) });
    }),
    { numRuns: runs(40) },
  );
});
