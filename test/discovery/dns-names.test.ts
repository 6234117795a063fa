/** Names below a suffix, and aliases, kept up with a replica. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { type KeyText, KIND, keyParts, keyText, nameOfKey } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { buildFrame, FrameReceiver } from "../../src/catalog/replica/frames.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { CAUSE } from "../../src/catalog/watch/change-cause.ts";
import { addressText } from "../../src/discovery/address-names.ts";
import { DnsNames, type NameObserver, type NameView } from "../../src/discovery/dns-names.ts";
import { parseAddress } from "../../src/lib/addresses.ts";
import { Rng } from "../../src/lib/rng.ts";
import { RetainedEntries } from "../../src/resolver/cache/retained-entries.ts";
import { runs } from "../fakes/effort.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { BOUNDS } from "../fakes/options.ts";
import { at, caller, draftAt, keyOf, Registry, stamped, stampedBy } from "../fakes/registry.ts";

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

test("with much hidden, a class of viewers is told what a look at everything tells, whatever comes, goes and is hidden", () => {
  const spaces = Array.from({ length: 24 }, (_, n) => `n${n}.${n % 3 === 0 ? "deep.top" : "top"}`);
  const aliases = ["www.top", "www.top.waymark", "a.www.top", "b.n1.top", "x.deep.top", "b.n1.top.waymark"];
  const act = fc.record({
    namespaces: fc.uniqueArray(fc.constantFrom(...spaces), { minLength: 1, maxLength: 12 }),
    aliases: fc.uniqueArray(fc.constantFrom(...aliases), { maxLength: 3 }),
    name: fc.constantFrom("web", "db"),
    what: fc.constantFrom("register", "register", "remove", "hide"),
  });
  fc.assert(
    fc.property(fc.array(act, { minLength: 1, maxLength: 12 }), (acts) => {
      const r = new Registry();
      const names = new DnsNames(r.replica, ["waymark"]);
      const held = new Set<string>();
      const hidden = [new Set<string>(), new Set<string>()];
      let turn = 0;
      acts.forEach((each, n) => {
        const keys = each.namespaces.map((namespace) => ({
          kind: KIND.SERVICE,
          namespace,
          name: each.name,
          instanceId: "1",
          clusterId: "",
        }));
        if (each.what === "register") {
          const drafts = keys.map((key) => draftAt(key, { aliases: each.aliases }));
          r.register("ann", drafts, at(n));
          for (const key of keys) held.add(keyText(key));
        } else if (each.what === "remove") {
          r.registrar.unregisterKeys(
            caller("ann"),
            keys.map(keyText).filter((key) => held.delete(key)),
            at(n),
          );
        } else {
          turn += 1;
          hidden[n % 2] = new Set(each.namespaces);
        }
        r.flush(at(n));
        names.refresh();
        for (const [tenant, own] of [...hidden, new Set(spaces)].entries()) {
          const sees = (namespace: string) => !own.has(namespace);
          const seesName = (name: string) => sees(name.slice(name.indexOf(".") + 1));
          const view: NameView = { sees, seesName, counts: ({ name }) => seesName(name) };
          const bySeer: NameView = { ...view, viewerClass: { key: `${tenant}`, version: () => turn, sees, seesName } };
          const told = (as: NameView) => [
            ...["top", "deep.top", "www.top", "n1.top", "x.deep.top"].map((suffix) => names.hasNameUnder(suffix, "waymark", as)),
            ...aliases.map((alias) => names.findAlias(alias, "waymark", as).records.map(({ key }) => key)),
          ];
          expect(told(bySeer)).toEqual(told(view));
        }
      });
    }),
    { numRuns: runs(60) },
  );
});

/** What its follower was told since it was last taken. */
class Told implements NameObserver {
  aliases = new Set<string>();
  below = new Set<string>();
  #addresses = new Set<string>();

