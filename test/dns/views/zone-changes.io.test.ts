/** Which changes move the serial of which viewers, at a real node's inside. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RegisterRequestSchema, RenewRequestSchema, UnregisterRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { ZoneChanges, type ZoneChangesBounds, ZoneVersions } from "../../../src/dns/views/zone-versions.ts";
import { runThrough } from "../../../src/lib/machine.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import type { NamespaceRule } from "../../../src/policy/set/rules.ts";
import { Policy, visibilityOf } from "../../../src/policy/set/verdict.ts";
import { type DiscoveryInside, startDiscovery } from "../../fakes/discovery-service.ts";
import { rule, set } from "../../fakes/policies.ts";

const ADMIN = { ...anonymousCaller("local", "127.0.0.1", ["mesh.admin", "mesh.operate"]), principal: "red", tenant: "red" };
const VIEWERS = [anonymousCaller("local", ""), { ...anonymousCaller("local", ""), tenant: "red" }];
const [ANONYMOUS, RED] = [0, 1];
const WEEK_MS = 7 * 86_400_000;

class Bench {
  readonly #inside: DiscoveryInside;
  readonly #versions: ZoneVersions;
  readonly #changes: ZoneChanges;
  #seconds = 0;

  constructor(inside: DiscoveryInside, bounds?: ZoneChangesBounds) {
    const { core } = inside;
    const classes = VIEWERS.map((viewer) => ({ key: viewer.tenant, sees: visibilityOf(core.reads, viewer) }));
    this.#inside = inside;
    this.#versions = new ZoneVersions({ classes, kept: new Map(), told: new Uint32Array(2) }, 0);
    this.#changes = new ZoneChanges(core, VIEWERS, bounds);
  }

  async call(method: "register" | "renew" | "unregister", request: object): Promise<void> {
    const handler = this.#inside.service.handlers[method];
    assert(handler?.kind === "unary");
    await handler.handle(request as never, { caller: ADMIN, time: this.#inside.now(), requestId: "" });
  }

  register(namespace: string, name = "web", port = 1, scope = 3): Promise<void> {
    const entries = [{ key: key(namespace, name), targets: [{ host: "192.0.2.1", port }], scope }];
    return this.call("register", create(RegisterRequestSchema, { entries, staticLease: true }));
  }

  registerAlias(namespace: string, name: string, alias: string): Promise<void> {
    const entries = [{ key: key(namespace, name), targets: [{ host: "192.0.2.1", port: 1 }], scope: 3, aliases: [alias] }];
    return this.call("register", create(RegisterRequestSchema, { entries, staticLease: true }));
  }

  unregister(namespace: string, name = "web"): Promise<void> {
    return this.call("unregister", create(UnregisterRequestSchema, { keys: [key(namespace, name)] }));
  }

  /** Tombstones are dropped, as they are in time. */
  collect(): void {
    const { monoMs, wallMs } = this.#inside.now();
    const { replica } = this.#inside.core;
    const before = replica.collectedRevision;
    replica.collect({ monoMs: monoMs + WEEK_MS, wallMs: wallMs + WEEK_MS }, 1000);
    assert(replica.collectedRevision > before, "something was dropped");
  }

  async report(
    namespace: string,
    name: string,
    said: { readonly health?: number; readonly load?: { readonly utilization: number } },
  ): Promise<void> {
    await this.call("renew", create(RenewRequestSchema, { reports: [{ key: key(namespace, name), ...said }] }));
    await this.#inside.core.driver.durable();
  }

  async policy(rules: readonly NamespaceRule[]): Promise<void> {
    const { core } = this.#inside;
    const { policies } = core;
    const terms = { expectedNumber: 0, stage: undefined, principal: "op", reason: "", changeTicket: "" };
    policies.commit(runThrough(policies.stamped(set(rules, { defaultAllow: true }), terms, this.#inside.now().wallMs)), 100);
    await core.switchPolicy();
  }

  /** The viewers whose serial moves now. */
  moved(): readonly number[] {
    this.#seconds += 2;
    const before = this.#versions.serials;
    this.#changes.look(this.#versions);
    const after = this.#versions.cut({ monoMs: this.#seconds * 1000, wallMs: this.#seconds * 1000 }) ?? before;
    return VIEWERS.flatMap(({ tenant }, index) => (before.get(tenant) === after.get(tenant) ? [] : [index]));
  }
}

const key = (namespace: string, name: string) => ({ namespace, name, kind: 1, instanceId: "1" });

test("the serial of a viewer moves with what that viewer sees, and stays with all else", async () => {
  const inside = await startDiscovery();
  const bench = new Bench(inside);
  const hidden = rule("svc.red", { visibilityTenants: ["red"] });
  await bench.policy([hidden]);
  await bench.register("svc.all");
  await bench.register("svc.red");
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  expect(bench.moved()).toEqual([]);

  await bench.register("svc.red", "other");
  expect(bench.moved()).toEqual([RED]);
  await bench.unregister("svc.red", "other");
  expect(bench.moved()).toEqual([RED]);
  await bench.unregister("svc.all");
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);

  // What is said of namespaces that are hidden anyway, or not there, makes no difference to anybody else.
  await bench.policy([rule("svc.red", { visibilityTenants: ["red", "blue"] }), rule("svc.none", { visibilityTenants: ["blue"] })]);
  expect(bench.moved()).toEqual([]);
  await bench.policy([rule("svc.red", { visibilityTenants: ["blue"] })]);
  expect(bench.moved()).toEqual([RED]);
  await bench.policy([]);
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);

  // Owners of another cluster: the entry is hidden from everybody, and what happens to it is seen by nobody.
  await bench.policy([rule("svc.red", { owners: ["elsewhere"] })]);
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  await bench.unregister("svc.red");
  expect(bench.moved()).toEqual([]);
  await inside.stop();
});

