/** What becomes of the versions that others have: refused is only what can never be used, and people are told of what could not be kept. */
import { expect, test } from "vitest";
import { MachineParts } from "../../../src/lib/machine-part.ts";
import { RemotePolicy } from "../../../src/node/core/remote-policy.ts";
import type { AdoptOutcome } from "../../../src/node/core-io.ts";
import { driven } from "../../fakes/node-part.ts";
import { at } from "../../fakes/registry.ts";

const HEAD = { number: 3, hlc: 5, nodeId: "z", checksum: "c" };
const VIA = { nodeId: "m", clusterId: "eu-2" };
const NOTHING = fabric(HEAD.number - 1, undefined);

/** A fabric whose newest version kept here has a number, and what it says of newer ones. */
function fabric(number: number, notTaken: unknown) {
  return { policy: { notTaken, head: { ...HEAD, number } } } as unknown as Parameters<RemotePolicy["notTaken"]>[0];
}

function open() {
  const travelling = new RemotePolicy(new MachineParts());
  const give = driven(travelling);
  const adopted = (outcome: AdoptOutcome) => give({ kind: "policyAdopted", head: HEAD, via: VIA, outcome }, at(0));
  return { travelling, adopted };
}

test("what cannot be used is refused; what is older than what is here is not", () => {
  const { adopted } = open();
  expect(adopted({ isAdopted: true })).toEqual([]);
  expect(adopted({ isAdopted: false, fault: "" })).toEqual([]);
  expect(adopted({ isAdopted: false, fault: "no name" })).toEqual([{ kind: "policyRefused", head: HEAD, detail: "no name" }]);
});

test("what cannot be kept is not refused, so that it is offered again; people are told of that until it is kept", () => {
  const { adopted, travelling } = open();
  expect(adopted({ notKept: "the disk is full" })).toEqual([]);
  const told = "version 3 of node z, received from node m of cluster eu-2: not stored here: the disk is full";
  expect(travelling.notTaken(NOTHING)).toBe(told);
  adopted({ isAdopted: true });
  expect(travelling.notTaken(NOTHING)).toBe("");
});

test("nothing is said to be missing once it, or a newer version, is kept here, though the store has not answered yet", () => {
  const { adopted, travelling } = open();
  adopted({ notKept: "the disk is full" });
  expect(travelling.notTaken(fabric(3, undefined))).toBe("");
  expect(travelling.notTaken(fabric(4, undefined))).toBe("");
});

test("of a newer version that others have and this node does not take it says why", () => {
  const notTaken = { head: HEAD, peer: VIA, why: "its cluster is not accepted" };
  expect(open().travelling.notTaken(fabric(2, notTaken))).toBe(
    "version 3 of node z, received from node m of cluster eu-2: its cluster is not accepted",
  );
});
