/** Entries that a node may hold, and for which a summary or a beacon has no room: they end no exporter, and the rest is told. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type StampedEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { nodeEntry } from "../../src/services/node-entry.ts";
import { caller, command, WIDEST_STAMPER } from "../fakes/registry.ts";
import { Regions } from "./regions/world.ts";

const PLACE = { nodeId: "eu1-a", clusterId: "eu1", region: "eu", zone: "z1", tenantId: "", receivedWallMs: 0 };
const LONG = { namespace: `svc.${"n".repeat(60)}.${"n".repeat(60)}.${"n".repeat(60)}.${"n".repeat(52)}`, name: "x".repeat(1000) };
const LISTENERS = { grpc: { host: "eu1-a", port: 1 } };
const FACTS = { nodeId: "eu1-a", name: undefined, resources: [], labels: {}, dnsZones: [], listeners: LISTENERS };

function register(regions: Regions, entry: StampedEntry): void {
  const { process } = regions.node("eu1-a");
  if (process === undefined) throw new Error("eu1-a does not run");
  process.registrar.register(caller("ann"), command([entry], { isStatic: true }), process.time());
  process.arm();
}

/** Two regions, of which the other one says what it sees in the end. */
function seen(entries: readonly StampedEntry[]) {
  const regions = new Regions("bounds", { eu: { eu1: 1 }, us: { us1: 1 } });
  regions.start();
  regions.at(8000, () => {
    for (const entry of entries) register(regions, entry);
  });
  regions.at(8500, () => regions.put("eu1-a", "cart"));
  expect(regions.run(30_000)).toEqual([]);
  const shown = [...(regions.shown("us1-a") ?? [])].filter(([, { isStale }]) => !isStale).map(([name]) => name);
  return { shown, ingress: regions.node("us1-a").process?.rooms.regions?.held.beaconOf("eu1")?.ingress };
}

test("the longest names that any node can be set to allow are told to other regions", () => {
  const key = create(EntryKeySchema, { ...LONG, instanceId: "1" });
  const { shown } = seen([WIDEST_STAMPER.entryOf(create(EntrySchema, { key, scope: SCOPE.GLOBAL }), 0, PLACE)]);
  expect(shown).toEqual(["eu1 svc/cart", `eu1 ${LONG.namespace}/${LONG.name}`]);
});

test("a node with more urls, roles and tags than a beacon has room for is named with what there is room for", () => {
  const roles = ["ingress", ...Array.from({ length: 70 }, (_, i) => `role-${i}`)];
  const entry = nodeEntry({ ...FACTS, roles });
  const urls = Array.from({ length: 9 }, (_, i) => `grpc://eu1-a:${i + 1}`);
  const long = `grpc://${"h".repeat(600)}:1`;
  if (entry.detail.case === "node") entry.detail.value.advertisedUrls = ["no url", long, ...urls];
  entry.tags = ["t".repeat(200), "edge"];
  const { shown, ingress } = seen([WIDEST_STAMPER.entryOfNode(entry, PLACE)]);
  expect(shown).toEqual(["eu1 svc/cart"]);
  expect(ingress).toEqual([{ urls: urls.slice(0, 8), scope: SCOPE.REGION, capabilities: roles.slice(0, 64), tags: ["edge"] }]);
});
