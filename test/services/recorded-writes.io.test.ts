/** What the audit says of writes that were answered. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RegisterRequestSchema, type RegisterResponse, UnregisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { EVERY_AUDIT } from "../../src/policy/audit/filter.ts";
import { splitSubjects } from "../../src/policy/audit/record.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";

async function setUp() {
  const discovery = await startDiscovery();
  const call = (method: "register" | "unregister", request: object): Promise<unknown> => {
    const handler = discovery.service.handlers[method];
    if (handler?.kind !== "unary") throw new Error("there is no such method");
    const context = { caller: anonymousCaller("local", ""), time: discovery.now(), requestId: "r-1" };
    return Promise.resolve(handler.handle(request as never, context));
  };
  const told = async () => {
    const { records } = await discovery.audit.read({ limit: 10, filter: EVERY_AUDIT });
    const lines = records.map(
      ({ requestId, action, namespace, detail, subjects }) =>
        `${requestId} ${action} ${namespace}: ${detail} (${splitSubjects(subjects).join(" ")})`,
    );
    return lines.toSorted();
  };
  const register = async (keys: readonly object[]) =>
    (await call("register", create(RegisterRequestSchema, { entries: keys.map((key) => ({ key })) }))) as RegisterResponse;
  return { call, told, register, [Symbol.asyncDispose]: () => discovery.stop() };
}

const key = (namespace: string, instanceId: string) => ({ kind: 1, namespace, name: "web", instanceId });

test("a registration is recorded for each namespace, with its entries, its lease and the request", async () => {
  await using discovery = await setUp();
  const { leaseId } = await discovery.register([key("shop.b", "1"), key("shop.a", "1"), key("shop.b", "2")]);
  const subjects = [`lease:${leaseId}`, "shop.b/web/1", "shop.b/web/2"];
  expect(await discovery.told()).toEqual([
    `r-1 register shop.a: registered shop.a/web/1 under lease ${leaseId} (lease:${leaseId} shop.a/web/1)`,
    `r-1 register shop.b: registered 2 entries under lease ${leaseId} (${subjects.join(" ")})`,
  ]);
});

test.each([
  { what: "a key", isLeaseNamed: false, named: [key("shop.a", "1")], removed: ["shop.a"] },
  { what: "a lease", isLeaseNamed: true, named: [], removed: ["shop.a", "shop.b"] },
  { what: "a key of a lease", isLeaseNamed: true, named: [key("shop.a", "1")], removed: ["shop.a"] },
])("the removal of $what is recorded with the removed entries", async ({ isLeaseNamed, named, removed }) => {
  await using discovery = await setUp();
  const { leaseId } = await discovery.register([key("shop.a", "1"), key("shop.b", "1")]);
  const request = { leaseId: isLeaseNamed ? leaseId : "", keys: [...named] };
  await discovery.call("unregister", create(UnregisterRequestSchema, request));
  const [of, lease] = isLeaseNamed ? [` of lease ${leaseId}`, `lease:${leaseId} `] : ["", ""];
  expect((await discovery.told()).filter((line) => line.includes("unregister"))).toEqual(
    removed.map((namespace) => `r-1 unregister ${namespace}: unregistered ${namespace}/web/1${of} (${lease}${namespace}/web/1)`),
  );
});
