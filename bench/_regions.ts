/** Regions as real nodes: clusters of them, with every byte between regions late by a fixed time. */
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type HeldPort, heldPort, type Node, scratchDir, startNode } from "./_processes.ts";

export interface RegionShape {
  readonly regions: readonly string[];
  readonly clusters: number;
  readonly nodes: number;
  /** One way. */
  readonly delayMs: number;
}

/** Nodes of a cluster that have border links; all of them have the signing key. */
const BORDER_NODES = 2;

export interface RegionNode {
  readonly region: string;
  readonly cluster: string;
  readonly node: Node;
}

/** A connection between two regions. */
export interface BorderLink {
  /** What TCP carried in both directions so far, without its own heads. */
  readonly bytes: number;
}

interface Place {
  readonly id: string;
  readonly region: string;
  readonly cluster: string;
  /** Others are told it before the node starts, which many listeners do meanwhile that take any port. */
  readonly fabricPort: HeldPort;
  /** Where other regions find it, late; undefined of a node without border links. */
  readonly farAddress: string | undefined;
}

export class Regions {
  readonly #home = scratchDir("regions");
  readonly #relays: Server[] = [];
  readonly #links = new Set<{ bytes: number }>();
  readonly #shape: RegionShape;
  readonly nodes = new Map<string, RegionNode>();
  #places: readonly Place[] = [];
  #keys: readonly object[] = [];

  private constructor(shape: RegionShape) {
    this.#shape = shape;
  }

  /** Starts all nodes, region by region: `eu1-a` is the first of the first cluster of `eu`. */
  static async start(shape: RegionShape): Promise<Regions> {
    const made = new Regions(shape);
    const clusters = shape.regions.flatMap((region) =>
      Array.from({ length: shape.clusters }, (_, i) => ({ region, cluster: `${region}${i + 1}` })),
    );
    made.#keys = clusters.map((each) => made.#keyOf(each));
    const places: Place[] = [];
    for (const each of clusters)
      for (let i = 0; i < shape.nodes; i++) {
        const fabricPort = await heldPort();
        const farAddress = i < BORDER_NODES ? await made.#late(fabricPort.port) : undefined;
        places.push({ ...each, id: `${each.cluster}-${String.fromCharCode(97 + i)}`, fabricPort, farAddress });
      }
    made.#places = places;
    for (const { id } of places) await made.startNode(id);
    return made;
  }

  async startNode(id: string): Promise<void> {
    const place = this.#places.find((each) => each.id === id);
    if (place === undefined) throw new Error(`there is no node ${id}`);
    const { region, cluster, fabricPort } = place;
    const file = this.#file(`${id}.json`, JSON.stringify(this.#settings(place)));
    const at = ["--node-id", id, "--cluster-id", cluster, "--region", region, "--fabric-port", String(fabricPort.port), "--config", file];
    await fabricPort.release();
    const node = await startNode({ dataDir: join(this.#home, `data-${id}`), isFree: true, isPlain: true, args: at });
    this.nodes.set(id, { region, cluster, node });
  }

  /** Those that are open. */
  get links(): ReadonlySet<BorderLink> {
    return this.#links;
  }

  of(region: string): readonly RegionNode[] {
    return [...this.nodes.values()].filter((each) => each.region === region);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.nodes.values()].map(({ node }) => node.stop("SIGKILL")));
    for (const relay of this.#relays) relay.close();
  }

  #settings({ id, region, cluster, farAddress }: Place): object {
    const here = this.#places.filter((each) => each.region === region);
    const away = Map.groupBy(
      this.#places.filter((each) => each.region !== region && each.farAddress !== undefined),
      (each) => each.cluster,
    );
    const borders = [...away].map(([other, nodes]) => ({
      cluster_id: other,
      region: nodes[0]?.region,
      addresses: nodes.map((each) => each.farAddress),
      trust: { token_file: this.#token(cluster, other) },
    }));
    return {
      fabric: {
        cluster_token_file: this.#token(region),
        trust: "explicit",
        clusters: [...new Set(here.map((each) => each.cluster))].filter((each) => each !== cluster),
        seeds: here.filter((each) => each.id !== id).map(({ fabricPort }) => `127.0.0.1:${fabricPort.port}`),
        borders: farAddress === undefined ? [] : borders,
      },
      summary: { signing_key_file: join(this.#home, `${cluster}.key`), keys: this.#keys },
    };
  }

  #keyOf({ region, cluster }: Pick<Place, "cluster" | "region">): object {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    this.#file(`${cluster}.key`, privateKey.export({ type: "pkcs8", format: "pem" }).toString());
    const text = publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64");
    return { cluster_id: cluster, region, public_key: text };
  }

  #token(...of: readonly string[]): string {
    const name = of.toSorted().join("-");
    return this.#file(`${name}.token`, `the-token-of-${name}-and-nobody-else\n`);
  }

  #file(name: string, content: string): string {
    const path = join(this.#home, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  /** The address of a relay to a port of this machine. */
  async #late(port: number): Promise<string> {
    const relay = createServer({ noDelay: true }, (near) => {
      const far = connect({ host: "127.0.0.1", port, noDelay: true });
      const link = { bytes: 0 };
      this.#links.add(link);
      near.once("close", () => this.#links.delete(link));
      passLate(near, far, { delayMs: this.#shape.delayMs, link });
      passLate(far, near, { delayMs: this.#shape.delayMs, link });
    });
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    this.#relays.push(relay);
    const address = relay.address();
    return `127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
  }
}

/** In the order in which it came. */
function passLate(from: Socket, to: Socket, { delayMs, link }: { readonly delayMs: number; readonly link: { bytes: number } }): void {
  from.on("data", (bytes: Buffer) => {
    link.bytes += bytes.length;
    setTimeout(() => to.write(bytes), delayMs);
  });
  from.on("error", () => {});
  from.once("close", () => setTimeout(() => to.destroy(), delayMs));
}
