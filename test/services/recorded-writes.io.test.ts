/** What the audit says of writes that were answered. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RegisterRequestSchema, type RegisterResponse, UnregisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { EVERY_AUDIT } from "../../src/policy/audit/filter.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";

async function setUp() {
  const discovery = await startDiscovery();
  const call = (method: "register" | "unregister", request: object): Promise<unknown> => {
    const handler = discovery.service.handlers[method];
    if (handler?.kind !== "unary") throw new Error("there is no such method");
    const context = { caller: anonymousCaller("local", ""), time: discovery.now(), requestId: "" };
    return Promise.resolve(handler.handle(request as never, context));
  };
  const told = async () => {
    const { records } = await discovery.audit.read({ limit: 10, filter: EVERY_AUDIT });
    return records.map(({ action, namespace, detail }) => `${action} ${namespace}: ${detail}`).toSorted();
  };
  const register = async (keys: readonly object[]) =>
    (await call("register", create(RegisterRequestSchema, { entries: keys.map((key) => ({ key })) }))) as RegisterResponse;
  return { call, told, register, [Symbol.asyncDispose]: () => discovery.stop() };
}

const key = (namespace: string, instanceId: string) => ({ kind: 1, namespace, name: "web", instanceId });

test("a registration is recorded for each namespace that it names, with the number of its entries", async () => {
  await using discovery = await setUp();
  await discovery.register([key("shop.b", "1"), key("shop.a", "1"), key("shop.b", "2")]);
  expect(await discovery.told()).toEqual([
    "register shop.a: 3 entries; the call named 2 namespaces",
    "register shop.b: 3 entries; the call named 2 namespaces",
  ]);
});

test.each([
  {
    what: "keys of a lease is recorded for their namespaces",
    named: [key("shop.a", "1")],
    says: "unregister shop.a: 1 entry; the call named 1 namespace",
  },
  { what: "a lease without keys is recorded for no namespace", named: [], says: "unregister : 2 entries; the call named a lease" },
])("the end of $what", async ({ named, says }) => {
  await using discovery = await setUp();
  const { leaseId } = await discovery.register([key("shop.a", "1"), key("shop.b", "1")]);
  await discovery.call("unregister", create(UnregisterRequestSchema, { leaseId, keys: [...named] }));
  expect((await discovery.told()).filter((line) => line.startsWith("unregister"))).toEqual([says]);
});