test("a change of policy that takes or gives an alias moves the serial of who sees it, also where no entry lives in the namespace of its name", async () => {
  const inside = await startDiscovery();
  const bench = new Bench(inside);
  const remoteLookup = rule("far.away", { owners: ["elsewhere"] });
  await bench.policy([]);
  await bench.registerAlias("svc.all", "web", "host.far.away");
  bench.moved();
  await bench.policy([remoteLookup]);
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  // Of a name above, of the namespace alone, and of the name itself.
  for (const namespace of ["away", "far.away", "host.far.away"]) {
    await bench.policy([rule(namespace, { owners: ["elsewhere"] })]);
    bench.moved();
    await bench.policy([]);
    expect([namespace, bench.moved()]).toEqual([namespace, [ANONYMOUS, RED]]);
  }
  await bench.policy([rule("far.away", { visibilityTenants: ["red"] })]);
  expect(bench.moved()).toEqual([ANONYMOUS]);
  await bench.policy([rule("far.away", { visibilityTenants: ["red", "blue"] })]);
  expect(bench.moved()).toEqual([]);
  await bench.policy([rule("far.away", { visibilityTenants: ["blue"] })]);
  expect(bench.moved()).toEqual([RED]);
  await bench.policy([rule("svc.all", { visibilityTenants: ["red"] }), remoteLookup]);
  bench.moved();
  await bench.policy([rule("svc.all", { visibilityTenants: ["red"] })]);
  expect(bench.moved()).toEqual([RED]);
  await inside.stop();
});

test("what was removed and dropped before anybody looked moves every serial, because nobody knows any more what it was", async () => {
  const inside = await startDiscovery();
  const bench = new Bench(inside);
  await bench.policy([rule("svc.red", { visibilityTenants: ["red"] })]);
  await bench.register("svc.red");
  bench.moved();
  await bench.register("svc.red");
  await bench.unregister("svc.red");
  expect(bench.moved()).toEqual([RED]);
  await bench.register("svc.red");
  bench.moved();
  await bench.unregister("svc.red");
  bench.collect();
  expect([bench.moved(), bench.moved()]).toEqual([[ANONYMOUS, RED], []]);
  await inside.stop();
});

test("where a change of policy would be judged by more namespaces than that pays for, it moves every serial", () => {
  for (const [count, moved] of [
    [50_000, false],
    [50_001, true],
  ] as const) {
    const namespaces = Array.from({ length: count }, () => "svc.all");
    const versions = new ZoneVersions(
      { classes: VIEWERS.map(({ tenant }) => ({ key: tenant, sees: () => true })), kept: new Map(), told: new Uint32Array(2) },
      0,
    );
    const policies = { policy: new Policy(set([], { defaultAllow: true }), 1) };
    const reads = { policy: policies.policy, policyRevision: 1 };
    const replica = { revision: 1, collectedRevision: 0, lookup: { namespaces: { list: () => namespaces } } };
    const dnsNames = { catchUp: () => {}, claims: () => [].values() };
    const changes = new ZoneChanges({ replica, reads, policies, dnsNames, identity: { clusterId: "local" } } as never, VIEWERS);
    policies.policy = new Policy(set([rule("svc.none", { visibilityTenants: ["red"] })], { defaultAllow: true }), 2);
    reads.policyRevision = 2;
    changes.look(versions);
    expect([count, versions.isAllNoted]).toEqual([count, moved]);
  }
});

