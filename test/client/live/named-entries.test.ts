/** The choosers of one name in a live map. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKind, EntrySchema, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { DEFAULT_POLICY, NamedEntries } from "../../../src/client/live/named-entries.ts";

const NOWHERE = { region: "", zone: "" };
const HERE = { region: "r1", zone: "z1" };
const TIME = { monoMs: 0, wallMs: 0 };
const random = () => 0.5;

test("when the place of the program becomes known, nearness counts from then on, and what was counted before still does", () => {
  const group = new NamedEntries(EntryKind.SERVICE);
  for (const zone of ["z1", "z2"]) group.put(zone, create(EntrySchema, { region: "r1", zone, health: HealthStatus.HEALTHY }));
  const choose = (place: typeof HERE) => group.chooser(DEFAULT_POLICY, { random, place }).choose(TIME, random)?.key;
  expect(new Set([choose(NOWHERE), choose(NOWHERE)])).toEqual(new Set(["z1", "z2"]));
  expect(Array.from({ length: 4 }, () => choose(HERE))).toEqual(["z1", "z1", "z1", "z1"]);
  expect(group.stats().choices).toBe(6);
});

test("while the place stays, so does the chooser, with what it knows of its endpoints", () => {
  const group = new NamedEntries(EntryKind.SERVICE);
  group.put("a", create(EntrySchema, { health: HealthStatus.HEALTHY }));
  const chance = { random, place: HERE };
  expect(group.chooser(DEFAULT_POLICY, chance)).toBe(group.chooser(DEFAULT_POLICY, chance));
});

test("an entry without a target is chosen only if no entry has one; functions and queues are called through their nodes", () => {
  const shares = (kind: EntryKind) => {
    const group = new NamedEntries(kind);
    for (const [key, targets] of [
      ["bare", []],
      ["with", [{ host: "192.0.2.1", port: 1 }]],
    ] as const)
      group.put(key, create(EntrySchema, { key: { kind, instanceId: key }, health: HealthStatus.HEALTHY, targets: [...targets] }));
    const chooser = group.chooser(DEFAULT_POLICY, { random, place: NOWHERE });
    const first = [1, 2].map(() => chooser.choose(TIME, random)?.key ?? "none").toSorted();
    chooser.remove("with");
    return [...first, chooser.choose(TIME, random)?.key];
  };
  expect([EntryKind.SERVICE, EntryKind.FUNCTION, EntryKind.QUEUE].map(shares)).toEqual([
    ["with", "with", "bare"],
    ["bare", "with", "bare"],
    ["bare", "with", "bare"],
  ]);
});
