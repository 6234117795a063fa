/** Orders that other nodes give this one: answered when they are durable, and refused while this node takes no writes. */
import { expect, test } from "vitest";
import type { OverrideOutcome } from "../../../src/discovery/registrar/maintenance.ts";
import type { MaintainRequest } from "../../../src/fabric/wire/messages.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { RemoteOverrides } from "../../../src/node/core/parts/writes.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";

const SELF = nodeRef("a");
const TIME = { monoMs: 0, wallMs: 1_760_000_000_000 };
const KEY = { kind: 1, namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" };
const REQUEST: MaintainRequest = {
  kind: "maintain",
  from: nodeRef("b"),
  targetNodeId: "a",
  keys: [KEY, { ...KEY, name: "db" }],
  isOn: true,
  reason: "",
  untilMs: 0,
  principal: "ann",
  isForAll: false,
};
const REFUSED: OverrideOutcome = { kind: "refused", reason: "not_found", detail: "none" };

function ordersOf(
  outcomes: readonly OverrideOutcome[],
  { batch = 3, fault }: { readonly batch?: number; readonly fault?: WaymarkError } = {},
) {
  const givers: unknown[] = [];
  const orders = new RemoteOverrides({
    registrar: {
      orderMaintenance: (_, { giver, isOperator }) => {
        givers.push({ giver, isOperator });
        return outcomes;
      },
    },
    self: () => SELF,
    durable: () => batch,
    checkWrites: () => {
      if (fault !== undefined) throw fault;
    },
  });
  return { orders, givers };
}

function answer(changed: number, refusals: readonly { index: number; reason: string; detail: string }[] = []) {
  return { kind: "answer", call: 7, response: { kind: "maintain", from: SELF, changed, refusals } };
}

test("an order is answered when the batch with its changes is durable, not before; if the disk refuses it, so is each key", () => {
  const { orders, givers } = ordersOf([{ kind: "changed" }, REFUSED]);
  expect(orders.ordered({ kind: "ordered", call: 7, request: REQUEST }, TIME)).toBeUndefined();
  expect(orders.settled(2, false)).toEqual([]);
  expect(orders.settled(3, false)).toEqual([answer(1, [{ index: 1, reason: "not_found", detail: "none" }])]);
  expect([orders.settled(4, false), givers]).toEqual([[], [{ giver: "ann", isOperator: false }]]);
  orders.ordered({ kind: "ordered", call: 7, request: REQUEST }, TIME);
  expect(orders.settled(3, true)[0]?.response).toMatchObject({ changed: 0, refusals: [{ reason: "store_unavailable" }, { index: 1 }] });
});

test("what says nothing new waits too, because it may not be durable yet; what is refused does not", () => {
  const { orders } = ordersOf([{ kind: "unchanged" }, { kind: "unchanged" }]);
  expect(orders.ordered({ kind: "ordered", call: 7, request: { ...REQUEST, isForAll: true } }, TIME)).toBeUndefined();
  expect(orders.settled(3, false)).toEqual([answer(0)]);
  const idle = ordersOf([{ kind: "unchanged" }, { kind: "unchanged" }], { batch: 0 });
  expect(idle.orders.ordered({ kind: "ordered", call: 7, request: { ...REQUEST, isForAll: true } }, TIME)).toEqual(answer(0));
  expect(idle.givers).toEqual([{ giver: "ann", isOperator: true }]);
  const refused = ordersOf([REFUSED]);
  expect(refused.orders.ordered({ kind: "ordered", call: 7, request: REQUEST }, TIME)?.response).toMatchObject({
    refusals: [{ index: 0 }],
  });
});

test("a node that takes no writes refuses each key, and changes nothing; so it does for a key that is none", () => {
  const { orders, givers } = ordersOf([], { fault: new WaymarkError("draining", "this node is stopping") });
  expect(orders.ordered({ kind: "ordered", call: 7, request: REQUEST }, TIME)?.response).toMatchObject({
    refusals: [{ reason: "draining" }, { reason: "draining" }],
  });
  const strange = { ...REQUEST, keys: [{ ...KEY, clusterId: "" }] };
  expect(orders.ordered({ kind: "ordered", call: 7, request: strange }, TIME)).toMatchObject({ response: undefined });
  expect(givers).toEqual([]);
});
