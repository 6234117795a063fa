/** Orders about maintenance between nodes: where they go, and from whom they are taken (semantics.md, Maintenance). */
import { expect, test } from "vitest";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { keysOf, MaintenanceCalls, reasonOf } from "../../src/fabric/maintenance-calls.ts";
import type { MaintainRequest } from "../../src/fabric/wire/messages.ts";
import { nodeRef, updateOf } from "../fakes/fabric-values.ts";

const KEY = { kind: 1, namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" };
const SELF = { nodeId: "a", generation: 3, clusterId: "c1", region: "eu" };
const ORDER = { keys: [KEY], isOn: true, reason: "new disks", untilMs: 1_760_000_000_000, principal: "ann", isForAll: false };

function calls(...members: ReturnType<typeof updateOf>[]): MaintenanceCalls {
  return new MaintenanceCalls({ self: () => SELF, find: (id) => members.find(({ nodeId }) => nodeId === id) });
}

function requestFrom(from: Partial<MaintainRequest["from"]>, targetNodeId = "a"): MaintainRequest {
  return { kind: "maintain", from: { ...nodeRef("b"), ...from }, targetNodeId, ...ORDER };
}

test("an order goes to the address of its node, under a number that no call of membership has; one to a node that is gone fails at once", () => {
  const out: FabricOutput[] = [];
  const machine = calls(updateOf("b", { address: "10.0.0.2:17421" }), updateOf("c", { status: "dead" }));
  for (const [i, nodeId] of ["b", "c", "nobody"].entries()) machine.ask({ kind: "maintain", order: i + 1, nodeId, maintain: ORDER }, out);
  expect(out).toEqual([
    {
      kind: "call",
      call: -1,
      to: "10.0.0.2:17421",
      request: { kind: "maintain", from: SELF, targetNodeId: "b", ...ORDER },
      timeoutMs: 5000,
    },
    { kind: "maintained", order: 2, maintained: { response: undefined } },
    { kind: "maintained", order: 3, maintained: { response: undefined } },
  ]);
  const answers: FabricOutput[] = [];
  for (const call of [-1, 1]) machine.handle.replied?.({ kind: "replied", call, response: undefined }, { monoMs: 0, wallMs: 0 }, answers);
  expect(answers).toEqual([{ kind: "maintained", order: 1, maintained: { response: undefined } }]);
});

test.each([
  { what: "of this cluster, for this node", request: requestFrom({ clusterId: "c1" }), isTaken: true },
  { what: "for another node", request: requestFrom({ clusterId: "c1" }, "z"), isTaken: false },
  { what: "of another cluster", request: requestFrom({ clusterId: "c2" }), isTaken: false },
  { what: "of no cluster", request: requestFrom({ clusterId: "" }), isTaken: false },
])("an order $what: taken $isTaken", ({ request, isTaken }) => {
  const out: FabricOutput[] = [];
  calls().asked(7, request, out);
  if (isTaken) expect(out).toEqual([{ kind: "ordered", call: 7, request }]);
  else expect(out).toEqual([{ kind: "answer", call: 7, response: undefined, why: expect.any(String) as string }]);
});

test("a key without kind or cluster is no key, and a word of a later version is a fault that is not known", () => {
  expect(keysOf({ keys: [KEY] })).toHaveLength(1);
  expect(
    [
      { ...KEY, kind: 0 },
      { ...KEY, clusterId: "" },
    ].map((key) => keysOf({ keys: [KEY, key] })),
  ).toEqual([undefined, undefined]);
  expect(["not_found", "toString", "later"].map(reasonOf)).toEqual(["not_found", "internal", "internal"]);
});
