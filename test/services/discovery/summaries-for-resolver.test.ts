/** SummaryQuery and SummaryWatch for a resolver: the records as they are held, beacons too, and when clusters were heard of. */
import { fromBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import { type SummaryWatchResponse, SummaryWatchResponseSchema } from "../../../gen/waymark/discovery/v1/summary_pb.js";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { PENDING_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { decodeRecord, type Opened } from "../../../src/summary/codec.ts";
import { rule, set } from "../../fakes/policies.ts";
import { ANYONE, SummaryFold, SummaryWorld } from "../../fakes/summary-readers.ts";

const RESOLVER: Caller = { ...ANYONE, roles: ["mesh.resolve"], address: "127.0.0.1" };
const HIDING = new Policy(set([rule("svc.b", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);

function filled(): SummaryWorld {
  const world = new SummaryWorld();
  world.put({ namespace: "svc.a", serviceId: "web", source: "us-1" });
  world.put({ namespace: "svc.b", serviceId: "web", source: "ap-1" });
  world.beacon("us-1");
  world.change(HIDING);
  world.ages = [
    { source: "us-1", version: 7, ageMs: 1234 },
    { source: "ap-1", version: 0, ageMs: 900_000 },
  ];
  return world;
}

/** What a record says, in words. */
function wordOf(opened: Opened): string {
  switch (opened.what) {
    case "summary":
      return `${opened.summary.namespace} of ${opened.summary.source}`;
    case "beacon":
      return `beacon of ${opened.beacon.source}`;
    case "key":
      return `key of ${opened.key.cluster}`;
  }
}

function pulled(world: SummaryWorld, prefixes: readonly string[], caller = RESOLVER): readonly SummaryWatchResponse[] {
  const source = world.watch({ forResolver: true, namespacePrefixes: [...prefixes], via: ["r1"], withDigest: true }, caller);
  source.attach(
    () => {},
    () => {},
  );
  const messages: SummaryWatchResponse[] = [];
  for (let bytes = source.pull(world.now()); bytes !== undefined; bytes = source.pull(world.now()))
    messages.push(fromBinary(SummaryWatchResponseSchema, new Uint8Array(bytes)));
  source.close();
  return messages;
}

test.each([
  { prefixes: [""], want: ["beacon of us-1", "svc.a of us-1", "svc.b of ap-1"] },
  { prefixes: ["svc"], want: ["svc.a of us-1", "svc.b of ap-1"] },
  { prefixes: ["svc.b", "discovery.summaries"], want: ["beacon of us-1", "svc.b of ap-1"] },
])("a resolver's watch of $prefixes has the sealed records, whatever viewers may see", ({ prefixes, want }) => {
  const messages = pulled(filled(), prefixes);
  const sealed = messages
    .flatMap(({ deltas }) => deltas)
    .map(({ payload }) => (payload.case === "sealedRecord" ? payload.value : undefined));
  expect(sealed.map((bytes) => (bytes === undefined ? "" : wordOf(decodeRecord(bytes)))).toSorted()).toEqual(want);
  const end = messages.find(({ snapshot }) => snapshot === Snapshot.END);
  expect(end).toMatchObject({ policyEpoch: HIDING.epoch, count: BigInt(want.length), via: [] });
  expect(end?.heard).toMatchObject([
    { sourceCluster: "us-1", version: 7n, age: durationFromMs(1234) },
    { sourceCluster: "ap-1", version: 0n, age: durationFromMs(900_000) },
  ]);
});

test("a program beside it is told summaries and no ages, of the same change", () => {
  const world = filled();
  const program = new SummaryFold(world, {}, ANYONE);
  program.settle();
  const source = world.watch({ forResolver: true, namespacePrefixes: [""] }, RESOLVER);
  const woken: SummaryWatchResponse[] = [];
  const pull = () => {
    for (let bytes = source.pull(world.now()); bytes !== undefined; bytes = source.pull(world.now()))
      woken.push(fromBinary(SummaryWatchResponseSchema, new Uint8Array(bytes)));
  };
  source.attach(
    () => {},
    () => {},
  );
  pull();
  woken.length = 0;
  world.put({ namespace: "svc.c", serviceId: "web", source: "us-1" });
  pull();
  program.pull();
  expect(woken.flatMap(({ deltas }) => deltas.map(({ payload }) => payload.case))).toEqual(["sealedRecord"]);
  expect(program.messages.flatMap(({ deltas }) => deltas.map(({ payload }) => payload.case))).toEqual(["summary"]);
  expect(program.messages.flatMap(({ heard, policyEpoch }) => [...heard, policyEpoch])).toEqual([""]);
  // A source that is lost touches no record of a resolver, which knows by itself what is stale.
  woken.length = 0;
  world.turn("us-1", true);
  pull();
  expect(woken.flatMap(({ deltas }) => deltas)).toEqual([]);
});

test("a resolver's query has what policy hides from others, and no beacons", () => {
  const world = filled();
  world.ingress.set("ap-1", [{ urls: ["grpc://ap:1"], scope: 4, capabilities: [], tags: [] }]);
  const answer = world.query({ forResolver: true, via: ["r1"], includeIngress: true }, RESOLVER);
  expect(answer.items.map(({ namespace }) => namespace)).toEqual(["svc.a", "svc.b"]);
  expect(answer).toMatchObject({ policyEpoch: HIDING.epoch, via: [], ingress: { "ap-1": { urls: ["grpc://ap:1"] } } });
  expect(world.denials).toEqual([]);
  expect(world.query({}, ANYONE)).toMatchObject({ policyEpoch: "", items: [{ namespace: "svc.a" }] });
});

test.each([
  { why: "without the role", caller: { ...RESOLVER, roles: ["mesh.admin"] as const }, request: {}, fault: "mesh.resolve" },
  { why: "in the clear beyond this machine", caller: { ...RESOLVER, address: "192.0.2.1" }, request: {}, fault: "over TLS only" },
  { why: "as a viewer", caller: RESOLVER, request: { viewer: { tenantId: "red" } }, fault: "viewer" },
])("for a resolver $why nothing is answered", ({ caller, request, fault }) => {
  const world = filled();
  expect(() => world.query({ forResolver: true, ...request }, caller)).toThrow(fault);
  expect(() => world.watch({ forResolver: true, namespacePrefixes: [""], ...request }, caller)).toThrow(fault);
});

test.each([
  { request: { namespace: "svc.a" }, fault: "for_resolver: must not be set with fields other than namespace_prefixes" },
  { request: { scope: 4 }, fault: "for_resolver: must not be set with fields other than namespace_prefixes" },
  { request: { namespacePrefixes: [] }, fault: "namespace_prefixes: must not be empty" },
  { request: { forResolver: false }, fault: "namespace_prefixes: requires for_resolver" },
])("a resolver's watch of $request is refused", ({ request, fault }) => {
  expect(() => filled().watch({ forResolver: true, namespacePrefixes: [""], ...request }, RESOLVER)).toThrow(fault);
});

test("a node that waits for the policy of its cluster answers no resolver", () => {
  const world = filled();
  world.policies.policy = PENDING_POLICY;
  expect(() => world.query({ forResolver: true }, RESOLVER)).toThrow("is waiting for its cluster's policy");
});