async function startReporting(): Promise<DiscoveryInside> {
  return startDiscovery(undefined, undefined, undefined, (settings) => ({
    ...settings,
    catalog: { ...settings.catalog, loadIntervalMs: 0 },
  }));
}

test("a report of load moves no serial, and one of health does", async () => {
  const inside = await startReporting();
  const bench = new Bench(inside);
  const revision = () => inside.core.replica.revision;
  await bench.register("svc.all");
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  for (const utilization of [0.1, 0.9, 0.1]) {
    const before = revision();
    await bench.report("svc.all", "web", { load: { utilization } });
    expect(revision()).toBeGreaterThan(before);
    expect(bench.moved()).toEqual([]);
  }
  await bench.report("svc.all", "web", { health: 2, load: { utilization: 0.9 } });
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  for (const port of [2, 1]) {
    await bench.register("svc.all", "web", port);
    expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  }
  // TXT tells it.
  await bench.register("svc.all", "web", 1, 4);
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  await inside.stop();
});

test("what was not looked at is not remembered: beyond the bound, and where tombstones were dropped", async () => {
  const inside = await startReporting();
  const bench = new Bench(inside, { maxRemembered: 100, maxLooked: 1 });
  const moves = async (port: number) => {
    await bench.register("svc.all", "web", port);
    return bench.moved();
  };
  expect(await moves(2)).toEqual([ANONYMOUS, RED]);
  await bench.register("svc.all", "first");
  expect(await moves(1)).toEqual([ANONYMOUS, RED]);
  // As it was when it was looked at.
  expect(await moves(2)).toEqual([ANONYMOUS, RED]);
  await bench.register("svc.all", "web", 1);
  await bench.register("svc.all", "gone");
  await bench.unregister("svc.all", "gone");
  bench.collect();
  expect(bench.moved()).toEqual([ANONYMOUS, RED]);
  expect(await moves(2)).toEqual([ANONYMOUS, RED]);
  await inside.stop();
});

test.each([
  { maxRemembered: 100, maxLooked: 100 },
  { maxRemembered: 1, maxLooked: 100 },
  { maxRemembered: 100, maxLooked: 1 },
  { maxRemembered: 2, maxLooked: 2 },
])(
  "whatever changes, the serial moves, and where all is remembered it moves for nothing else: $maxRemembered remembered, $maxLooked looked at",
  async (bounds) => {
    const inside = await startReporting();
    const bench = new Bench(inside, bounds);
    const rng = new Rng(7);
    const ports = new Map<string, number>();
    const text = () => ["a", "b", "c"].map((name) => ports.get(name)).join();
    const outcomes = { missed: 0, needless: 0 };
    for (let step = 0; step < 40; step++) {
      const before = text();
      let hasWritten = false;
      for (let acts = rng.int(4); acts >= 0; acts--) {
        const name = ["a", "b", "c"][rng.int(3)] ?? "a";
        const dice = rng.int(4);
        if (dice === 0) {
          await bench.unregister("svc.all", name);
          hasWritten = ports.delete(name) || hasWritten;
        } else if (dice > 1 && ports.has(name)) {
          await bench.report("svc.all", name, { load: { utilization: rng.int(4) / 4 } });
        } else {
          const port = 1 + rng.int(2);
          await bench.register("svc.all", name, port);
          hasWritten ||= ports.get(name) !== port;
          ports.set(name, port);
        }
      }
      const hasMoved = bench.moved().length > 0;
      if (text() !== before && !hasMoved) outcomes.missed += 1;
      if (!hasWritten && hasMoved) outcomes.needless += 1;
    }
    await inside.stop();
    expect(outcomes.missed).toBe(0);
    // What is not remembered counts as changed.
    expect(outcomes.needless > 0).toBe(bounds.maxLooked + bounds.maxRemembered < 200);
  },
);
