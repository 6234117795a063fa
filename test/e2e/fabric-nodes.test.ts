/** Whole fabrics over real sockets: nodes find each other by a seed and replicate; impostors do not get in. */
import { create } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper, finishEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { HEALTH, KIND } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { Fabric } from "../../src/fabric/fabric.ts";
import type { FabricEvent } from "../../src/fabric/io-types.ts";
import type { FabricTls } from "../../src/fabric/transport/peer-identity.io.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import { Rng } from "../../src/lib/rng.ts";
import type { CoreDriver } from "../../src/node/core-driver.io.ts";
import { driverOf, stop } from "../fakes/core-driver.ts";
import { FabricMachine } from "../fakes/fabric-machine.ts";
import { FabricAuthority } from "../fakes/fabric-transport.ts";
import { BOUNDS, FABRIC_OPTIONS } from "../fakes/options.ts";
import { until } from "../fakes/until.ts";

interface Spec {
  readonly nodeId: string;
  readonly seeds?: readonly string[];
  readonly tls?: FabricTls;
  readonly clusterToken?: string;
}

class RealNode {
  readonly replica: Replica;
  readonly fabric: Fabric;
  readonly events: FabricEvent[] = [];
  readonly #spec: Spec;
  readonly #stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(64) });
  readonly #hlc = new Hlc();
  readonly #machine: FabricMachine;
  driver: CoreDriver | undefined;

  constructor(spec: Spec) {
    this.#spec = spec;
    const origin = { nodeId: spec.nodeId, generation: 1, lastSeq: 0, floor: 0 };
    this.replica = new Replica(new EntryIndex(), new Slab(), { ...origin, tombstoneTtlMs: 3_600_000, minTombstones: 1_000 });
    this.fabric = new Fabric(FABRIC_OPTIONS, {
      self: this.#facts("127.0.0.1:1"),
      replica: this.replica,
      stamper: this.#stamper,
      bounds: BOUNDS,
      hlc: this.#hlc,
      rng: new Rng(spec.nodeId),
      seeds: spec.seeds ?? [],
      clusterToken: spec.clusterToken ?? "",
      isInsecure: false,
      asOfMonoMs: performance.now(),
    });
    this.#machine = new FabricMachine(this.fabric, () => this.#facts(this.address));
  }

  async start(): Promise<void> {
    const { tls, clusterToken = "" } = this.#spec;
    const driver = driverOf(this.#machine, (told) => {
      if (told.kind === "event") this.events.push(told.event);
    });
    this.driver = driver;
    const transport = { host: "127.0.0.1", port: 0, tls, isInsecure: false, clusterToken, onCut: () => {} };
    await driver.open(transport);
    driver.begin();
  }

  get address(): string {
    return this.driver?.address ?? "";
  }

  put(name: string): void {
    const { nodeId } = this.#spec;
    const entry = create(EntrySchema, { scope: SCOPE.ZONE, health: HEALTH.HEALTHY });
    entry.key = create(EntryKeySchema, { kind: KIND.SERVICE, namespace: "svc", name, instanceId: "1" });
    const place = { nodeId, clusterId: "c1", region: "eu", zone: "z1", tenantId: "", receivedWallMs: 0 };
    const stamped = this.#stamper.entryOf(entry, 0, place);
    const time = { monoMs: performance.now(), wallMs: Date.now() };
    const { namespace, kind, health, traits, key, scope } = stamped;
    const bytes = finishEntry(stamped.content, { registeredWallMs: 1, updatedWallMs: time.wallMs, load: undefined });
    const fields = { key, namespace, name, kind, scope, health, traits, hlc: this.#hlc.stamp(time.wallMs), bytes };
    this.replica.stagePut({ ...fields, isFilterChange: true, principal: "p", contentBytes: stamped.content.length });
    this.replica.commit(this.replica.lastSeq, time);
    this.driver?.input({ kind: "tick" });
  }

  names(): readonly string[] {
    const names: string[] = [];
    const cursor = this.replica.lookup.cursor();
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) names.push(record.name);
    return names.toSorted();
  }

  upLinks(): readonly string[] {
    return this.fabric
      .links()
      .filter(({ state }) => state === "up")
      .map(({ nodeId }) => nodeId)
      .toSorted();
  }

  #facts(address: string) {
    const { nodeId } = this.#spec;
    const place = { clusterId: "c1", region: "eu", zone: "z1", version: "1", healthScore: 0 };
    return { nodeId, generation: 1, address, ...place, protocolVersions: [2], transports: ["h2"], roles: [], labels: {} };
  }
}

const nodes: RealNode[] = [];

afterEach(async () => {
  await Promise.all(nodes.splice(0).map(async (node) => (node.driver === undefined ? undefined : stop(node.driver, "keep", 1_000))));
});

async function started(spec: Spec): Promise<RealNode> {
  const node = new RealNode(spec);
  nodes.push(node);
  await node.start();
  return node;
}

test("five nodes find each other by one seed, replicate to all, and hear of a farewell", async () => {
  const authority = new FabricAuthority();
  const seed = await started({ nodeId: "n0", tls: authority.issue("n0") });
  for (let i = 1; i < 5; i++) await started({ nodeId: `n${i}`, seeds: [seed.address], tls: authority.issue(`n${i}`) });
  await until("all are linked to all", () => nodes.every((node) => node.upLinks().length === 4));
  for (const [i, node] of nodes.entries()) node.put(`web${i}`);
  const wanted = ["web0", "web1", "web2", "web3", "web4"];
  await until("all know all", () => nodes.every((node) => node.names().length === 5));
  expect(nodes.map((node) => node.names())).toEqual(nodes.map(() => wanted));
  const gone = nodes.pop();
  if (gone?.driver !== undefined) await stop(gone.driver, "leave", 2_000);
  await until("the others know who left", () => nodes.every((node) => node.fabric.membership.find("n4")?.status === "left"));
  // Who left is known by gossip too, before the link to it has closed.
  await until("and have no link to it", () => nodes.every((node) => node.upLinks().length === 3));
});

test("with another cluster token nobody gets in, and the node that was asked says so", async () => {
  const a = await started({ nodeId: "a", clusterToken: "the-right-token-0" });
  const b = await started({ nodeId: "b", clusterToken: "another-token-000", seeds: [a.address] });
  await until("told", () => a.events.some(({ isAudited }) => isAudited));
  expect(JSON.stringify(a.events)).toContain("token");
  expect([a.upLinks(), b.upLinks(), a.fabric.membership.find("b")]).toEqual([[], [], undefined]);
  expect(JSON.stringify([...a.events, ...b.events])).not.toMatch(/the-right-token-0|another-token-000/);
});

test("with another node's certificate nobody gets in, and the node that was asked says so", async () => {
  const authority = new FabricAuthority();
  const a = await started({ nodeId: "a", tls: authority.issue("a") });
  const b = await started({ nodeId: "b", tls: authority.issue("c"), seeds: [a.address] });
  await until("told", () => a.events.some(({ isAudited }) => isAudited));
  expect(JSON.stringify(a.events)).toContain("its certificate is for node c");
  expect([a.upLinks(), b.upLinks(), a.fabric.membership.find("b")]).toEqual([[], [], undefined]);
});
