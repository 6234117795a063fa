/** The few instances of a crowded name that an answer may be made of, by Resolve and by DNS. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterRequestSchema, ResolveRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { portWord } from "../../src/catalog/entry/view.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";

const COUNT = 3000;
const RARE = [777, 2222];

function call(inside: DiscoveryInside, method: string, request: unknown): Promise<unknown> {
  const handler = inside.service.handlers[method];
  assert(handler?.kind === "unary");
  const caller = { ...anonymousCaller("local", "127.0.0.1", ["mesh.operate"]), principal: "p", tenant: "" };
  return Promise.resolve(handler.handle(request as never, { caller, time: inside.now(), requestId: "" }));
}

test("Resolve finds the few of a crowded function that its version range wants, each time", async () => {
  const inside = await startDiscovery();
  try {
    for (let from = 0; from < COUNT; from += 1000) {
      const entries = Array.from({ length: 1000 }, (_, n) => ({
        key: { kind: EntryKind.FUNCTION, namespace: "fn.market", name: "price", instanceId: `i${from + n}` },
        detail: {
          case: "function" as const,
          value: { functionId: "price", version: RARE.includes(from + n) ? "2.0.0" : "1.0.0" },
        },
      }));
      await call(inside, "register", create(RegisterRequestSchema, { entries, staticLease: true }));
    }
    for (let i = 0; i < 5; i++) {
      const request = create(ResolveRequestSchema, {
        kind: EntryKind.FUNCTION,
        namespace: "fn.market",
        name: "price",
        versionRange: "^2.0.0",
      });
      expect(await call(inside, "resolve", request)).toMatchObject({ entry: { detail: { value: { version: "2.0.0" } } } });
    }
  } finally {
    await inside.stop();
  }
});

test("DNS finds the few of a crowded service that speak UDP, each time", async () => {
  const inside = await startDiscovery();
  try {
    for (let from = 0; from < COUNT; from += 1000) {
      const entries = Array.from({ length: 1000 }, (_, n) => ({
        key: { kind: EntryKind.SERVICE, namespace: "svc.market", name: "web", instanceId: `i${from + n}` },
        targets: [{ host: "192.0.2.1", port: 1, protocol: RARE.includes(from + n) ? "udp" : "tcp" }],
      }));
      await call(inside, "register", create(RegisterRequestSchema, { entries, staticLease: true }));
    }
    const catalog = inside.dns(0);
    for (let i = 0; i < 5; i++) {
      const found = catalog.find(KIND.SERVICE, "svc.market", "web", portWord("udp"));
      expect(found.map(({ key }) => key.instanceId)).toEqual(["i2222", "i777"]);
    }
  } finally {
    await inside.stop();
  }
});
