/** What the fabric is told of the policy of its node: what is newest here, and of others' versions only what can never be used. */
import { expect, test } from "vitest";
import type { FabricInput } from "../../../src/fabric/io-types.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { openLog } from "../../../src/lib/log.io.ts";
import { FabricPolicy } from "../../../src/node/fabric/policy.ts";
import type { VersionPlace } from "../../../src/policy/versions/version.ts";
import { MemoryStore } from "../../../src/store/control/memory.ts";
import { set } from "../../fakes/policies.ts";
import { Bench } from "../../fakes/policy-bench.ts";
import { version } from "../../fakes/policy-versions.ts";

const VIA = { nodeId: "m", clusterId: "eu-2" };

function open(store = new MemoryStore()) {
  const bench = new Bench(store);
  const inputs: FabricInput[] = [];
  const log = openLog({ level: "error", scopes: new Map(), format: "json", write: () => {} }).child("fabric");
  const travelling = {
    get head() {
      return bench.engine.place;
    },
    encoded: (number: number) => bench.run(bench.policyStore.encoded(number)),
    adopt: (head: VersionPlace, bytes: Uint8Array) => bench.run(bench.policyStore.adopt(head, bytes, VIA)),
    onHead: (listener: (head: VersionPlace) => void) => {
      bench.onHead = listener;
    },
  };
  const policy = new FabricPolicy(travelling, (input) => void inputs.push(input), log);
  return { bench, inputs, policy, adopt: (made: ReturnType<typeof version>) => policy.adopt({ kind: "adoptPolicy", ...made, via: VIA }) };
}

test("the fabric knows what is newest here from when it opens, and of each change before it is shown", async () => {
  const { bench, inputs, policy } = open();
  await bench.apply(set([]));
  expect(inputs).toEqual([]);
  policy.open();
  expect(inputs).toMatchObject([{ kind: "policy", head: { number: 1 } }]);
  const shown = Promise.withResolvers<void>();
  bench.shown = shown.promise;
  const applied = bench.apply(set([], { version: "v2" }));
  await expect.poll(() => inputs).toMatchObject([{}, { kind: "policy", head: { number: 2 } }]);
  shown.resolve();
  await applied;
});

test("a version that a link wants is read; what is not there any more is nothing", async () => {
  const { bench, inputs, policy } = open();
  await bench.apply(set([]));
  for (const number of [1, 2]) await policy.read(number);
  expect(inputs).toMatchObject([
    { kind: "policyRead", number: 1, bytes: expect.any(Uint8Array) as Uint8Array },
    { kind: "policyRead", number: 2, bytes: undefined },
  ]);
});

test("what cannot be used is refused, what cannot be kept is not, so that it is offered again; people are told of that until it is kept", async () => {
  const store = new MemoryStore();
  const { bench, inputs, policy, adopt } = open(store);
  const swap = store.compareAndSwap.bind(store);
  store.compareAndSwap = () => Promise.reject(new WaymarkError("store_unavailable", "the disk is full"));
  await adopt(version(1, "z"));
  expect([inputs, policy.fault]).toEqual([
    [],
    "version 1 of node z, told by node m of cluster eu-2: it cannot be kept here: store_unavailable: the disk is full",
  ]);
  store.compareAndSwap = swap;
  await adopt(version(1, "z"));
  expect([inputs, policy.fault, bench.engine.place]).toMatchObject([[], "", { number: 1, nodeId: "z" }]);
  // No node takes a namespace with a space.
  await adopt(version(2, "not ok"));
  expect(inputs).toMatchObject([{ kind: "policyRefused", head: { number: 2 } }]);
  expect(bench.engine.place.number).toBe(1);
});
