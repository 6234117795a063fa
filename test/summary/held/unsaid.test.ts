/** What a cluster holds is said whatever it is, or left out with a reason. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { EntryKeySchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { finishEntry, type StampedEntry } from "../../../src/catalog/entry/codec.ts";
import { NODES_NAMESPACE } from "../../../src/catalog/entry/names.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY, KIND } from "../../../src/catalog/record/record.ts";
import { StoredRecord } from "../../../src/catalog/record/stored-record.ts";
import { RECORD_BOUNDS } from "../../../src/lib/bounds.ts";
import { ingressNodes } from "../../../src/node/core/regions/ingress.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import type { Draft } from "../../../src/summary/building/drafts.ts";
import { BAND } from "../../../src/summary/summary.ts";
import { runs } from "../../fakes/effort.ts";
import { HeldWorld, MINUTE } from "../../fakes/held-world.ts";
import { rule, set } from "../../fakes/policies.ts";
import { WIDEST_STAMPER } from "../../fakes/registry.ts";
import { SummaryNode } from "../../fakes/summary-world.ts";

const LABEL = "l".repeat(59);
/** The longest pattern of a rule, and the longest namespace. */
const PATTERN = `${LABEL}.${LABEL}.${LABEL}.${"l".repeat(22)}`;
const LONGEST = `${PATTERN}.${"l".repeat(37)}`;
const LABELLED = { version: "ä".repeat(128), defaultAllow: true };
const POLICY = new Policy(set([rule(PATTERN, { exportScopes: [SCOPE.GLOBAL], allowSummaries: true })], LABELLED), Number.MAX_SAFE_INTEGER);

test("a summary that nobody would take is left out with a reason, and the others are said", () => {
  const [node] = [new HeldWorld().node({ nodeId: "a" })];
  expect(node.say("cart", { regions: ["no region"] })).toBeUndefined();
  expect(node.say("web")).toBeDefined();
  expect(node.shown.map((text) => text.split("@")[0])).toEqual(["c1/web"]);
  expect(node.held.unsaid.textAt(node.time)).toMatch(/^svc\.shop\/cart cannot be exported: .*regions\[0\]/);
  expect(node.held.unsaid.take()).toMatchObject([{ namespace: "svc.shop", name: "cart" }]);
  // It is told once, however often it is tried, and no more when it can be said.
  expect(node.say("cart", { regions: ["no region"] })).toBeUndefined();
  expect(node.held.unsaid.take()).toEqual([]);
  expect(node.say("cart", { band: BAND.HEALTHY })).toBeDefined();
  expect(node.held.unsaid.textAt(node.time)).toBe("");
});

test("reasons are kept of so many only", () => {
  const node = new HeldWorld().node({ nodeId: "a" });
  for (let i = 0; i < 100; i++) node.say(`s${i}`, { regions: ["no region"] });
  expect(node.held.unsaid.take()).toHaveLength(64);
  expect(node.held.unsaid.textAt(node.time)).toContain("(and 63 more)");
});

test("what is tried no more, because its service went, is named no more and takes no room from others", () => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "a" });
  const BAD = { regions: ["no region"] };
  for (let i = 0; i < 64; i++) node.say(`s${i}`, BAD);
  expect(node.held.unsaid.take()).toHaveLength(64);
  // The builder tries again what is there once a minute.
  for (let minute = 1; minute <= 3; minute++) {
    world.nowMs = minute * MINUTE;
    node.say("s1", BAD);
    expect(node.held.unsaid.take()).toEqual([]);
  }
  expect(node.held.unsaid.textAt(node.time)).toMatch(/^svc\.shop\/s1 cannot be exported: .*regions\[0\](?!.* more)/);
  node.say("late", BAD);
  expect(node.held.unsaid.take()).toMatchObject([{ name: "late" }]);
  world.nowMs += 3 * MINUTE;
  expect(node.held.unsaid.textAt(node.time)).toBe("");
});

test("what went first leaves room, though something before it in the list is still tried", () => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "a" });
  const BAD = { regions: ["no region"] };
  for (let i = 0; i < 64; i++) node.say(`s${i}`, BAD);
  node.held.unsaid.take();
  world.nowMs = MINUTE;
  node.say("s0", BAD);
  world.nowMs = 2.6 * MINUTE;
  node.say("late", BAD);
  expect(node.held.unsaid.take()).toMatchObject([{ name: "late" }]);
});

