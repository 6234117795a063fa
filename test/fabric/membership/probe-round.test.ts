import { expect, test } from "vitest";
import { Members } from "../../../src/fabric/membership/members.ts";
import { missedNacks, newRound, ProbeOrder } from "../../../src/fabric/membership/probe-round.ts";
import { factsOf } from "../membership-world.ts";

function table(count: number): Members {
  const members = new Members(factsOf("n0").clusterId);
  for (let i = 0; i < count; i++) members.put({ ...factsOf(`n${i}`), status: "alive", incarnation: 1, accuser: "" }, 0);
  return members;
}

const idOf = (member: { readonly update: { readonly nodeId: string } } | undefined) => member?.update.nodeId;

test("in as many periods as there are others, a node probes each of them once, from whatever period it begins", () => {
  const { listed } = table(20);
  const turns = new ProbeOrder("self");
  for (const first of [0, 7, 1_700_000_000]) {
    expect(new Set(Array.from({ length: 20 }, (_, i) => idOf(turns.at(first + i, listed)))).size).toBe(20);
  }
});

test("in one period each is probed by one node, where all know the same", () => {
  const tables = Array.from({ length: 20 }, (_, i) => table(20).listed.filter(({ update }) => update.nodeId !== `n${i}`));
  for (const period of [0, 1, 2, 18, 1_700_000_000]) {
    const probed = tables.map((listed, i) => idOf(new ProbeOrder(`n${i}`).at(period, listed)));
    expect(new Set(probed).size).toBe(20);
    expect(probed).not.toContain(undefined);
  }
});

test("who is gone has no turn, and has one again when it returns", () => {
  const members = table(3);
  const turns = new ProbeOrder("self");
  const pass = () => Array.from({ length: 3 }, (_, i) => turns.at(i, members.ours));
  const gone = members.find("n1");
  if (gone === undefined) throw new Error("no n1");
  expect(pass()).toContain(gone);
  members.put({ ...gone.update, status: "dead" }, 0);
  expect(pass()).not.toContain(gone);
  members.put({ ...gone.update, status: "alive", incarnation: 2 }, 0);
  expect(pass()).toContain(gone);
  for (const nodeId of ["n0", "n1", "n2"]) members.put({ ...factsOf(nodeId), status: "left", incarnation: 3, accuser: "" }, 0);
  expect(pass()).toEqual([undefined, undefined, undefined]);
});

test("what speaks against ourselves: helpers that did not even say no, or that there are no helpers", () => {
  const [target] = table(1).listed;
  if (target === undefined) throw new Error("no target");
  const round = newRound(target, 1000);
  expect(missedNacks(round)).toBe(1);
  round.helpers = ["a", "b", "c"];
  round.nackCount = 1;
  expect(missedNacks(round)).toBe(2);
});
