/** The index of function ids: what it says while names come, change and go. */
import { expect, test } from "vitest";
import { BODY, KIND } from "../../../src/catalog/record/record.ts";
import { FunctionIds } from "../../../src/discovery/registrar/entry-puts.ts";
import { at, draftAt, Registry } from "../../fakes/registry.ts";

const fn = (name: string, functionId: string, namespace = "fn", clusterId = "c1") =>
  draftAt({ kind: KIND.FUNCTION, namespace, name, instanceId: "1" }, { detail: { case: "function", value: { functionId } } }, clusterId);

test("an id has the first of its names in order, in its namespace and cluster, as long as an instance says it", () => {
  const registry = new Registry();
  const ids = new FunctionIds(registry.replica);
  const hear = (stamped: ReturnType<typeof fn>) =>
    registry.receive(stamped, { body: BODY.ENTRY, hlcMs: 1, nodeId: `of-${stamped.name}` }, at(1));
  expect(ids.otherName(fn("a", "f"), "f")).toBeUndefined();
  hear(fn("b", "f"));
  expect([ids.otherName(fn("a", "f"), "f"), ids.otherName(fn("b", "f"), "f")]).toEqual(["b", undefined]);
  hear(fn("a", "f"));
  expect([ids.otherName(fn("a", "f"), "f"), ids.otherName(fn("b", "f"), "f")]).toEqual([undefined, "a"]);
  expect(ids.otherName(fn("c", "f", "other"), "f")).toBeUndefined();
  expect(ids.otherName(fn("c", "f", "fn", "c2"), "f")).toBeUndefined();
  registry.receive(fn("a", "f"), { body: BODY.EXPIRED, hlcMs: 2, nodeId: "of-a" }, at(2));
  expect([ids.otherName(fn("a", "f"), "f"), ids.otherName(fn("b", "f"), "f")]).toEqual(["b", undefined]);
  hear(fn("b", "g"));
  expect([ids.otherName(fn("a", "f"), "f"), ids.otherName(fn("a", "g"), "g")]).toEqual([undefined, "b"]);
});
