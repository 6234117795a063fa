/** Names with more instances than one answer considers, as a node's inside gives them to DNS and to `Resolve`. */
import assert from "node:assert/strict";
import { create, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterRequestSchema, ResolveRequestSchema, type ResolveResponse } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { KIND } from "../../src/catalog/record/record.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";

const COUNT = 5000;

type Init = Omit<MessageInitShape<typeof EntrySchema>, "$typeName">;

async function registerAll(inside: DiscoveryInside, name: string, initOf: (i: number) => Init = () => ({})): Promise<void> {
  for (let from = 0; from < COUNT; from += 1000) {
    const entries = Array.from({ length: 1000 }, (_, n) => ({
      key: { namespace: "svc.market", name, kind: KIND.SERVICE, instanceId: `i${from + n}` },
      targets: [{ host: "192.0.2.1", port: 1 }],
      ...initOf(from + n),
    }));
    await call(inside, "register", create(RegisterRequestSchema, { entries, staticLease: true }));
  }
}

async function call(inside: DiscoveryInside, rpc: string, request: Message): Promise<unknown> {
  const handler = inside.service.handlers[rpc];
  assert(handler?.kind === "unary");
  const caller = { ...anonymousCaller("local", "127.0.0.1", ["mesh.operate"]), principal: "p", tenant: "" };
  return handler.handle(request as never, { caller, time: inside.now(), requestId: "" });
}

/** Counts the entries that are looked into from now on. */
function counting({ core }: DiscoveryInside): { count: number } {
  const { slab } = core.replica;
  const looked = { count: 0 };
  const view = slab.view.bind(slab);
  slab.view = (at, sizeBytes) => {
    looked.count += 1;
    return view(at, sizeBytes);
  };
  return looked;
}

test.each([0, 0.3, 0.999])("each of 5,000 instances is in one of ten samples, whatever is drawn: %d", async (drawn) => {
  const inside = await startDiscovery();
  try {
    for (const name of ["web", "api"]) await registerAll(inside, name);
    const catalog = inside.dns(drawn);
    // Two crowded names that are asked for in turn do not take each other's samples away.
    const seen = { web: new Set<string>(), api: new Set<string>() };
    for (let i = 0; i < 10; i++)
      for (const name of ["web", "api"] as const)
        for (const { key } of catalog.find(KIND.SERVICE, "svc.market", name)) seen[name].add(key.instanceId);
    expect([seen.web.size, seen.api.size]).toEqual([COUNT, COUNT]);
    // No more are looked at than any message holds, and what is more is a sample.
    catalog.takeSampled();
    expect([catalog.find(KIND.SERVICE, "svc.market", "web").length <= 4096, catalog.takeSampled()]).toEqual([true, true]);
  } finally {
    await inside.stop();
  }
});

test("of 5,000 instances with one alias an answer considers a thousand, in turn", async () => {
  const inside = await startDiscovery();
  try {
    await registerAll(inside, "web", () => ({ aliases: ["web.example"] }));
    const catalog = inside.dns(0);
    const seen = new Set<string>();
    for (let i = 0; i < 10; i++) {
      const aliasOwners = catalog.findAlias("web.example", "waymark").map(({ key }) => key.instanceId);
      expect(aliasOwners).toHaveLength(1000);
      expect(aliasOwners).toEqual(aliasOwners.toSorted());
      expect(catalog.takeSampled()).toBe(true);
      for (const id of aliasOwners) seen.add(id);
    }
    expect(seen.size).toBe(COUNT);
  } finally {
    await inside.stop();
  }
});

test("of 5,000 instances those with a rare port are found, and a question for a port that none has looks into none", async () => {
  const inside = await startDiscovery();
  try {
    const ports = Array.from({ length: 16 }, (_, i) => ({ host: "192.0.2.1", port: 1 + i, name: `p${i}` }));
    const rare = (i: number) => ({ host: "192.0.2.2", port: i, name: "rare", protocol: "UDP" });
    await registerAll(inside, "web", (i) => ({ targets: i % 2000 === 7 ? [...ports, rare(i)] : ports }));
    const catalog = inside.dns(0);
    const looked = counting(inside);
    const ask = (name: string) => {
      looked.count = 0;
      // Anew for each question: none is answered from what another made.
      const reply = inside
        .responder()
        .respond(queryBytes({ name: `${name}.web.svc.market.waymark`, type: "SRV" }), "tcp", () => onlyView(catalog));
      assert(reply !== undefined);
      const [flags, ...records] = responseText(reply.bytes).split("\n");
      return { rcode: flags?.split(" ")[0], records: records.filter((line) => line.startsWith("answer")).length, looked: looked.count };
    };
    for (let i = 0; i < 20; i++) expect(ask(`_nope${i}._tcp`)).toEqual({ rcode: "NXDOMAIN", records: 0, looked: 0 });
    expect(ask("_rare._tcp")).toEqual({ rcode: "NXDOMAIN", records: 0, looked: 0 });
    expect(ask("_sctp")).toEqual({ rcode: "NXDOMAIN", records: 0, looked: 0 });
    for (let i = 0; i < 5; i++) expect(ask("_rare._udp")).toEqual({ rcode: "NOERROR", records: 3, looked: 3 });
    expect(ask("_p3._tcp")).toEqual({ rcode: "NOERROR", records: 1, looked: 1000 });
  } finally {
    await inside.stop();
  }
});

test("of 5,000 functions the one of a rare version is found, and a range that none is in looks into none", async () => {
  const inside = await startDiscovery();
  try {
    await registerAll(inside, "f", (i) => ({
      key: { namespace: "svc.market", name: "f", kind: KIND.FUNCTION, instanceId: `i${i}` },
      detail: { case: "function", value: { version: i === 7 ? "2.0.0" : "1.0.0" } },
    }));
    const looked = counting(inside);
    const ask = async (versionRange: string, explain = false) => {
      looked.count = 0;
      const named = { namespace: "svc.market", name: "f", kind: KIND.FUNCTION };
      const request = create(ResolveRequestSchema, { ...named, versionRange, limit: 10, explain });
      return (await call(inside, "resolve", request)) as ResolveResponse;
    };
    await expect(ask("^3")).rejects.toThrow("no entry named f in svc.market with a version in ^3");
    expect(looked.count).toBe(0);
    const { entry, alternatives } = await ask("^2");
    expect([entry?.key?.instanceId, alternatives.length, looked.count]).toEqual(["i7", 0, 1]);
    const { explanation } = await ask("^2", true);
    expect([explanation.length, explanation[1]?.reason, looked.count <= 1001]).toEqual([1000, "version_range", true]);
  } finally {
    await inside.stop();
  }
});
