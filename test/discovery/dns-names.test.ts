/** Names below a suffix, and aliases, kept up with a replica. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { Lookup } from "../../src/catalog/query/lookup.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { buildFrame, FrameReceiver } from "../../src/catalog/replica/frames.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { CAUSE } from "../../src/catalog/watch/cause.ts";
import { DnsNames, type NameView } from "../../src/discovery/dns-names.ts";
import { HeldEntries } from "../../src/resolver/keeping/held-entries.ts";
import { runs } from "../fakes/effort.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { BOUNDS } from "../fakes/options.ts";
import { at, caller, keyOf, Registry, stamped } from "../fakes/registry.ts";

const T = timeOf(1, 0);
const ALIASES = ["shop.example", "Shop.Example.", "www.shop.example", "pay"];

const anyone: NameView = { sees: () => true, counts: () => true };

test("aliases and the names above them are what a scan of all entries finds, after any registrations and removals", () => {
  const act = fc.record({
    name: fc.constantFrom("a", "b", "c"),
    aliases: fc.uniqueArray(fc.constantFrom(...ALIASES), { maxLength: 2 }),
    isRemoval: fc.boolean(),
    isRefreshed: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(act, { minLength: 1, maxLength: 25 }), (acts) => {
      const r = new Registry();
      const names = new DnsNames(r.replica, ["waymark"]);
      const held = new Map<string, readonly string[]>();
      acts.forEach(({ name, aliases, isRemoval, isRefreshed }, n) => {
        if (isRemoval) r.registrar.unregisterKeys(caller("ann"), [keyOf(name)], at(n));
        else r.register("ann", [stamped(name, { aliases })], at(n));
        r.flush(at(n));
        if (isRemoval) held.delete(name);
        else
          held.set(
            name,
            aliases.map((alias) => alias.toLowerCase().replace(/\.$/, "")),
          );
        if (isRefreshed) names.refresh();
      });
      names.refresh();
      for (const alias of ["shop.example", "www.shop.example", "pay"]) {
        const want = [...held].filter(([, list]) => list.includes(alias)).map(([name]) => name);
        expect(names.findAlias(alias, "waymark", anyone).records.map((record) => record.name)).toEqual(want.toSorted());
        expect(names.findAlias(alias, "waymark", { ...anyone, sees: () => false }).records).toEqual([]);
      }
      const all = [...(held.size > 0 ? ["svc"] : []), ...[...held.values()].flat()];
      for (const suffix of ["example", "shop.example", "pay", "svc", "op.example", "nothing"])
        expect(names.hasNameUnder(suffix, "waymark", anyone)).toBe(all.some((name) => name === suffix || name.endsWith(`.${suffix}`)));
    }),
    { numRuns: runs(100) },
  );
});

test("names of an origin that was hidden, came back, or was forgotten at once", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  const names = new DnsNames(b.replica, ["waymark"]);
  a.put(KEYS[4]!, 0, T);
  a.commit(T);
  b.copy(a, "a/1", T);
  const has = (): boolean => {
    names.refresh();
    return names.hasNameUnder("eu", "waymark", anyone);
  };
  const seen = [has()];
  b.setLife("a/1", "hidden");
  seen.push(has());
  b.setLife("a/1", "live");
  seen.push(has());
  b.forget("a/1", T);
  seen.push(has());
  expect(seen).toEqual([true, false, true, false]);
});

test("an alias is known wherever its record came from: by a registration, by a peer's frame and after a restart", () => {
  const r = new Registry();
  r.register("ann", [stamped("web", { aliases: ["www.shop.example"] }), stamped("db")], at(0));
  const place = { nodeId: "b", generation: 1, lastSeq: 0, floor: 0, tombstoneTtlMs: 1000, minTombstones: 4 };
  const peer = new Replica(new Lookup(), new Slab(), place);
  const receiver = new FrameReceiver(peer, new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(64) }), BOUNDS);
  const frame = buildFrame(r.replica, r.replica.self, { after: 0, isComplete: false }, { relation: "cluster", clusterId: "c1" }, 10_000);
  receiver.apply(frame, at(1), { place: { clusterId: "c1", region: "r1" } });
  for (const replica of [r.replica, peer, r.twin().replica]) {
    const names = new DnsNames(replica, ["waymark"]);
    names.refresh();
    expect(names.findAlias("www.shop.example", "waymark", anyone).records.map(({ name }) => name)).toEqual(["web"]);
  }
});

test.each([
  { what: "another entry comes", again: (r: Registry) => void r.register("ann", [stamped("c")], at(3)) },
  { what: "its end is forgotten at once", again: (r: Registry) => void r.replica.collect({ monoMs: 1e12, wallMs: 1e13 }, 1000) },
])("what is only held has its names while lookups show it, also when $what", ({ again }) => {
  const r = new Registry();
  const bounds = { minEntries: 1, windowMs: 10, holdMs: 1000 };
  const held = new HeldEntries({ lookup: r.replica.lookup, slab: r.replica.slab, bounds, admits: () => true });
  let isShown = true;
  const beside = { lookup: held.lookup, shows: () => isShown, takeTouched: () => held.takeTouched() };
  const names = new DnsNames(r.replica, ["waymark"], [], beside);
  const found = () => {
    names.refresh();
    const aliases = names.findAlias("shop.example", "waymark", anyone).records.map(({ name }) => name);
    return [aliases, names.view(keyOf("a"))?.name, ["shop.example", "svc"].map((suffix) => names.hasNameUnder(suffix, "waymark", anyone))];
  };
  r.register("ann", [stamped("a", { aliases: ["shop.example"] })], at(0));
  r.flush(at(0));
  const there = [["a"], "a", [true, true]];
  expect(found()).toEqual(there);
  held.gone(r.replica.view(keyOf("a"))!, CAUSE.EXPIRED, at(1));
  expect(found()).toEqual(there);
  r.registrar.unregisterKeys(caller("ann"), [keyOf("a")], at(2));
  r.flush(at(2));
  again(r);
  r.flush(at(3));
  expect(found()).toEqual(there);
  isShown = false;
  const others = r.replica.lookup.size > 0;
  expect(found()).toEqual([[], undefined, [others, others]]);
  isShown = true;
  held.tick(at(1001));
  expect(found()).toEqual([[], undefined, [false, others]]);
});
