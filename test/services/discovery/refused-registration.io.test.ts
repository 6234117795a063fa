/** A registration that a cordoned node refuses extends the leases of its caller (semantics.md, Operators and nodes). */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { RegisterRequestSchema, type RegisterResponse } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { startDiscovery } from "../../fakes/discovery-service.ts";

const LATER_MS = 5000;

async function setUp() {
  let isCordoned = false;
  const checkNew = () => {
    if (isCordoned) throw new WaymarkError("draining", "this node accepts nothing new");
  };
  const discovery = await startDiscovery(undefined, false, { checkNew });
  const { service, core, settings } = discovery;
  const { monoMs, wallMs } = discovery.now();
  const start = { monoMs: Math.ceil(monoMs), wallMs };
  const register = async (principal: string, name: string, afterMs = 0) => {
    const handler = service.handlers["register"];
    if (handler?.kind !== "unary") throw new Error("there is no such method");
    const time = { monoMs: start.monoMs + afterMs, wallMs: start.wallMs + afterMs };
    const context = { caller: { ...anonymousCaller("local", ""), principal }, time, requestId: "r-1" };
    const request = create(RegisterRequestSchema, { entries: [{ key: { kind: 1, namespace: "svc", name, instanceId: "1" } }] });
    return ((await handler.handle(request as never, context)) as RegisterResponse).leaseId;
  };
  const ttlMs = settings.catalog.defaultLeaseTtlMs;
  return {
    register,
    cordon: () => {
      isCordoned = true;
    },
    /** For how long the lease has been extended since its registration. */
    extendedMs: (leaseId: string) => (core.leases.find(leaseId)?.deadlineMonoMs ?? Number.NaN) - start.monoMs - ttlMs,
    endLeases: () => core.registrar.tick({ monoMs: start.monoMs + 2 * ttlMs, wallMs: start.wallMs + 2 * ttlMs }),
    [Symbol.asyncDispose]: () => discovery.stop(),
  };
}

test("a refused registration extends the leases of the caller on its keys, and no others", async () => {
  await using node = await setUp();
  const [web, api, other] = [await node.register("ann", "web"), await node.register("ann", "api"), await node.register("bob", "db")];
  node.cordon();
  for (const name of ["web", "db", "new"]) await expect(node.register("ann", name, LATER_MS)).rejects.toMatchObject({ reason: "draining" });
  await expect(node.register("ann", "", LATER_MS)).rejects.toMatchObject({ reason: "invalid_argument" });
  expect([web, api, other].map((leaseId) => node.extendedMs(leaseId))).toEqual([LATER_MS, 0, 0]);
});

test("a refused registration does not bring back a lease that has expired", async () => {
  await using node = await setUp();
  const leaseId = await node.register("ann", "web");
  node.cordon();
  node.endLeases();
  await expect(node.register("ann", "web", LATER_MS)).rejects.toMatchObject({ reason: "draining" });
  expect(node.extendedMs(leaseId)).toBeNaN();
});
