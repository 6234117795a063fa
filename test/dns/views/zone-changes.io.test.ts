/** Which changes move the serial of which viewers, at a real node's inside. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RegisterRequestSchema, UnregisterRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { ZoneChanges } from "../../../src/dns/views/zone-changes.ts";
import { ZoneVersions } from "../../../src/dns/views/zone-versions.ts";
import { runThrough } from "../../../src/lib/machine.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import type { Rule } from "../../../src/policy/set/rules.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { visibilityOf } from "../../../src/policy/set/visibility.ts";
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

  constructor(inside: DiscoveryInside) {
    const { core } = inside;
    const classes = VIEWERS.map((viewer) => ({ key: viewer.tenant, sees: visibilityOf(core.reads, viewer) }));
    this.#inside = inside;
    this.#versions = new ZoneVersions({ classes, kept: new Map(), told: new Uint32Array(2) }, 0);
    this.#changes = new ZoneChanges(core, VIEWERS);
  }

  async call(method: "register" | "unregister", request: object): Promise<void> {
    const handler = this.#inside.service.handlers[method];
    assert(handler?.kind === "unary");
    await handler.handle(request as never, { caller: ADMIN, time: this.#inside.now(), requestId: "" });
  }

  register(namespace: string, name = "web"): Promise<void> {
    const entries = [{ key: key(namespace, name), targets: [{ host: "192.0.2.1", port: 1 }], scope: 3 }];
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

  async policy(rules: readonly Rule[]): Promise<void> {
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
    const reads = { policy: policies.policy, policyTurn: 1 };
    const replica = { revision: 1, collectedRevision: 0, lookup: { namespaces: { list: () => namespaces } } };
    const changes = new ZoneChanges({ replica, reads, policies } as never, VIEWERS);
    policies.policy = new Policy(set([rule("svc.none", { visibilityTenants: ["red"] })], { defaultAllow: true }), 2);
    reads.policyTurn = 2;
    changes.look(versions);
    expect([count, versions.isAllNoted]).toEqual([count, moved]);
  }
});
