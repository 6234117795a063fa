/** The entry of an owner of shards in the catalog of its node. */
import { expect, test } from "vitest";
import { ownerEntry } from "../../../src/node/control/owner-entry.ts";
import { at, draftAt, Registry } from "../../fakes/registry.ts";

const KEY = { namespace: "orders", name: "worker", instanceId: "a", kind: 1 };
const of = (instance: string, service = "worker") => ({ namespace: "orders", service, instance });

test("an owner has the principal, the first target, the zone and the region of its entry", () => {
  const registry = new Registry();
  const targets = [
    { host: "10.0.0.7", port: 9000, weight: 3, protocol: "grpc" },
    { host: "10.0.0.8", port: 9001, weight: 5, protocol: "grpc" },
  ];
  registry.register("spiffe://prod/worker", [draftAt(KEY, { targets })], at(0));
  const found = ownerEntry({ replica: registry.replica, clusterId: "c1" }, of("a"));
  expect(found).toEqual({
    principal: "spiffe://prod/worker",
    health: "healthy",
    target: "10.0.0.7:9000",
    weight: 3,
    zone: "z1",
    region: "r1",
  });
});

test("an entry without targets has no address and the weight 1, and other instances, services and clusters are unknown", () => {
  const registry = new Registry();
  registry.register("ann", [draftAt(KEY, {})], at(0));
  const source = { replica: registry.replica, clusterId: "c1" };
  expect(ownerEntry(source, of("a"))).toMatchObject({ target: "", weight: 1 });
  expect([ownerEntry(source, of("b")), ownerEntry(source, of("a", "other"))]).toEqual([undefined, undefined]);
  expect(ownerEntry({ ...source, clusterId: "c2" }, of("a"))).toBeUndefined();
});
