/** Zero leaks at the size of the issue, and that hidden and absent names take the same time (semantics.md, Policy). */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  CatalogQueryRequestSchema,
  NamespaceStatusRequestSchema,
  ResolveRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { now } from "../../src/node-core.ts";
import type { Caller } from "../../src/policy/caller.ts";
import { Policy } from "../../src/policy/verdict.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";
import { rule, set } from "../fakes/policies.ts";
import { PolicyWorld } from "../fakes/policy-world.ts";

/** 1,000 namespaces in three levels. */
const NAMESPACES = Array.from({ length: 100 }, (_, org) =>
  Array.from({ length: 10 }, (_unused, app) => (app === 0 ? `org${org}` : app < 5 ? `org${org}.app${app}` : `org${org}.app1.part${app}`)),
).flat();

test("100 tenants, 1,000 namespaces: nothing reaches a viewer whom the model denies, and nothing allowed is missing", async () => {
  const size = { tenants: 100, namespaces: NAMESPACES, maxRules: 300, viewersAStep: 4, streams: 24, burst: 120 };
  const world = await PolicyWorld.open(size, "long");
  try {
    for (let i = 0; i < 300; i++) await world.step();
    console.error(`${world.entryCount} entries`, Object.fromEntries(world.counts));
    expect(world.counts.get("registered")).toBeGreaterThan(10);
    const metrics = await world.metrics();
    expect(NAMESPACES.filter((namespace) => metrics.includes(`"${namespace}"`))).toEqual([]);
  } finally {
    await world.close();
  }
});

test("hidden and absent names take the same time: means within 5 % over 10,000 calls", async () => {
  const inside = await startDiscovery();
  const { service, core } = inside;
  const caller: Caller = { principal: "p", tenant: "t", cluster: "local", roles: [], isAuthenticated: true, address: "" };
  const time = now();
  try {
    await fill(core, caller);
    // Nobody but one tenant sees what is below `secret`; below it 500 namespaces have entries and 500 do not.
    Object.defineProperty(core.policies, "policy", { value: new Policy(set([rule("secret", { visibilityTenants: ["other"] })]), 1) });
    core.reads.show(core.policies.policy);
    core.reads.settle(core.policies.policy);
    const rows: Record<string, string>[] = [];
    for (const door of ["catalogQuery", "resolve", "namespaceStatus"] as const) {
      const call = (namespace: string) => {
        const handler = service.handlers[door];
        assert(handler?.kind === "unary");
        const message = {
          catalogQuery: () => create(CatalogQueryRequestSchema, { namespace }),
          resolve: () => create(ResolveRequestSchema, { namespace, name: "web" }),
          namespaceStatus: () => create(NamespaceStatusRequestSchema, { namespace }),
        }[door]();
        try {
          void handler.handle(message as never, { caller, time, requestId: "" });
        } catch (error) {
          if (!(error instanceof WaymarkError)) throw error;
        }
      };
      const [hidden, absent] = meansOf(call);
      const apart = Math.abs(hidden - absent) / absent;
      rows.push({ door, hidden: `${hidden.toFixed(2)} µs`, absent: `${absent.toFixed(2)} µs`, apart: `${(apart * 100).toFixed(2)} %` });
      expect.soft(apart, door).toBeLessThan(0.05);
    }
    console.error(rows);
  } finally {
    await inside.stop();
  }
});

const COUNT = 500;

async function fill(core: Awaited<ReturnType<typeof startDiscovery>>["core"], caller: Caller): Promise<void> {
  const time = now();
  const drafts = Array.from({ length: COUNT }, (_, i) =>
    core.drafter.draftOf(create(EntrySchema, { key: { namespace: `secret.h${i}`, name: "web", kind: 1, instanceId: "1" }, scope: 2 }), i, {
      ...core.identity,
      tenantId: "",
      receivedWallMs: time.wallMs,
    }),
  );
  core.registrar.register(caller, { drafts, ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true }, time);
  await core.committer.durable();
  assert.equal(core.replica.lookup.size, COUNT);
}

/** Mean time of a call in µs, hidden and absent by turns; each the median of 401 rounds, so that a neighbour's burst does not decide. */
function meansOf(call: (namespace: string) => void): readonly [number, number] {
  const rounds = 401;
  const times: [number[], number[]] = [[], []];
  const names = [Array.from({ length: COUNT }, (_, i) => `secret.h${i}`), Array.from({ length: COUNT }, (_, i) => `secret.a${i}`)] as const;
  for (let n = -60; n < rounds; n++) {
    for (const which of n % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      const start = process.hrtime.bigint();
      for (const namespace of names[which]) call(namespace);
      if (n >= 0) times[which].push(Number(process.hrtime.bigint() - start) / 1000 / COUNT);
    }
  }
  const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
  return [median(times[0]), median(times[1])];
}
