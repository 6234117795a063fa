/** A beacon of a cluster whose nodes have no entries yet. */
import { expect, test } from "vitest";
import { nodeEntry } from "../../src/services/node-entry.ts";
import { caller, command } from "../fakes/registry.ts";
import { Regions } from "./regions/world.ts";

/** The node publishes itself, as `self-entry.io.ts` does. */
function publish(regions: Regions, nodeId: string): void {
  const { process } = regions.node(nodeId);
  if (process === undefined) throw new Error(`${nodeId} does not run`);
  const { clusterId, region, zone } = process.node.options;
  const listeners = { grpc: { host: nodeId, port: 1 }, fabric: { host: nodeId, port: 2 } };
  const facts = { nodeId, name: undefined, roles: [], resources: [], labels: {}, dnsZones: [], listeners };
  const place = { nodeId, clusterId, region, zone, tenantId: "", receivedWallMs: 0 };
  const stamped = process.stamper.entryOfNode(nodeEntry(facts), place);
  process.registrar.register(caller("ann"), command([stamped], { isStatic: true }), process.time());
  process.arm();
}

test("a cluster that named nobody who takes calls says once, and soon, that somebody does", () => {
  const regions = new Regions("ingress", { eu: { eu1: 1 }, us: { us1: 1 } }, { summary: { ttlMs: 90_000 } });
  const beacon = () => regions.node("us1-a").process?.rooms.regions?.held.beaconOf("eu1");
  regions.start();
  regions.look(20_000, () => (beacon()?.ingress.length === 0 ? [] : ["no empty beacon came"]));
  regions.at(20_000, () => publish(regions, "eu1-a"));
  regions.look(21_000, () => (beacon()?.ingress[0]?.urls.join() === "grpc://eu1-a:1" ? [] : ["the ingress is not known"]));
  let version: number | undefined;
  regions.at(21_000, () => {
    version = beacon()?.version;
  });
  regions.look(28_000, () => (beacon()?.version === version ? [] : ["it is said again"]));
  expect(regions.run(28_100)).toEqual([]);
});
