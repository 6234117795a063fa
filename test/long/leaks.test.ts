/** Zero leaks at the size of the issue, and that hidden and absent names cost the same work (semantics.md, Policy). */
import assert from "node:assert/strict";
import { Session } from "node:inspector";
import { setFlagsFromString } from "node:v8";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  CatalogQueryRequestSchema,
  NamespaceStatusRequestSchema,
  ResolveRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { now } from "../../src/lib/stall-aware-time.io.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
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

test("hidden and absent names cost the same work: each branch of our code runs as often for the one as for the other", async () => {
  const inside = await startDiscovery();
  const { service, core } = inside;
  const caller: Caller = { principal: "p", tenant: "t", cluster: "local", roles: [], isAuthenticated: true, address: "" };
  const time = now();
  const work = new Work();
  try {
    await fill(core, caller);
    // Nobody but one tenant sees what is below `secret`; below it 500 namespaces have entries and 500 do not.
    Object.defineProperty(core.policies, "policy", { value: new Policy(set([rule("secret", { visibilityTenants: ["other"] })]), 1) });
    core.reads.show(core.policies.policy);
    core.reads.settle(core.policies.policy);
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
      const workOf = (letter: string) =>
        work.of(() => {
          for (let i = 0; i < COUNT; i++) call(`secret.${letter}${i}`);
        });
      // The first time some of it is made that stays, and V8 counts a function's branches from its second call on.
      for (const letter of ["h", "a"]) workOf(letter);
      const [hidden, absent] = [workOf("h"), workOf("a")];
      expect([...hidden.values()].filter((count) => count >= COUNT).length).toBeGreaterThan(10);
      const apart = [...new Set([...hidden.keys(), ...absent.keys()])]
        .map((place) => ({ place, hidden: hidden.get(place), absent: absent.get(place) }))
        .filter((row) => row.hidden !== row.absent);
      expect.soft(apart, door).toEqual([]);
    }
  } finally {
    work.end();
    await inside.stop();
  }
});

const COUNT = 500;

async function fill(core: Awaited<ReturnType<typeof startDiscovery>>["core"], caller: Caller): Promise<void> {
  const time = now();
  const stampedEntries = Array.from({ length: COUNT }, (_, i) =>
    core.stamper.entryOf(create(EntrySchema, { key: { namespace: `secret.h${i}`, name: "web", kind: 1, instanceId: "1" }, scope: 2 }), i, {
      ...core.identity,
      tenantId: "",
      receivedWallMs: time.wallMs,
    }),
  );
  core.registrar.register(caller, { stampedEntries, ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true }, time);
  await core.driver.durable();
  assert.equal(core.replica.lookup.size, COUNT);
}

/**
 * Counts how often each function and branch below `src` runs (V8's precise coverage): what a clock would show, without the
 * noise of the machine.
 */
class Work {
  readonly #session = new Session();

  constructor() {
    // A call that was optimized into its caller would not be counted, nor one whose bytecode was thrown away.
    setFlagsFromString("--no-opt");
    setFlagsFromString("--no-maglev");
    setFlagsFromString("--no-flush-bytecode");
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** Place in a file to how often it ran while this was done. */
  of(action: () => void): ReadonlyMap<string, number> {
    this.#take();
    action();
    return this.#take();
  }

  end(): void {
    this.#session.disconnect();
  }

  #take(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    // It answers before `post` returns.
    this.#session.post("Profiler.takePreciseCoverage", (error, { result }) => {
      assert(error === null);
      // A branch that ran as often as what it is in has no range of its own; one that never ran has one, with 0.
      for (const { url, functions } of result.filter((script) => script.url.includes("/src/")))
        for (const { functionName, ranges } of functions.filter((each) => (each.ranges[0]?.count ?? 0) > 0))
          for (const { startOffset, endOffset, count } of ranges)
            counts.set(`${url.slice(url.indexOf("/src/") + 1)} ${functionName} ${startOffset}-${endOffset}`, count);
    });
    return counts;
  }
}
