/** DNS names with more instances than one answer considers, as a node's inside gives them. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { KIND } from "../../src/catalog/record.ts";
import { now } from "../../src/node-core.ts";
import { dnsCatalog } from "../../src/node-doors.ts";
import { anonymousCaller } from "../../src/policy/caller.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";

const COUNT = 5000;

async function registerAll({ service }: DiscoveryInside, name: string, aliases: string[] = []): Promise<void> {
  const handler = service.handlers["register"];
  assert(handler?.kind === "unary");
  const caller = { ...anonymousCaller("local", "127.0.0.1", ["mesh.operate"]), principal: "p", tenant: "" };
  for (let from = 0; from < COUNT; from += 1000) {
    const entries = Array.from({ length: 1000 }, (_, n) => ({
      key: { namespace: "svc.market", name, kind: KIND.SERVICE, instanceId: `i${from + n}` },
      targets: [{ host: "192.0.2.1", port: 1 }],
      aliases,
    }));
    await handler.handle(create(RegisterRequestSchema, { entries, static: true }) as never, { caller, time: now(), requestId: "" });
  }
}

test.each([0, 0.3, 0.999])("each of 5,000 instances is in one of ten samples, whatever is drawn: %d", async (drawn) => {
  const inside = await startDiscovery();
  try {
    for (const name of ["web", "api"]) await registerAll(inside, name);
    const catalog = dnsCatalog(() => drawn, inside.core);
    // Two crowded names that are asked for in turn do not take each other's samples away.
    const seen = { web: new Set<string>(), api: new Set<string>() };
    for (let i = 0; i < 10; i++)
      for (const name of ["web", "api"] as const)
        for (const { key } of catalog.find(KIND.SERVICE, "svc.market", name, () => true)) seen[name].add(key.instanceId);
    expect([seen.web.size, seen.api.size]).toEqual([COUNT, COUNT]);
  } finally {
    await inside.stop();
  }
});

test("of 5,000 instances with one alias an answer considers a thousand, in turn", async () => {
  const inside = await startDiscovery();
  try {
    await registerAll(inside, "web", ["web.example"]);
    const catalog = dnsCatalog(() => 0, inside.core);
    const seen = new Set<string>();
    for (let i = 0; i < 10; i++) {
      const carriers = catalog.findAlias("web.example", "waymark").map(({ key }) => key.instanceId);
      expect(carriers).toHaveLength(1000);
      expect(carriers).toEqual(carriers.toSorted());
      expect(catalog.takeSampled?.()).toBe(true);
      for (const id of carriers) seen.add(id);
    }
    expect(seen.size).toBe(COUNT);
  } finally {
    await inside.stop();
  }
});
