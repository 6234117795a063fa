import { expect, test } from "vitest";
import { Members } from "../../src/fabric/members.ts";
import { missedNacks, newRound, ProbeTurns } from "../../src/fabric/probe.ts";
import { Rng } from "../../src/lib/rng.ts";
import { factsOf } from "./membership-world.ts";

function table(count: number): Members {
  const members = new Members();
  for (let i = 0; i < count; i++) members.put({ ...factsOf(`n${i}`), status: "alive", incarnation: 1, accuser: "" }, 0);
  return members;
}

test("everybody has a turn once in each pass, in changing order: nobody waits longer than two passes", () => {
  const members = table(20);
  const turns = new ProbeTurns(new Rng("turns"));
  for (const member of members.listed) turns.add(member);
  const passes = Array.from({ length: 5 }, () => Array.from({ length: 20 }, () => turns.next()?.update.nodeId ?? ""));
  const [first, ...others] = passes;
  for (const pass of others) {
    expect(new Set(pass).size).toBe(20);
    expect(pass).not.toEqual(first);
  }
});

test("a newcomer comes at any place; added twice it has one turn", () => {
  const places = new Set<number>();
  for (let seed = 0; seed < 60; seed++) {
    const members = table(10);
    const turns = new ProbeTurns(new Rng(seed));
    const [newcomer, ...others] = members.listed;
    for (const member of others) turns.add(member);
    if (newcomer === undefined) throw new Error("no newcomer");
    turns.add(newcomer);
    turns.add(newcomer);
    const pass = Array.from({ length: 10 }, () => turns.next());
    expect(pass.filter((member) => member === newcomer)).toHaveLength(1);
    places.add(pass.indexOf(newcomer));
  }
  expect(places.size).toBeGreaterThan(5);
});

test("who is gone has no turn, and has one again when it returns", () => {
  const members = table(3);
  const turns = new ProbeTurns(new Rng("gone"));
  for (const member of members.listed) turns.add(member);
  const gone = members.find("n1");
  if (gone === undefined) throw new Error("no n1");
  members.put({ ...gone.update, status: "dead" }, 0);
  for (let i = 0; i < 20; i++) expect(turns.next()).not.toBe(gone);
  members.put({ ...gone.update, status: "alive", incarnation: 2 }, 0);
  turns.add(gone);
  expect(Array.from({ length: 6 }, () => turns.next()).filter((member) => member === gone).length).toBeGreaterThan(0);
  for (const nodeId of ["n0", "n1", "n2"]) members.put({ ...factsOf(nodeId), status: "left", incarnation: 3, accuser: "" }, 0);
  expect(turns.next()).toBeUndefined();
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
