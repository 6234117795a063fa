/** Real nodes of several regions, each with a cluster of its own, a signing key and border links through relays. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { GrpcDoor } from "./node.ts";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";
import { Relay } from "./relay.ts";

/** Fast enough for a test; `ttl` is twice the least that is allowed, for machines that others use too. */
export interface RegionTimes {
  readonly hold_down: string;
  readonly ttl: string;
  readonly stale_keep: string;
  readonly export_interval: string;
}

export class RegionFleet implements AsyncDisposable {
  readonly home = mkdtempSync(join(tmpdir(), "waymark-fleet-"));
  /** Region to its node; the cluster of `eu` is `eu1`, and its node `eu1-a`. */
  readonly nodes = new Map<string, NodeProcess>();
  /** Way between two regions, the opener first: `ap>eu`. */
  readonly relays = new Map<string, Relay>();
  readonly #regions: readonly string[];
  readonly #times: RegionTimes;
  readonly #keys: ReadonlyMap<string, JsonObject>;

  private constructor(regions: readonly string[], times: RegionTimes) {
    this.#regions = regions;
    this.#times = times;
    this.#keys = new Map(regions.map((region) => [region, this.#keyOf(region)]));
  }

  /** Starts one node a region, and a link between each two of them. The region with the smaller name opens it. */
  static async start(regions: readonly string[], times: RegionTimes): Promise<RegionFleet> {
    const fleet = new RegionFleet(regions, times);
    try {
      for (const region of regions.toSorted().toReversed()) await fleet.#startNode(region);
    } catch (error) {
      await fleet[Symbol.asyncDispose]();
      throw error;
    }
    return fleet;
  }

  file(name: string, content: string): string {
    const path = join(this.home, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  node(region: string): NodeProcess {
    const node = this.nodes.get(region);
    if (node === undefined) throw new Error(`no node in ${region}`);
    return node;
  }

  /** All relays of a region. */
  relaysOf(region: string): readonly Relay[] {
    return [...this.relays].filter(([name]) => name.split(">").includes(region)).map(([, relay]) => relay);
  }

  /** Whether the region opens the links that go by this relay. */
  isOpener(region: string, relay: Relay): boolean {
    return [...this.relays].some(([name, each]) => each === relay && name.startsWith(`${region}>`));
  }

  /** Ends the region's node, and starts it again with its data. */
  async restart(region: string): Promise<void> {
    await this.node(region).stop();
    await this.#startNode(region);
    for (const [name, relay] of this.relays) if (name.endsWith(`>${region}`)) relay.target = this.node(region).listeners["fabric"] ?? "";
  }

  dataDir(region: string): string {
    return join(this.home, `data-${region}`);
  }

  async #startNode(region: string): Promise<void> {
    const borders: JsonObject[] = [];
    for (const other of this.#regions.filter((each) => each !== region)) {
      const border = { cluster_id: `${other}1`, region: other, trust: { token_file: this.#tokenOf(region, other) } };
      borders.push(region < other ? { ...border, addresses: [await this.#relayTo(region, other)] } : border);
    }
    const config = {
      fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s", cluster_token_file: this.#tokenOf(region), borders },
      summary: { ...this.#times, signing_key_file: join(this.home, `${region}1.key`), keys: [...this.#keys.values()] },
      observability: { log_level: "info" },
    };
    const file = this.file(`${region}.json`, JSON.stringify(config));
    const flags = [
      "--node-id",
      `${region}1-a`,
      "--cluster-id",
      `${region}1`,
      "--region",
      region,
      "--data-dir",
      this.dataDir(region),
      "--on-stop",
      "keep",
    ];
    this.nodes.set(region, await startNodeProcess([...flags, "--config", file]));
  }

  /** A resolver that reads the node of a region, and follows the summaries that it holds. To be disposed of by the caller. */
  startResolver(region: string): Promise<NodeProcess> {
    const summary = { ...this.#times, resolver_scopes: ["global"], keys: [...this.#keys.values()] };
    const { hold_down: _, export_interval: __, ...followed } = summary;
    const file = this.file(`${region}-resolver.json`, JSON.stringify({ summary: followed }));
    const place = ["--cluster-id", `${region}1`, "--region", region, "--node-id", `${region}1-r`, "--ephemeral"];
    return startNodeProcess(["--mode", "resolver", "--upstream", this.node(region).grpc, ...place, "--config", file]);
  }

  /** Of a cluster, or of the border of two. No two may have the same. */
  #tokenOf(...pair: readonly string[]): string {
    const name = pair.toSorted().join("-");
    return this.file(`${name}.token`, `the-token-of-${name}-and-nobody-else\n`);
  }

  async #relayTo(region: string, other: string): Promise<string> {
    const name = `${region}>${other}`;
    const relay = this.relays.get(name) ?? (await Relay.to(this.node(other).listeners["fabric"] ?? ""));
    this.relays.set(name, relay);
    return relay.address;
  }

  #keyOf(region: string): JsonObject {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    this.file(`${region}1.key`, privateKey.export({ type: "pkcs8", format: "pem" }).toString());
    const publicText = publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64");
    return { cluster_id: `${region}1`, region, public_key: publicText };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.nodes.values()].map((node) => node[Symbol.asyncDispose]()));
    await Promise.all([...this.relays.values()].map((relay) => relay[Symbol.asyncDispose]()));
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** A GLOBAL summary as a node shows it. */
export interface SummarySeen {
  readonly sourceCluster: string;
  readonly namespace: string;
  readonly serviceId: string;
  readonly generatedAt: string;
  readonly endpointCount?: number;
  readonly healthBand?: string;
  readonly version?: string;
  readonly stale?: boolean;
}

export async function summariesIn(node: NodeProcess, namespacePrefix = ""): Promise<readonly SummarySeen[]> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("summaryQuery", { scope: "SCOPE_GLOBAL", namespacePrefix, limit: 1000 });
  return (response as { readonly items?: readonly SummarySeen[] }).items ?? [];
}