  entryChanged(): void {}
  originChanged(): void {}
  everythingChanged(): void {}
  aliasChanged(alias: string): void {
    this.aliases.add(alias);
  }
  belowChanged(suffix: string): void {
    this.below.add(suffix);
  }
  addressChanged(address: string): void {
    this.#addresses.add(address);
  }

  takeAddresses(): ReadonlySet<string> {
    const addresses = this.#addresses;
    this.#addresses = new Set();
    return addresses;
  }

  take(): { readonly aliases: ReadonlySet<string>; readonly below: ReadonlySet<string> } {
    const { aliases, below } = this;
    [this.aliases, this.below] = [new Set(), new Set()];
    return { aliases, below };
  }
}

interface Held {
  readonly aliases: readonly string[];
  readonly scope: Scope;
}

/** What two namespaces of some hundred instances hold, and what names stand for by it. */
class Instances {
  readonly held = new Map<KeyText, Held>();
  readonly #registry = new Registry();
  readonly names = new DnsNames(this.#registry.replica, ["waymark"]);
  #turn = 0;

  set(key: KeyText, next: Held | undefined): void {
    const { clusterId, ...parts } = keyParts(key);
    const time = at((this.#turn += 1));
    if (next === undefined) this.#registry.registrar.unregisterKeys(caller("ann"), [key], time);
    else this.#registry.register("ann", [draftAt(parts, { aliases: [...next.aliases], scope: next.scope }, clusterId)], time);
    this.#registry.flush(time);
    if (next === undefined) this.held.delete(key);
    else this.held.set(key, next);
    this.names.refresh();
  }

  keysOf(alias: string): readonly KeyText[] {
    return [...this.held].flatMap(([key, { aliases }]) => (aliases.includes(alias) ? key : [])).toSorted();
  }

  /** Each namespace, and each alias with a namespace and a scope, of which there are entries. */
  claims(): ReadonlySet<string> {
    return new Set(
      [...this.held].flatMap(([key, { aliases, scope }]) => {
        const { namespace } = keyParts(key);
        return [namespace, ...aliases.map((alias) => `${alias} ${namespace} ${scope}`)];
      }),
    );
  }
}

test("hundreds of instances with the same aliases and with others: each alias has its own, and what comes or goes below a name is told", () => {
  const rng = new Rng("instances");
  const world = new Instances();
  const told = new Told();
  world.names.follow(told);
  const lists = [["www.shop"], ["www.shop"], ["www.shop"], ["www.shop", "b.eu"], ["b.eu", "www.shop"], ["a.www.shop", "b.eu"], []];
  const suffixes = (name: string) => name.split(".").map((_, from, labels) => labels.slice(from).join("."));
  const step = (key: KeyText, next: Held | undefined) => {
    const [had, claims] = [world.held.get(key)?.aliases ?? [], world.claims()];
    world.set(key, next);
    const changed = claims.symmetricDifference(world.claims());
    const { aliases, below } = told.take();
    expect(aliases).toEqual(new Set([...had, ...(next?.aliases ?? [])]));
    expect(below).toEqual(new Set([...changed].flatMap((claim) => suffixes(claim.split(" ")[0] ?? ""))));
  };
  const check = () => {
    for (const alias of ["www.shop", "b.eu", "a.www.shop"]) expect([...world.names.keysOf(alias)].toSorted()).toEqual(world.keysOf(alias));
    expect([...world.names.aliases()].toSorted()).toEqual(
      [...new Set([...world.held.values()].flatMap(({ aliases }) => aliases))].toSorted(),
    );
    const below = [...world.names.namesBelow("eu")].map(({ namespace, alias }) => `${alias ?? "-"} ${namespace}`);
    const want = [...world.claims()].map((claim) => claim.split(" ")).filter(([name]) => name?.endsWith("eu"));
    expect(new Set(below)).toEqual(
      new Set(want.map(([name = "", namespace]) => (namespace === undefined ? `- ${name}` : `${name} ${namespace}`))),
    );
  };
  const empty = () => {
    for (const key of world.held.keys()) step(key, undefined);
    check();
  };
  for (const { instances, rounds, removedPercent } of [
    { instances: 2, rounds: 150, removedPercent: 40 },
    { instances: 80, rounds: 350, removedPercent: 5 },
    { instances: 80, rounds: 250, removedPercent: 40 },
  ]) {
    if (removedPercent === 5) empty();
    for (let n = 0; n < rounds; n++) {
      const instanceId = String(rng.int(instances)).padStart(2, "0");
      const namespace = ["svc", "svc.eu"][rng.int(2)] ?? "";
      const key = keyText({ kind: KIND.SERVICE, namespace, name: ["a", "b"][rng.int(2)] ?? "", instanceId, clusterId: "c1" });
      const scope = rng.int(12) === 0 ? SCOPE.ZONE : SCOPE.REGION;
      const isRemoval = world.held.has(key) && rng.int(100) < removedPercent;
      const next = isRemoval ? undefined : { aliases: lists[rng.int(lists.length)] ?? [], scope };
      // The same registration again changes nothing.
      if (JSON.stringify(next) !== JSON.stringify(world.held.get(key))) step(key, next);
      if (instances < 10 || n % 100 === 0) check();
    }
  }
  empty();
});

test("an address of a reverse zone has the entries with a target there, those of each name together, whatever registers and goes", () => {
  const rng = new Rng("addresses");
  const r = new Registry();
  const names = new DnsNames(r.replica, ["waymark"], [{ bytes: Uint8Array.of(10, 0, 0, 0), prefixBits: 8 }]);
  const told = new Told();
  names.follow(told);
  const held = new Map<KeyText, readonly string[]>();
  const inside = ["10.0.0.1", "10.0.0.2", "10.255.0.1"];
  const atAddress = (host: string) => {
    const found = [...names.namesAt(parseAddress(host) ?? new Uint8Array())].map(([name, keys]) => [name, [...keys]] as const);
    const want = [...held].flatMap(([key, hosts]) => (hosts.includes(host) ? key : [])).toSorted();
    expect(found.flatMap(([, keys]) => keys)).toEqual(want);
    expect(found.map(([name]) => name)).toEqual([...new Set(want.map(nameOfKey))]);
  };
  for (let n = 0; n < 600; n++) {
    const parts = { kind: KIND.SERVICE, namespace: "svc", name: ["a", "a-b", "b"][rng.int(3)] ?? "", instanceId: String(rng.int(40)) };
    const key = keyText({ ...parts, clusterId: "c1" });
    const hosts = held.has(key) && rng.int(3) === 0 ? undefined : [...inside, "192.0.2.1", "db.example"].filter(() => rng.int(3) === 0);
    if (hosts === undefined) r.registrar.unregisterKeys(caller("ann"), [key], at(n));
    else r.register("ann", [draftAt(parts, { targets: hosts.map((host) => ({ host, port: 1 + n, protocol: "tcp" })) })], at(n));
    r.flush(at(n));
    names.refresh();
    const touched = new Set([...(held.get(key) ?? []), ...(hosts ?? [])].filter((host) => inside.includes(host)));
    if (hosts === undefined) held.delete(key);
    else held.set(key, hosts);
    const addresses = told.takeAddresses();
    // What has no target before or after has not changed.
    if (touched.size > 0)
      expect(addresses).toEqual(new Set([...touched].map((host) => addressText(parseAddress(host) ?? new Uint8Array()))));
    if (n % 20 === 0) for (const host of inside) atAddress(host);
  }
  expect([...names.addresses()]).toHaveLength(inside.length);
  for (const host of ["10.0.0.3", "192.0.2.1"]) expect([...names.namesAt(parseAddress(host) ?? new Uint8Array())]).toEqual([]);
});

test("a claim behind more entries than are looked at is told again, rather than not at all", () => {
  const world = new Instances();
  const keyAt = (n: number) =>
    keyText({ kind: KIND.SERVICE, namespace: "svc", name: "a", instanceId: String(n).padStart(3, "0"), clusterId: "c1" });
  const held = (scope: Scope) => ({ aliases: ["www.shop"], scope });
  for (let n = 0; n < 140; n++) world.set(keyAt(n), held(n % 2 === 0 ? SCOPE.ZONE : SCOPE.REGION));
  const told = new Told();
  world.names.follow(told);
  const isTold = (n: number, scope: Scope) => {
    world.set(keyAt(n), held(scope));
    return told.take().below.has("www.shop");
  };
  const of = [SCOPE.ZONE, SCOPE.GLOBAL, SCOPE.GLOBAL, SCOPE.ZONE, SCOPE.GLOBAL];
  // Beside one that claims the same it is known at once.
  expect(of.map((scope, n) => isTold(500 + n, scope))).toEqual([false, true, false, false, true]);
});

test("names of any letters lie below a name only behind a dot", () => {
  const label = fc.constantFrom("a", "b", "-a", "a-a", "_a", "A");
  const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join("."));
  fc.assert(
    fc.property(fc.uniqueArray(name, { maxLength: 8, selector: (text) => text.toLowerCase() }), fc.array(name), (aliases, asked) => {
      const r = new Registry();
      r.register("ann", [stamped("web", { aliases })], at(0));
      const names = new DnsNames(r.replica, ["waymark"]);
      names.refresh();
      const plain = aliases.map((alias) => alias.toLowerCase());
      for (const suffix of [...asked, ...aliases].map((text) => text.toLowerCase()))
        expect(names.hasNameUnder(suffix, "waymark", anyone)).toBe(plain.some((text) => `.${text}`.endsWith(`.${suffix}`)));
    }),
    { numRuns: runs(200) },
  );
});

test("the claims of more tenants than share their texts stay apart", () => {
  const r = new Registry();
  const count = 1100;
  const tenants = Array.from({ length: count }, (_, n) => `t${n}`);
  r.register(
    "ann",
    tenants.map((tenant, n) => stampedBy(tenant, `s${n}`, { aliases: [`a${n}.shop`] })),
    at(0),
  );
  const names = new DnsNames(r.replica, ["waymark"]);
  names.refresh();
  const claimed = tenants.filter((tenant, n) =>
    names.hasNameUnder(`a${n}.shop`, "waymark", { ...anyone, counts: (claim) => claim.tenant === tenant }),
  );
  expect(claimed).toHaveLength(count);
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
  const peer = new Replica(new EntryIndex(), new Slab(), place);
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
  const held = new RetainedEntries({ lookup: r.replica.lookup, slab: r.replica.slab, bounds, admits: () => true });
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

test("of services that carry one alias the first four in key order are told, and those whose own name it lies below", () => {
  const r = new Registry();
  for (let i = 9; i > 0; i--) r.register("ann", [stamped(`s${i}`, { aliases: ["x.s8.svc"] })], at(0));
  r.flush(at(0));
  const names = new DnsNames(r.replica, ["waymark"]);
  names.refresh();
  expect(names.findAlias("x.s8.svc", "waymark", anyone).records.map(({ name }) => name)).toEqual(["s1", "s2", "s3", "s4", "s8"]);
});

test("of the claims below a name 256 are judged, and with more of them it counts as existing", () => {
  const r = new Registry();
  const names = new DnsNames(r.replica, ["waymark"]);
  const below = (entryCount: number, aliasCount: number) => {
    for (let i = 0; i < entryCount; i++)
      r.register("ann", [stamped(`s${i}`, { aliases: Array.from({ length: aliasCount }, (_, n) => `a${n}.b${i}.shop.example`) })], at(0));
    r.flush(at(0));
    names.refresh();
    return names.hasNameUnder("shop.example", "waymark", { ...anyone, counts: () => false });
  };
  expect([below(15, 17), below(16, 16)]).toEqual([false, true]);
});
