/** What the entries of one registration must be beside each other and beside what is held. */
import { expect, test } from "vitest";
import { BODY, KIND } from "../../../src/catalog/record/record.ts";
import { at, caller, command, draftAt, Registry } from "../../fakes/registry.ts";

const fn = (name: string, instanceId: string, functionId: string, clusterId = "c1") =>
  draftAt({ kind: KIND.FUNCTION, namespace: "fn", name, instanceId }, { detail: { case: "function", value: { functionId } } }, clusterId);
const register = (registry: Registry, ...stampedEntries: readonly ReturnType<typeof fn>[]) =>
  registry.register("ann", stampedEntries, at(0), { isStatic: true });

test("a name keeps its function_id, whatever instance says it; an instance without one says nothing", () => {
  const registry = new Registry();
  register(registry, fn("price", "1", ""), fn("price", "2", "f-price"));
  expect(() => register(registry, fn("price", "3", "f-other"))).toThrow(
    "invalid_argument: entries[0].function.function_id: is f-other, but price in fn has the id f-price; all instances of a function must have the same id",
  );
  register(registry, fn("price", "3", "f-price"), fn("price", "4", ""), fn("tax", "1", "f-tax"));
});

test("the only instance of a name may change its id", () => {
  const registry = new Registry();
  register(registry, fn("price", "1", "f-price"));
  register(registry, fn("price", "1", "f-price-2"));
  expect(() => register(registry, fn("price", "2", "f-price"))).toThrow("is f-price, but price in fn has the id f-price-2");
});

test("a request gives one id to one name, and one name to one id", () => {
  const registry = new Registry();
  expect(() => register(registry, fn("price", "1", "f"), fn("price", "2", "g"))).toThrow(
    "entries[1].function.function_id: is g, but price in fn has the id f",
  );
  expect(() => register(registry, fn("price", "1", "f"), fn("tax", "1", "f"))).toThrow(
    "entries[1].function.function_id: f is the id of price",
  );
  expect(registry.replica.lookup.size).toBe(0);
});

test("an id that another name has is refused until that name has it no more, whichever instance says it", () => {
  const registry = new Registry();
  register(registry, fn("price", "1", "f"), fn("price", "2", "f"));
  const taken = "invalid_argument: entries[0].function.function_id: f is the id of price in fn; an id can belong to only one name";
  expect(() => register(registry, fn("tax", "1", "f"))).toThrow(taken);
  expect(() => register(registry, fn("tax", "1", "f"))).toThrow(taken);
  register(registry, fn("price", "2", "f"), fn("price", "3", "f"), fn("tax", "1", "g"));
  // Each instance of the name must give it up.
  for (const instance of ["1", "2", "3"]) {
    expect(() => register(registry, fn("vat", "1", "f"))).toThrow(taken);
    register(registry, fn("price", instance, ""));
  }
  register(registry, fn("vat", "1", "f"));
  expect(() => register(registry, fn("price", "1", "f"))).toThrow("f is the id of vat");
});

test("an id counts while its registration is on its way to the disk, and no more when it does not arrive there", () => {
  const registry = new Registry();
  const stage = (...stampedEntries: readonly ReturnType<typeof fn>[]) =>
    registry.registrar.register(caller("ann"), command(stampedEntries, { isStatic: true }), at(0));
  stage(fn("price", "1", "f"));
  expect(() => stage(fn("tax", "1", "f"))).toThrow("f is the id of price");
  registry.refuse();
  stage(fn("tax", "1", "f"));
  registry.flush(at(0));
  expect(() => stage(fn("price", "1", "f"))).toThrow("f is the id of tax");
});

test("where two nodes gave one id to two names at the same moment, the first name in order has it, at every node", () => {
  for (const order of [
    ["price", "tax"],
    ["tax", "price"],
  ]) {
    const registry = new Registry();
    for (const name of order) registry.receive(fn(name, "1", "f"), { body: BODY.ENTRY, hlcMs: 1, nodeId: `node-of-${name}` }, at(1));
    expect(() => register(registry, fn("tax", "2", "f"))).toThrow("f is the id of price");
    expect(() => register(registry, fn("rate", "1", "f"))).toThrow("f is the id of price");
    register(registry, fn("price", "2", "f"));
  }
});

test("another cluster's instances do not block a name here", () => {
  const registry = new Registry();
  register(registry, fn("price", "1", "f-theirs", "c2"));
  register(registry, fn("price", "2", "f-ours"));
  expect(() => register(registry, fn("price", "3", "f-theirs"))).toThrow("is f-theirs, but price in fn has the id f-ours");
});

test("a request names a key once", () => {
  expect(() => register(new Registry(), fn("price", "1", ""), fn("price", "1", ""))).toThrow(
    "entries[1].key: is the same as entries[0].key",
  );
});