const anyWord = fc.oneof(
  fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,20}$/),
  fc.constantFrom("w".repeat(64), "w".repeat(65), "w".repeat(128), "w".repeat(1000)),
);
const anyText = fc.oneof(
  fc.webUrl({ validSchemes: ["grpc", "https"] }),
  fc.string({ maxLength: 30 }),
  fc.constant(`grpc://${"h".repeat(3000)}`),
);
const anyWords = fc.uniqueArray(anyWord, { maxLength: 80 });
const anyService = fc.record({
  kind: fc.constantFrom(KIND.SERVICE, KIND.FUNCTION, KIND.TOPIC, KIND.QUEUE, KIND.CACHE),
  namespace: fc.constantFrom("svc", "svc.market", LONGEST),
  name: anyWord,
  regions: fc.uniqueArray(fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,70}$/), { minLength: 1, maxLength: 70 }),
  latencyMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 2 ** 40, noNaN: true })),
});
const anyNode = fc.record({
  urls: fc.array(anyText, { maxLength: 20 }),
  capabilities: anyWords,
  tags: anyWords,
  scope: fc.constantFrom(1, 2, 3, 4),
});

test("whatever the catalog may hold, all services are said, and so is the beacon", () => {
  fc.assert(
    fc.property(fc.array(anyService, { minLength: 1, maxLength: 3 }), fc.array(anyNode, { maxLength: 40 }), (services, members) => {
      const held = new HeldWorld().node({ nodeId: "a", clusterId: "c1", region: "r1" });
      const node = new SummaryNode("a", {}, held.held.own);
      node.policies.policy = POLICY;
      const { time } = held;
      for (const { kind, namespace, name, regions, latencyMs } of services)
        for (const [i, region] of regions.entries()) {
          const key = create(EntryKeySchema, { kind, namespace, name, instanceId: `${i}` });
          put(node, WIDEST_STAMPER.entryOf(create(EntrySchema, { key, scope: SCOPE.GLOBAL }), 0, { ...PLACE, region }), latencyMs, time);
        }
      for (const [i, { urls, ...said }] of members.entries()) {
        const key = create(EntryKeySchema, { kind: KIND.NODE, namespace: NODES_NAMESPACE, name: `n${i}`, instanceId: `n${i}` });
        const detail = { case: "node", value: { advertisedUrls: urls.slice(0, RECORD_BOUNDS.maxListItems) } } as const;
        put(node, WIDEST_STAMPER.entryOfNode(create(EntrySchema, { key, ...said, detail }), { ...PLACE, nodeId: `n${i}` }), 0, time);
      }
      node.builder.follow({ members: ["a"], standing: "exporting" });
      const drafts: Draft[] = [];
      for (let n = 0; n < 20; n++) node.builder.tick({ ...time, monoMs: n * 100 }, drafts);
      expect(new Set(drafts.map(({ facts }) => `${facts.kind} ${facts.namespace} ${facts.serviceId}`)).size).toBe(
        new Set(services.map(({ kind, namespace, name }) => `${kind} ${namespace} ${name}`)).size,
      );
      for (const { facts } of drafts) expect(held.held.export(facts, time)).toBeDefined();
      const nodes = members.map((_, i) => ({ nodeId: `n${i}`, roles: ["ingress"] }));
      expect(held.held.makeBeacon(ingressNodes(node.catalog, "c1", nodes), time)).toBeDefined();
      held.settle();
      expect(held.held.beaconOf("c1")?.ingress.length).toBeLessThanOrEqual(32);
      // What is held is what was counted, so nothing is said again.
      const again: Draft[] = [];
      for (let n = 0; n < 20; n++) node.builder.tick({ ...time, monoMs: 40_000 + n * 10_000 }, again);
      expect(again).toEqual([]);
    }),
    { numRuns: runs(60) },
  );
});

const PLACE = { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 0 };

function put(
  { catalog }: SummaryNode,
  stamped: StampedEntry,
  latencyMs: number,
  time: { readonly monoMs: number; readonly wallMs: number },
): void {
  const load = latencyMs === 0 ? undefined : { activeClients: 0, errorRate: 0, latencyMs, utilization: 0, observedWallMs: time.wallMs };
  const bytes = finishEntry(stamped.content, { registeredWallMs: time.wallMs, updatedWallMs: time.wallMs, load });
  const origin = catalog.self;
  const seq = origin.through + 1;
  origin.through = seq;
  const numbers = { seq, firstSeq: seq, filterSeq: seq, hlc: time.wallMs * 2048 + seq };
  const held = { at: catalog.slab.put(bytes), sizeBytes: bytes.length, contentBytes: stamped.content.length };
  catalog.install(
    new StoredRecord({ ...stamped, ...numbers, ...held, reach: stamped.scope, principal: "ann", origin, body: BODY.ENTRY }),
    time,
  );
}
