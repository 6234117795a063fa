/** What the audit says of writes that were answered. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { EVERY_AUDIT } from "../../src/policy/audit/filter.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";

test("a registration is recorded for each namespace that it names, with the number of its entries", async () => {
  const discovery = await startDiscovery();
  const { register } = discovery.service.handlers;
  if (register?.kind !== "unary") throw new Error("there is no such method");
  const key = (namespace: string, instanceId: string) => ({ key: { namespace, name: "web", instanceId } });
  const entries = [key("shop.b", "1"), key("shop.a", "1"), key("shop.b", "2")];
  const context = { caller: anonymousCaller("local", ""), time: discovery.now(), requestId: "" };
  await register.handle(create(RegisterRequestSchema, { entries }) as never, context);
  const { records } = await discovery.audit.read({ limit: 10, filter: EVERY_AUDIT });
  await discovery.stop();
  const told = records.map(({ action, namespace, detail }) => `${action} ${namespace}: ${detail}`);
  expect(told.toSorted()).toEqual([
    "register shop.a: 3 entries; the call named 2 namespaces",
    "register shop.b: 3 entries; the call named 2 namespaces",
  ]);
});
