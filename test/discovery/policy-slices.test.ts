/** While a policy is put in force slice by slice: every END and bookmark is true, and each watch gets one between two policies. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { ANY, type EntryFilter } from "../../src/catalog/query/filter.ts";
import { type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { isAdmitted, PolicySwitch } from "../../src/discovery/policy-switch-queue.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import { Rng } from "../../src/lib/rng.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import type { NamespaceRule } from "../../src/policy/set/rules.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { runs } from "../fakes/effort.ts";
import { FoldingClient } from "../fakes/folding-client.ts";
import { BOUNDS } from "../fakes/options.ts";
import { rule, set } from "../fakes/policies.ts";
import { at, caller, Registry } from "../fakes/registry.ts";

const NAMESPACES = ["ops", "svc", "svc.eu", "svc.eu.a", "svc.us", "web"];
const ENTRIES = 40;
const MANY = 1000;
const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });

/** A node's inside with entries, watches of several viewers, and a policy that changes. */
class Bench {
  readonly r = new Registry();
  readonly rng: Rng;
  readonly policies: { policy: Policy } = { policy: NO_POLICY };
  readonly reads: CatalogReads;
  readonly fanout = new Fanout();
  readonly clients: FoldingClient[] = [];
  #nowMs = 0;
  #number = 0;

  constructor(seed: number, entries = ENTRIES) {
    this.rng = new Rng(`slices/${seed}`);
    this.r.replica.setAdmission((stored) => isAdmitted(this.policies.policy, stored, "c1"));
    const facts = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" };
    this.reads = new CatalogReads(this.r.replica, facts, { policies: this.policies, onDenied: () => undefined });
    for (let i = 0; i < entries; i++) this.put();
    if (entries === 0) return;
    for (const tenant of ["red", "blue"])
      for (const filter of [ANY, { ...ANY, prefix: "svc" }, { ...ANY, namespace: "svc.eu" }, { ...ANY, namespace: "web" }])
        for (let twin = 0; twin < 2; twin++) this.watch({ ...caller("ann"), tenant }, filter);
  }

  watch(who: Caller, filter: EntryFilter): void {
    const client = new FoldingClient(this.reads, who, { filter, budgetBytes: 200 + this.rng.int(4000), isQueried: true });
    this.clients.push(client);
    this.fanout.add(client.watcher);
  }

  put(): void {
    const namespace = NAMESPACES[this.rng.int(NAMESPACES.length)] ?? "";
    const scope = this.rng.int(3) === 0 ? SCOPE.ZONE : SCOPE.REGION;
    this.putOne({ namespace, name: `n${this.rng.int(8)}`, instanceId: `${this.rng.int(2)}`, scope });
  }

  putOne({ scope, ...names }: { namespace: string; name: string; instanceId: string; scope: Scope }): void {
    const entry = create(EntrySchema, { scope, tags: [`t${this.rng.int(5)}`], key: create(EntryKeySchema, names) });
    const stamp = { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 0 };
    this.r.register("ann", [stamper.entryOf(entry, 0, stamp)], at((this.#nowMs += 1)), { isStatic: true });
  }

  end(): void {
    const name = `n${this.rng.int(8)}`;
    const keys: KeyText[] = NAMESPACES.flatMap((namespace) =>
      ["0", "1"].map((instanceId) => keyText({ kind: KIND.SERVICE, namespace, name, instanceId, clusterId: "c1" })),
    );
    this.r.registrar.unregisterKeys(caller("ann"), [keys[this.rng.int(keys.length)] ?? keys[0]!], at((this.#nowMs += 1)));
    this.r.flush(at(this.#nowMs));
  }

  randomPolicy(): Policy {
    const rules: NamespaceRule[] = NAMESPACES.flatMap((pattern) => {
      const kind = this.rng.int(6);
      if (kind < 2) return [rule(pattern, { owners: [kind === 0 ? "c1" : "c9"] })];
      return kind < 4 ? [rule(pattern, { visibilityTenants: [kind === 2 ? "red" : "nobody"] })] : [];
    });
    this.#number += 1;
    return this.rng.int(8) === 0 ? NO_POLICY : new Policy(set(rules, { defaultAllow: this.rng.int(4) > 0 }), this.#number);
  }

  start(after: Policy): PolicySwitch {
    const before = this.policies.policy;
    this.policies.policy = after;
    const { r, reads, fanout } = this;
    return new PolicySwitch({ replica: r.replica, reads, fanout, clusterId: "c1" }, { before, after });
  }

  /** Something happens, and some of the watches take some of what they are owed. */
  meanwhile(): void {
    const dice = this.rng.int(4);
    if (dice === 0) this.put();
    else if (dice === 1) this.end();
    for (const client of this.clients) if (this.rng.int(3) > 0) client.pull((this.#nowMs += 10), this.rng.int(4));
  }

  pullAll(): void {
    for (const client of this.clients) client.pull((this.#nowMs += 10), MANY);
  }
}

test.each(Array.from({ length: runs(12) }, (_, i) => i + 1))("seed %i: what END and bookmarks say holds between any two slices", (seed) => {
  const bench = new Bench(seed);
  bench.pullAll();
  for (let change = 0; change < 14; change++) {
    const work = bench.start(bench.randomPolicy());
    while (!work.step(1 + bench.rng.int(5))) bench.meanwhile();
    const before = bench.clients.map(({ settledCount }) => settledCount);
    bench.pullAll();
    bench.clients.forEach(({ settledCount }, i) => expect(settledCount, `watch ${i} stands`).toBeGreaterThan(before[i] ?? 0));
  }
});

test("what a watch that lags holds is withdrawn, also when the next policy shows it again to others only", () => {
  const bench = new Bench(0, 0);
  for (const namespace of ["web", "ops"]) bench.putOne({ namespace, name: "n", instanceId: "1", scope: SCOPE.REGION });
  bench.watch({ ...caller("ann"), tenant: "red" }, ANY);
  const [client] = bench.clients;
  bench.pullAll();
  expect(client?.heldCount).toBe(2);
  const elsewhere = rule("web", { owners: ["c9"] });
  const hiding = new Policy(set([elsewhere, rule("ops", { owners: ["c9"] })], { defaultAllow: true }), 1);
  const first = bench.start(hiding);
  while (!first.step(1));
  const forBlue = rule("web", { visibilityTenants: ["blue"] });
  const work = bench.start(new Policy(set([forBlue, rule("ops", { owners: ["c9"] })], { defaultAllow: true }), 2));
  // The watch takes what it may: that ops is gone, and so stands beyond the place where web emptied.
  for (; !work.step(1); ) client?.pull(1000, 10);
  bench.pullAll();
  expect(client?.heldCount).toBe(0);
});

test("a watch that a change of policy does not concern gets its bookmarks between any two slices", () => {
  const bench = new Bench(0, 0);
  for (const namespace of NAMESPACES) bench.putOne({ namespace, name: "n", instanceId: "1", scope: SCOPE.REGION });
  bench.watch({ ...caller("ann"), tenant: "red" }, { ...ANY, namespace: "ops" });
  const [client] = bench.clients;
  bench.pullAll();
  const rules = [rule("svc", { owners: ["c9"] }), rule("web", { visibilityTenants: ["blue"] })];
  const work = bench.start(new Policy(set(rules, { defaultAllow: true }), 1));
  for (let atMs = 1000; !work.step(1); atMs += 10) {
    const before = client?.settledCount ?? 0;
    client?.pull(atMs, 10);
    expect(client?.settledCount).toBe(before + 1);
  }
});
