/** A plan is kept until something changes on which it rests, and no longer. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import type { DnsCatalog } from "../../../src/dns/subject/subject.ts";
import { ASKED, CHANGING_ZONE, ChangingDns, type DnsAct, fullName, someDnsAct } from "../../fakes/changing-dns.ts";
import { runs } from "../../fakes/effort.ts";
import { ask, newResponder } from "../asking.ts";

/** Plays acts and asks some names after each. What is kept is compared with what a gateway answers that has kept nothing. */
function isFresh(
  acts: readonly { readonly act: DnsAct; readonly asked: readonly number[] }[],
  keeping: (catalog: DnsCatalog) => DnsCatalog,
) {
  const world = new ChangingDns();
  const settings = { reverseZones: [CHANGING_ZONE] };
  const kept = newResponder({ settings });
  const catalog = keeping(world.catalog);
  for (const { act, asked } of acts) {
    world.do(act);
    for (const number of asked) {
      const [type, name] = ASKED[number] ?? ["A", ""];
      const told = ask(kept, catalog, type, fullName(name));
      const fresh = ask(newResponder({ settings }), world.catalog, type, fullName(name));
      if (JSON.stringify(told) !== JSON.stringify(fresh)) return false;
    }
  }
  return true;
}

const someActs = fc.array(fc.record({ act: someDnsAct, asked: fc.array(fc.nat(ASKED.length - 1), { maxLength: 12 }) }), {
  minLength: 5,
  maxLength: 40,
});

test("whatever changes, a kept answer is the one that is planned now", () => {
  fc.assert(
    fc.property(someActs, (acts) => isFresh(acts, (catalog) => catalog)),
    { numRuns: runs(300) },
  );
});

test.each([
  { what: "the entries of a name", forgotten: "=" },
  { what: "the carriers of an alias", forgotten: "@" },
  { what: "what exists below a name", forgotten: "." },
  { what: "the lives of nodes", forgotten: "#" },
  { what: "the services of a namespace", forgotten: "/" },
  { what: "who is at an address", forgotten: "^" },
  { what: "the policy", forgotten: "version" },
])("the property above finds plans that do not rest on $what", ({ forgotten }) => {
  const forgetting = (catalog: DnsCatalog): DnsCatalog => {
    const takePlanDependencies = () => {
      const rests = catalog.takePlanDependencies();
      return { ...rests, keys: new Set([...rests.keys].filter((fact) => !fact.startsWith(forgotten))) };
    };
    return new Proxy(catalog, {
      get: (of, name) => {
        if (name === "takePlanDependencies") return takePlanDependencies;
        if (name === forgotten) return 0;
        const value: unknown = Reflect.get(of, name, of);
        const bound: unknown = typeof value === "function" ? value.bind(of) : value;
        return bound;
      },
    });
  };
  const checked = fc.check(
    fc.property(someActs, (acts) => isFresh(acts, forgetting)),
    { numRuns: runs(1000), endOnFailure: true },
  );
  expect(checked.failed).toBe(true);
});

const web = { kind: KIND.SERVICE, namespace: "m", name: "web", instanceId: "1" };

test("a hot name's plan survives a thousand changes elsewhere, and ends with a change of its own", () => {
  const world = new ChangingDns();
  const responder = newResponder();
  world.put({ by: "a", entry: web, aliases: [], host: "10.0.0.1" });
  const askWeb = () => ask(responder, world.catalog, "A", "web.m.waymark").answers;
  const before = askWeb();
  for (let i = 0; i < 1000; i++) {
    world.put({ by: "a", entry: { ...web, name: `other${i % 50}` }, aliases: [`x${i % 7}.other`], host: "10.0.0.9" });
    expect(askWeb()).toEqual(before);
  }
  expect(responder.plans.madeCount).toBe(1);
  world.put({ by: "a", entry: web, aliases: [], host: "10.0.0.2" });
  expect(askWeb()).not.toEqual(before);
  expect(responder.plans.madeCount).toBe(2);
});

test.each([
  { appears: "the name", asked: "web.m", put: { entry: web, aliases: [] }, rcode: "NOERROR" },
  { appears: "an alias of it", asked: "pay.m", put: { entry: web, aliases: ["pay.m"] }, rcode: "NOERROR" },
  { appears: "an alias in full", asked: "pay.m", put: { entry: web, aliases: ["pay.m.waymark"] }, rcode: "NOERROR" },
  { appears: "a name below it", asked: "down.m", put: { entry: { ...web, namespace: "deep.down.m" }, aliases: [] }, rcode: "NOERROR" },
  { appears: "an alias below it", asked: "down.m", put: { entry: web, aliases: ["x.down.m"] }, rcode: "NOERROR" },
  { appears: "an alias below its port", asked: "_tcp.down.m", put: { entry: web, aliases: ["_x._tcp.down.m"] }, rcode: "NOERROR" },
  { appears: "nothing of it", asked: "down.m", put: { entry: web, aliases: ["x.up.m"] }, rcode: "NXDOMAIN" },
])("that a name does not exist is over once $appears is there", ({ asked, put, rcode }) => {
  const world = new ChangingDns();
  const responder = newResponder();
  const told = () => ask(responder, world.catalog, "A", `${asked}.waymark`).rcode;
  expect(told()).toBe("NXDOMAIN");
  world.put({ by: "a", host: "10.0.0.1", ...put });
  expect(told()).toBe(rcode);
  expect(responder.plans.madeCount > 1).toBe(rcode === "NOERROR");
});

test("a policy that shows a name ends that it does not exist, and one that hides it ends that it does", () => {
  const world = new ChangingDns();
  const responder = newResponder();
  world.put({ by: "a", entry: web, aliases: [], host: "10.0.0.1" });
  const told = (hidden: readonly string[]) => {
    world.do({ does: "policy", hidden });
    return ask(responder, world.catalog, "A", "web.m.waymark").rcode;
  };
  expect([told([]), told(["m"]), told([])]).toEqual(["NOERROR", "NXDOMAIN", "NOERROR"]);
});

test("an alias of a node that is gone is kept for no longer than what is stale, also where nothing behind it is asked for", () => {
  const world = new ChangingDns();
  const settings = { defaultTtlMs: 30_000 };
  const responder = newResponder({ settings });
  world.put({ by: "b", entry: web, aliases: ["pay.m"], host: "10.0.0.1" });
  const told = () => ask(responder, world.catalog, "CNAME", "pay.m.waymark").answers;
  const fresh = () => ask(newResponder({ settings }), world.catalog, "CNAME", "pay.m.waymark").answers;
  const before = told();
  world.do({ does: "life", life: "orphaned" });
  expect(told()).toEqual(fresh());
  expect(told()).not.toEqual(before);
});
